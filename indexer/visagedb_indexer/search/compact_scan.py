"""Answers from the codes: the best rows of the compact scan, rescored exactly.

Requests that come together share one scan. A filter is applied to the rows that the scan
finds, so the scan is asked for more rows, the fewer faces pass: rows are cheap to find, and
a bitmap under the scan would cost several times as much. Where so few pass that comparing
with all of them is less work, that is done instead.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer import limits, telemetry
from visagedb_indexer.search.compact_index import CompactIndex
from visagedb_indexer.search.exact import (
    check_waiting,
    scan,
    score_rows,
    search_exact,
    search_rows,
    top,
)
from visagedb_indexer.search.faces_table import FacesTable, FacesView
from visagedb_indexer.search.grouping import NOTHING, group
from visagedb_indexer.search.protocol import Hit, SearchRequest, VectorView
from visagedb_indexer.telemetry import Measure
from visagedb_indexer.values import FaceScope, Vector

_WIDENING: Final = 4
_FILTERED_EFFORT_MIN: Final = 200
_MARGIN: Final = 1.25
"""More rows than should be needed for a filter, so that a second scan is seldom needed."""

Scan: TypeAlias = Callable[[Vector, int], NDArray[np.int64]]
"""Finds rows for rotated probes: see `CompactIndex.search`."""


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """What a compact search works with.

    Attributes:
        index: The codes.
        scan: Searches them.
        effort: Rows to rescore.
        table: All faces.
        faces: Those of this moment.
        view: The stored vectors.
    """

    index: CompactIndex
    scan: Scan
    effort: int
    table: FacesTable
    faces: FacesView
    view: VectorView


@dataclass(slots=True, eq=False)
class _Search:
    """A request on its way.

    Attributes:
        place: Of the request in its batch.
        filtered: Whether some faces may not be returned.
        rescored: Rows to rescore.
        wanted: Rows to ask of the scan.
        tail: Scores of the newest faces, which are in no code yet.
    """

    place: int
    request: SearchRequest
    filtered: bool
    rescored: int
    wanted: int
    tail: NDArray[np.float32]


def search_compact(codes: Codes, requests: Sequence[SearchRequest]) -> list[list[Hit]]:
    """Answers some requests, each with distinct identities, best first.

    Raises:
        DeadlineExceededError: Nobody waits for any of the answers any more.
        CancelledError: Likewise.
    """
    answers: list[list[Hit]] = [[] for _ in requests]
    large = []
    for place, request in enumerate(requests):
        few = _few_passing(codes, request)
        if few is None:
            large.append((place, request))
        else:
            answers[place] = search_rows(codes.view, codes.faces, few, request)
    pending = _begun(codes, large)
    while pending:
        check_waiting(search.request for search in pending)
        unfinished = []
        for together in _alike(pending):
            with telemetry.timed(Measure.SEARCH_SCAN):
                found = _scanned(codes, together)
            for search, rows in zip(together, found, strict=True):
                with telemetry.timed(Measure.SEARCH_RESCORE):
                    hits = _rescored(codes, search, rows[: search.wanted])
                if hits is not None:
                    answers[search.place] = hits
                elif search.wanted < codes.faces.count // _WIDENING:
                    unfinished.append(search)
                else:
                    exact = search_exact(codes.view, codes.faces, [search.request])
                    [answers[search.place]] = exact
        pending = unfinished
    return answers


def _alike(searches: Sequence[_Search]) -> list[list[_Search]]:
    """Searches that want about as many rows: whoever wants few need not pay for many."""
    groups: dict[int, list[_Search]] = {}
    for search in searches:
        groups.setdefault(search.wanted.bit_length(), []).append(search)
    return list(groups.values())


def _scanned(codes: Codes, searches: Sequence[_Search]) -> NDArray[np.int64]:
    probes = np.stack([search.request.vector for search in searches])
    most = max(search.wanted for search in searches)
    return codes.scan(codes.index.codec.rotate(probes), most)


def _few_passing(codes: Codes, request: SearchRequest) -> NDArray[np.int64] | None:
    """The faces that may be returned, if they are few enough to be compared with one by one."""
    most = limits.FILTERED_EXACT_ROWS_MAX
    if request.allowed is None:
        if _share(codes.table, request) * codes.table.live_count > most:
            return None
        return np.flatnonzero(codes.faces.passing(None, request.scope))
    if np.count_nonzero(request.allowed) > most:
        return None
    return codes.table.ordinals_of(np.flatnonzero(request.allowed), codes.faces, most)


def _filtered(table: FacesTable, request: SearchRequest) -> bool:
    """Whether a request leaves out some of the faces that exist."""
    everybody = request.scope is FaceScope.ALL or (
        request.scope is FaceScope.IDENTITIES and not table.loose_count
    )
    return request.allowed is not None or not everybody


def _share(table: FacesTable, request: SearchRequest) -> float:
    """About which part of the faces may be returned; more than nothing."""
    live = max(1, table.live_count)
    share = 1.0
    if request.scope is FaceScope.LOOSE:
        share = table.loose_count / live
    elif request.scope is FaceScope.IDENTITIES:
        share = 1.0 - table.loose_count / live
    if request.allowed is not None:
        share *= np.count_nonzero(request.allowed) / max(1, table.number_count)
    return min(1.0, max(share, 1 / live))


def _begun(codes: Codes, requests: Sequence[tuple[int, SearchRequest]]) -> list[_Search]:
    if not requests:
        return []
    start, faces = codes.index.indexed, codes.faces
    tails = np.empty((len(requests), 0), dtype=np.float32)
    if start < faces.count:
        probes = np.stack([request.vector for _, request in requests])
        check = partial(check_waiting, [request for _, request in requests])
        tails = scan(codes.view, probes, start, faces.count, check)
    begun = []
    for (place, request), tail in zip(requests, tails, strict=True):
        if len(tail):
            newest = FacesView(faces.owners[start:])
            tail[~newest.passing(request.allowed, request.scope)] = NOTHING
        filtered = _filtered(codes.table, request)
        share = _share(codes.table, request)
        # A filter takes as many of those before the mate as of all others.
        effort = max(min(codes.effort, _FILTERED_EFFORT_MIN), math.ceil(share * codes.effort))
        rescored = max(effort, _WIDENING * request.top_k)
        wanted = math.ceil(_MARGIN * rescored / share) if filtered else rescored
        begun.append(_Search(place, request, filtered, rescored, wanted, tail))
    return begun


def _rescored(codes: Codes, search: _Search, rows: NDArray[np.int64]) -> list[Hit] | None:
    """The answer from the rows that the scan has found; None if they are too few for one."""
    request, faces = search.request, codes.faces
    if search.filtered:
        rows = rows[FacesView(faces.owners[rows]).passing(request.allowed, request.scope)]
    rows = rows[: search.rescored]
    scores = score_rows(codes.view, rows, request.vector)
    low_enough = request.min_score is not None and (
        len(scores) > 0 and float(scores.min()) < request.min_score
    )
    enough = 2 * len(rows) >= search.rescored
    if len(search.tail):
        newest = top(search.tail, search.rescored)
        rows = np.concatenate([rows, newest + codes.index.indexed])
        scores = np.concatenate([scores, search.tail[newest]])
    hits = group(faces, rows, scores, request)
    if (enough and len(hits) >= request.top_k) or low_enough:
        return hits
    if enough:
        # The best rows are of too few people.
        search.rescored *= _WIDENING
    search.wanted *= _WIDENING
    return None
