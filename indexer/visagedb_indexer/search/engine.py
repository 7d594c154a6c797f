"""Search over one gallery: compact scan of everything, exact rescoring, grouping by identity.

Ordinals below `indexed` are in the codes; the rest, the newest faces, are scanned
exactly. A small gallery has no codes, and then everything is the newest. That one rule
gives read-your-writes without ever making an enrolment wait for an index.

Searches that wait for a place at the same time are answered together (see `scheduler`).
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer import limits
from visagedb_indexer.cores import CORES
from visagedb_indexer.errors import CancelledError, DeadlineExceededError
from visagedb_indexer.search.audit import Audit
from visagedb_indexer.search.builder import IndexBuilder
from visagedb_indexer.search.compact_index import CompactIndex
from visagedb_indexer.search.compact_scan import Codes, search_compact
from visagedb_indexer.search.exact import check_deadline, search_exact
from visagedb_indexer.search.faces_table import LOOSE, NO_OWNER, FacesTable
from visagedb_indexer.search.protocol import Hit, SearchRequest, VectorSource
from visagedb_indexer.search.scheduler import Lane, Scheduler
from visagedb_indexer.search.snapshot import Snapshot
from visagedb_indexer.values import FaceScope, Vector

_RESCORED_UNAUDITED: Final = 200
_RESCORED_UNAUDITED_PER_MILLION: Final = 33
SCHEDULER: Final = Scheduler()
"""The places to search in, for all galleries of this process."""


class EngineState(StrEnum):
    """How searches are answered at this moment."""

    EXACT = "exact"
    BUILDING = "building"
    COMPACT = "compact"


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The state of the search structures; memory in bytes, progress from 0 to 1.

    `audit` is None while no loss has been measured; `snapshot_time`, in seconds since 1970, is
    None while the codes have not been kept.
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
    loss_bound: float
    audit: Audit | None
    snapshot_time: float | None


class SearchEngine:
    """The search structures of one gallery.

    Writes (`add`, `remove`) come from one thread; searches from any number.

    Args:
        dimension: Length of the vectors.
        source: The stored vectors.
        owners: Identity number by ordinal, -1 where deleted; shape (n,), int32.
        snapshot: Where the codes are kept over a restart; None keeps them nowhere.
        loss_bound: Fraction of the mates that the compact scan may lose.
    """

    def __init__(
        self,
        dimension: int,
        source: VectorSource,
        owners: NDArray[np.int32],
        snapshot: Snapshot | None = None,
        loss_bound: float = limits.MATE_LOSS_BOUND_DEFAULT,
    ) -> None:
        self._source = source
        self._table = FacesTable(owners)
        self._builder = IndexBuilder(dimension, source, self._table, snapshot, loss_bound)
        self._lane = Lane[SearchRequest, list[Hit]](
            SCHEDULER, self.answer, limits.SEARCHES_GATHERED_MAX
        )
        self._builder.notice()

    def add(self, ordinal: int, number: int) -> None:
        """Makes a stored face searchable."""
        self._table.add(ordinal, number)
        self._builder.notice()

    def add_many(self, ordinal: int, numbers: NDArray[np.int32]) -> None:
        """Makes stored faces, with ordinals from one on, searchable; numbers shape (n,)."""
        self._table.add_many(ordinal, numbers)
        self._builder.notice()

    def remove(self, ordinals: Sequence[int]) -> None:
        """Hides faces from every search that starts later."""
        for ordinal in ordinals:
            self._table.remove(ordinal)
        self._builder.forget(len(ordinals))

    def erase_codes(self, check: Callable[[], None]) -> None:
        """Takes the codes of all deleted faces out, in memory and on disk, and waits for it.

        Args:
            check: Called while waiting; raises to wait no longer.
        """
        self._builder.erase(check)

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
        return self._lane.run(request, request.deadline)

    def answer(self, requests: list[SearchRequest]) -> list[list[Hit] | BaseException]:
        """Answers requests that came together, by a caller that has a place to search in.

        Returns:
            For each request what `search` returns or raises.
        """
        now = time.monotonic()
        answers: list[list[Hit] | BaseException] = [[] for _ in requests]
        # The index first: then every ordinal below `indexed` is in the faces read after it.
        index = self._builder.index
        faces = self._table.view()
        exact, compact = [], []
        for place, request in enumerate(requests):
            if request.caller.cancelled:
                answers[place] = CancelledError("the caller has gone")
            elif request.deadline is not None and request.deadline <= now:
                answers[place] = DeadlineExceededError(
                    "the deadline passed before the search began"
                )
            elif request.exact or index is None:
                exact.append(place)
            else:
                compact.append(place)
        with self._source.read() as view:
            if exact:
                found = search_exact(view, faces, [requests[place] for place in exact])
                for place, hits in zip(exact, found, strict=True):
                    answers[place] = hits
            if compact:
                assert index is not None
                scan = partial(_scan, index)
                codes = Codes(index, scan, self._effort(faces.count), self._table, faces, view)
                found = search_compact(codes, [requests[place] for place in compact])
                for place, hits in zip(compact, found, strict=True):
                    answers[place] = hits
        return answers

    def _effort(self, face_count: int) -> int:
        """Best rows of the compact scan to rescore: what the audit found, in proportion."""
        last = self._builder.audit
        if last is None:
            return _RESCORED_UNAUDITED + _RESCORED_UNAUDITED_PER_MILLION * face_count // 1_000_000
        return math.ceil(last.effort * max(1.0, face_count / max(1, last.face_count)))

    def have_several_faces(self, numbers: Sequence[int]) -> bool:
        """Whether any of some identities may have more than one face."""
        return self._table.have_several_faces(np.asarray(numbers, dtype=np.int64))

    def owners(self, ordinals: NDArray[np.int64]) -> NDArray[np.int64]:
        """The identity numbers of faces; negative for those deleted or loose."""
        owners = self._table.view().owners[ordinals].astype(np.int64)
        owners[owners == LOOSE] = NO_OWNER
        return owners

    def all_owners(self) -> NDArray[np.int32]:
        """The identity number of every face, as it is held in memory; shape (count,), a copy."""
        return self._table.view().owners.copy()

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
            loss_bound=self._builder.loss_bound,
            code_bytes_per_face=index.codec.code_bytes if index else 0,
            rescored_candidates=self._effort(count) if index else 0,
            index_generation=self._builder.generation,
            memory_bytes=self._table.memory_bytes
            + (sum(segment.memory_bytes for segment in index.segments) if index else 0),
            audit=self._builder.audit,
            snapshot_time=self._builder.snapshot_time,
        )

    @property
    def generation(self) -> int:
        """Counts the builds of the codes; 0 while every search is exact."""
        return self._builder.generation

    def promise(self, loss_bound: float) -> None:
        """Changes the fraction of mates that may be lost; the effort follows after an audit."""
        self._builder.promise(loss_bound)

    def wait_until_settled(self, timeout: float) -> bool:
        """Waits (seconds) until no background work is due; False when it took too long."""
        return self._builder.settled.wait(timeout)

    def close(self) -> None:
        """Stops the background work."""
        self._builder.close()


def _scan(index: CompactIndex, rotated: Vector, count: int) -> NDArray[np.int64]:
    """Searches the codes; a long scan for a lone probe is divided over the cores left over."""
    if len(rotated) > 1 or index.scanned_bytes < limits.DIVIDED_SCAN_BYTES_MIN:
        return index.search(rotated, count)
    with SCHEDULER.spare(CORES - 1) as more:
        return index.search(rotated, count, threads=1 + more)


def all_cores_search() -> bool:
    """Whether as many searches run as there are cores, so that other work had better wait."""
    return SCHEDULER.full
