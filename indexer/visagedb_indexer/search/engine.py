"""Search over one gallery: compact scan of everything, exact rescoring, grouping by identity.

Ordinals below `indexed` are in the codes; the rest, the newest faces, are scanned
exactly. A small gallery has no codes, and then everything is the newest. That one rule
gives read-your-writes without ever making an enrolment wait for an index.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer import limits
from visagedb_indexer.search.audit import Audit
from visagedb_indexer.search.builder import IndexBuilder
from visagedb_indexer.search.compact_index import CompactIndex
from visagedb_indexer.search.exact import check_deadline, scan, top
from visagedb_indexer.search.faces_table import LOOSE, NO_OWNER, FacesTable, FacesView
from visagedb_indexer.search.protocol import (
    Hit,
    SearchRequest,
    VectorSource,
    VectorView,
)
from visagedb_indexer.search.snapshot import SnapshotFile
from visagedb_indexer.values import FaceScope

_RESCORED_UNAUDITED: Final = 200
_RESCORED_UNAUDITED_PER_MILLION: Final = 33
_WIDENING: Final = 4
_NOTHING: Final = -np.inf


class EngineState(StrEnum):
    """How searches are answered at this moment."""

    EXACT = "exact"
    BUILDING = "building"
    COMPACT = "compact"


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The state of the search structures; memory in bytes, progress from 0 to 1.

    `audit` is None while no loss has been measured.
    """

    state: EngineState
    build_progress: float
    segment_count: int
    indexed_face_count: int
    tombstone_count: int
    code_bytes_per_face: int
    rescored_candidates: int
    index_generation: int
    memory_bytes: int
    audit: Audit | None


class SearchEngine:
    """The search structures of one gallery.

    Writes (`add`, `remove`) come from one thread; searches from any number.

    Args:
        dimension: Length of the vectors.
        source: The stored vectors.
        owners: Identity number by ordinal, -1 where deleted; shape (n,), int32.
        snapshot: Where the codes are kept over a restart; None keeps them nowhere.
    """

    def __init__(
        self,
        dimension: int,
        source: VectorSource,
        owners: NDArray[np.int32],
        snapshot: SnapshotFile | None = None,
    ) -> None:
        self._source = source
        self._table = FacesTable(owners)
        self._builder = IndexBuilder(dimension, source, self._table, snapshot)
        self._builder.notice()

    def add(self, ordinal: int, number: int) -> None:
        """Makes a stored face searchable."""
        self._table.add(ordinal, number)
        self._builder.notice()

    def remove(self, ordinals: Sequence[int]) -> None:
        """Hides faces from every search that starts later."""
        for ordinal in ordinals:
            self._table.remove(ordinal)
        self._builder.forget(ordinals)

    def reassign(self, moved: Iterable[tuple[int, int]]) -> None:
        """Gives faces, by ordinal, to other identities, by number; codes and vectors stay."""
        self._table.reassign(moved)

    def search(self, request: SearchRequest) -> list[Hit]:
        """Distinct identities, best first, ties by age of the face.

        Never fewer than `top_k`, unless the gallery (after the filter and the minimum
        score) has no more.

        Raises:
            DeadlineExceededError: The deadline passed before the answer was there.
        """
        check_deadline(request.deadline)
        # The index first: then every ordinal below `indexed` is in the faces read after it.
        index = self._builder.index
        faces = self._table.view()
        with self._source.read() as view:
            if request.exact or index is None:
                return _search_exact(view, faces, request)
            return self._search_compact(view, faces, index, request)

    def _search_compact(
        self, view: VectorView, faces: FacesView, index: CompactIndex, request: SearchRequest
    ) -> list[Hit]:
        bitmap = None
        if request.allowed is not None or not self._all_in_scope(request.scope):
            passing = faces.passing(request.allowed, request.scope)
            ordinals = np.flatnonzero(passing)
            if len(ordinals) <= limits.FILTERED_EXACT_ROWS_MAX:
                return _group(faces, ordinals, view.vectors(ordinals) @ request.vector, request)
            bitmap = np.packbits(passing, bitorder="little")
        rotated = index.codec.rotate(request.vector[None, :])
        tail = _scan_tail(view, faces, index.indexed, request)
        wanted = max(self._effort(faces.count), _WIDENING * request.top_k)
        while wanted < faces.count // _WIDENING:
            check_deadline(request.deadline)
            found = index.search(rotated, wanted, bitmap)
            # A face may be in the codes and still in the tail while rows move over.
            found = found[found < index.indexed]
            scores = view.vectors(found) @ request.vector
            ordinals, every = found, scores
            if len(tail):
                newest = top(tail, wanted)
                ordinals = np.concatenate([found, newest + index.indexed])
                every = np.concatenate([scores, tail[newest]])
            hits = _group(faces, ordinals, every, request)
            low_enough = request.min_score is not None and (
                len(scores) and scores.min() < request.min_score
            )
            if len(hits) >= request.top_k or low_enough:
                return hits
            wanted *= _WIDENING
        return _search_exact(view, faces, request)

    def _all_in_scope(self, scope: FaceScope) -> bool:
        """Whether a scope leaves nothing out, so that it need not be looked at."""
        return scope is FaceScope.ALL or (
            scope is FaceScope.IDENTITIES and not self._table.loose_count
        )

    def _effort(self, face_count: int) -> int:
        """Best rows of the compact scan to rescore: what the audit found, in proportion."""
        last = self._builder.audit
        if last is None:
            return _RESCORED_UNAUDITED + _RESCORED_UNAUDITED_PER_MILLION * face_count // 1_000_000
        return math.ceil(last.effort * max(1.0, face_count / max(1, last.face_count)))

    def owners(self, ordinals: NDArray[np.int64]) -> NDArray[np.int64]:
        """The identity numbers of faces; negative for those deleted or loose."""
        owners = self._table.view().owners[ordinals].astype(np.int64)
        owners[owners == LOOSE] = NO_OWNER
        return owners

    def live_ordinals(
        self, allowed: NDArray[np.bool_] | None = None, scope: FaceScope = FaceScope.ALL
    ) -> NDArray[np.int64]:
        """Ordinals of the faces that exist now, are in scope and pass a filter, ascending."""
        return np.flatnonzero(self._table.view().passing(allowed, scope))

    def stats(self) -> EngineStats:
        """The state of the search structures."""
        index = self._builder.index
        state = EngineState.COMPACT if index else EngineState.EXACT
        if self._builder.progress is not None:
            state = EngineState.BUILDING
        count = self._table.view().count
        return EngineStats(
            state=state,
            build_progress=self._builder.progress or 0.0,
            segment_count=len(index.segments) if index else 0,
            indexed_face_count=len(index) if index else 0,
            tombstone_count=self._builder.tombstone_count,
            code_bytes_per_face=index.codec.code_bytes if index else 0,
            rescored_candidates=self._effort(count) if index else 0,
            index_generation=self._builder.generation,
            memory_bytes=4 * count + (sum(s.memory_bytes for s in index.segments) if index else 0),
            audit=self._builder.audit,
        )

    @property
    def generation(self) -> int:
        """Counts the builds of the codes; 0 while every search is exact."""
        return self._builder.generation

    def wait_until_settled(self, timeout: float) -> bool:
        """Waits (seconds) until no background work is due; False when it took too long."""
        return self._builder.settled.wait(timeout)

    def close(self) -> None:
        """Stops the background work."""
        self._builder.close()


def _scan_tail(
    view: VectorView, faces: FacesView, start: int, request: SearchRequest
) -> NDArray[np.float32]:
    """Exact scores of the faces from `start` on; minus infinity where not allowed."""
    if start >= faces.count:
        return np.empty(0, dtype=np.float32)
    scores = scan(view, request.vector, start, faces.count, request.deadline)
    passing = FacesView(faces.owners[start:]).passing(request.allowed, request.scope)
    scores[~passing] = _NOTHING
    return scores


def _search_exact(view: VectorView, faces: FacesView, request: SearchRequest) -> list[Hit]:
    scores = _scan_tail(view, faces, 0, request)
    wanted = _WIDENING * request.top_k
    while True:
        best = top(scores, wanted)
        hits = _group(faces, best, scores[best], request)
        low_enough = request.min_score is not None and (
            len(best) and scores[best[-1]] < request.min_score
        )
        if len(hits) >= request.top_k or wanted >= faces.count or low_enough:
            return hits
        wanted *= _WIDENING


def _group(
    faces: FacesView,
    ordinals: NDArray[np.int64],
    scores: NDArray[np.float32],
    request: SearchRequest,
) -> list[Hit]:
    """The best face of each identity among some faces.

    Owners are read here, last of all: a face deleted in the meantime drops out.
    """
    owners = faces.owners[ordinals]
    kept = FacesView(owners).passing(None, request.scope) & (scores > _NOTHING)
    if request.min_score is not None:
        kept &= scores >= request.min_score
    ordinals, scores, owners = ordinals[kept], scores[kept], owners[kept]
    order = np.lexsort((ordinals, -scores))
    hits: dict[int, Hit] = {}
    rows = zip(
        owners[order].tolist(), ordinals[order].tolist(), scores[order].tolist(), strict=True
    )
    for number, ordinal, score in rows:
        key = ordinal if request.each_face else number
        if key not in hits:
            hits[key] = Hit(number, ordinal, max(-1.0, min(1.0, score)))
            if len(hits) == request.top_k:
                break
    return list(hits.values())
