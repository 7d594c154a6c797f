"""Brute force: the answer for small galleries and small filters, and the oracle for the rest."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer import telemetry
from visagedb_indexer.errors import DeadlineExceededError
from visagedb_indexer.search.faces_table import FacesView
from visagedb_indexer.search.grouping import NOTHING, group
from visagedb_indexer.search.protocol import Hit, SearchRequest, VectorView
from visagedb_indexer.telemetry import Measure
from visagedb_indexer.values import Vector

_SCORES_MAX: Final = 1 << 24
"""Scores held at once when several probes share one scan: 64 MiB."""
_GATHERED_BYTES: Final = 1 << 20
"""Rows are gathered so many bytes at a time: a part that fits into the cache of a core."""
_WIDENING: Final = 4


def check_deadline(deadline: float | None) -> None:
    """Gives up work that nobody waits for any more.

    Raises:
        DeadlineExceededError: The deadline has passed.
    """
    if deadline is not None and time.monotonic() > deadline:
        raise DeadlineExceededError("the deadline passed during the search")


def check_waiting(requests: Iterable[SearchRequest]) -> None:
    """Gives up work once nobody waits for any of the answers any more.

    Raises:
        DeadlineExceededError: The deadlines have passed.
        CancelledError: The callers have gone.
    """
    last: SearchRequest | None = None
    now = time.monotonic()
    for last in requests:
        in_time = last.deadline is None or last.deadline > now
        if in_time and not last.caller.cancelled:
            return
    if last is not None:
        last.caller.check()
        check_deadline(last.deadline)


def scan(
    view: VectorView,
    probes: Vector,
    start: int,
    stop: int,
    check: Callable[[], None] = lambda: None,
) -> NDArray[np.float32]:
    """Scores of all ordinals from `start` to `stop`.

    Args:
        view: The stored vectors.
        probes: Shape (n, dimension); they share the reading of the vectors.
        start: First ordinal.
        stop: Behind the last.
        check: Called now and then; what it raises ends the scan.

    Returns:
        Shape (n, stop - start), float32.
    """
    scores = np.empty((len(probes), stop - start), dtype=np.float32)
    lone = probes[0] if len(probes) == 1 else None
    for first, rows in view.vector_blocks(start):
        if first >= stop:
            break
        check()
        low, high = max(first, start), min(first + len(rows), stop)
        part, place = rows[low - first : high - first], slice(low - start, high - start)
        if lone is None:
            scores[:, place] = probes @ part.T
        else:
            np.matmul(part, lone, out=scores[0, place])
    return scores


def score_rows(view: VectorView, ordinals: NDArray[np.int64], probe: Vector) -> Vector:
    """Scores of some ordinals, shape (len(ordinals),), float32."""
    rows = max(1, _GATHERED_BYTES // (4 * len(probe)))
    if len(ordinals) <= rows:
        return view.vectors(ordinals) @ probe
    parts = [
        view.vectors(ordinals[start : start + rows]) @ probe
        for start in range(0, len(ordinals), rows)
    ]
    return np.concatenate(parts)


def search_exact(
    view: VectorView, faces: FacesView, requests: Sequence[SearchRequest]
) -> list[list[Hit]]:
    """The answers to some requests by comparing with every stored vector.

    Raises:
        DeadlineExceededError: Nobody waits for any of the answers any more.
        CancelledError: Likewise.
    """
    answers: list[list[Hit]] = []
    for some in _groups(requests, max(1, _SCORES_MAX // max(1, faces.count))):
        probes = np.stack([request.vector for request in some])
        with telemetry.timed(Measure.SEARCH_SCAN):
            scores = scan(view, probes, 0, faces.count, partial(check_waiting, some))
        for request, own in zip(some, scores, strict=True):
            own[~faces.passing(request.allowed, request.scope)] = NOTHING
            answers.append(_ranked(faces, own, request))
    return answers


def search_rows(
    view: VectorView, faces: FacesView, ordinals: NDArray[np.int64], request: SearchRequest
) -> list[Hit]:
    """The answer to a request by comparing with some of the stored vectors."""
    return group(faces, ordinals, score_rows(view, ordinals, request.vector), request)


def top(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Positions of the `count` highest scores, highest first, ties by position."""
    if count < len(scores):
        edge = np.partition(scores, len(scores) - count)[len(scores) - count]
        # Everything level with the edge takes part, so that ties fall by position.
        chosen = np.flatnonzero(scores >= edge)
    else:
        chosen = np.arange(len(scores))
    order = np.lexsort((chosen, -scores[chosen]))
    result: NDArray[np.int64] = chosen[order][:count]
    return result


def _ranked(faces: FacesView, scores: NDArray[np.float32], request: SearchRequest) -> list[Hit]:
    wanted = _WIDENING * request.top_k
    while True:
        best = top(scores, wanted)
        hits = group(faces, best, scores[best], request)
        low_enough = request.min_score is not None and (
            len(best) and scores[best[-1]] < request.min_score
        )
        if len(hits) >= request.top_k or wanted >= faces.count or low_enough:
            return hits
        wanted *= _WIDENING


def _groups(requests: Sequence[SearchRequest], size: int) -> Iterator[Sequence[SearchRequest]]:
    for start in range(0, len(requests), size):
        yield requests[start : start + size]
