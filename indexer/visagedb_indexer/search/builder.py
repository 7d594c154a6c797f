"""Background work on the codes: training, adding the newest faces, removing the deleted.

One thread per gallery, started when there is something to do for the first time.
Searches see a `CompactIndex` that is replaced as a whole, so they need no lock and never
wait for this work: what changes is made aside.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final

import numpy as np

from visagedb_indexer import limits
from visagedb_indexer.errors import GalleryClosedError
from visagedb_indexer.failpoints import reached
from visagedb_indexer.search.audit import Audit, audit
from visagedb_indexer.search.compact import LEVELS, Codec, Segment
from visagedb_indexer.search.compact_index import CompactIndex
from visagedb_indexer.search.faces_table import FacesTable
from visagedb_indexer.search.protocol import VectorSource
from visagedb_indexer.search.snapshot import Snapshot
from visagedb_indexer.values import Vector

_LOG = logging.getLogger(__name__)
_GATHERING_SECONDS: Final = 0.1
_BUILD_CHUNK_ROWS: Final = 16_384
_RETRAIN_GROWTH: Final = 4
_RETRAIN_ROWS_MAX: Final = 1_000_000
_SEED: Final = 7
_AUDIT_GROWTH: Final = 1.5
_SAVED_ROWS_MIN: Final = 50_000
"""Fewer new rows than this are encoded anew faster than a snapshot pays for itself."""


class _Erasing:
    """Somebody who waits until the codes of deleted faces are gone."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: Exception | None = None


class IndexBuilder:
    """Keeps the codes in step with the stored vectors.

    Args:
        dimension: Length of the vectors.
        source: The stored vectors.
        table: The faces that exist.
        snapshot: Where the codes are kept over a restart; None keeps them nowhere.
        loss_bound: Fraction of the mates that the codes may lose.
    """

    def __init__(
        self,
        dimension: int,
        source: VectorSource,
        table: FacesTable,
        snapshot: Snapshot | None = None,
        loss_bound: float = limits.MATE_LOSS_BOUND_DEFAULT,
    ) -> None:
        self._source = source
        self._table = table
        self._snapshot = snapshot
        self._useful = dimension >= limits.COMPACT_DIMENSION_MIN
        self._condition = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self.index: CompactIndex | None = None
        self._saved: tuple[CompactIndex, Audit | None] | None = None
        self._last_try: tuple[CompactIndex, Audit | None] | None = None
        self.audit: Audit | None = None
        self.loss_bound = loss_bound
        self._deleted = 0
        self._erasing: list[_Erasing] = []
        self.progress: float | None = None
        self.settled = threading.Event()
        self.settled.set()
        if snapshot is not None and self._useful:
            self._restore(snapshot)

    def _restore(self, snapshot: Snapshot) -> None:
        faces = self._table.view()
        found = snapshot.load(faces.count)
        if found is None:
            return
        index, self.audit = found
        self._deleted = index.tombstones(faces.owners)
        self.index = index
        self._saved = self._last_try = (index, self.audit)

    @property
    def generation(self) -> int:
        """Counts the builds of the codes; 0 before the first."""
        return 0 if self.index is None else self.index.generation

    @property
    def snapshot_time(self) -> float | None:
        """When the codes were kept last, seconds since 1970; None if never."""
        return None if self._snapshot is None else self._snapshot.time()

    @property
    def tombstone_count(self) -> int:
        """Codes of deleted faces."""
        return 0 if self.index is None else self.index.tombstones(self._table.view().owners)

    def notice(self) -> None:
        """The gallery may have grown."""
        if self._due():
            self._wake()

    def forget(self, count: int) -> None:
        """So many faces were deleted."""
        if self.index is None and self.progress is None:
            return
        with self._condition:
            self._deleted += count
        self.notice()

    def erase(self, check: Callable[[], None]) -> None:
        """Takes the codes of all deleted faces out, in memory and on disk, and waits for it.

        Args:
            check: Called while waiting; raises to wait no longer.

        Raises:
            GalleryClosedError: The gallery was closed.
            OSError: The snapshot cannot be written.
        """
        erasing = _Erasing()
        with self._condition:
            self._erasing.append(erasing)
        self._wake()
        while not erasing.done.wait(_GATHERING_SECONDS):
            if self._closed:
                raise GalleryClosedError("the gallery is closed")
            check()
        if erasing.error is not None:
            raise erasing.error

    def promise(self, loss_bound: float) -> None:
        """Changes the fraction of mates that may be lost."""
        self.loss_bound = loss_bound
        self.notice()

    def close(self) -> None:
        """Stops the thread at its next chunk, and keeps the codes for the next start."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._save()

    def _due(self) -> bool:
        return (
            bool(self._erasing)
            or self._training_due()
            or self._tail_rows() > 0
            or self._purge_due()
            or self._saving_due()
            or self._audit_due()
        )

    def _training_due(self) -> bool:
        live = self._table.live_count
        if not self._useful or live <= limits.EXACT_ROWS_MAX:
            return False
        if self.index is None:
            return True
        if self._finer_codes_due():
            return True
        trained_on = self.index.codec.trained_on
        return trained_on < _RETRAIN_ROWS_MAX and live >= _RETRAIN_GROWTH * trained_on

    def _finer_codes_due(self) -> bool:
        """Whether the usual codes cannot keep the promise, however many rows are rescored."""
        assert self.index is not None
        last = self.audit
        return (
            last is not None
            and last.generation == self.index.generation
            and self.index.codec.level + 1 < len(LEVELS)
            and last.exceeds(self.loss_bound)
        )

    def _tail_rows(self) -> int:
        return 0 if self.index is None else self._table.view().count - self.index.indexed

    def _purge_due(self) -> bool:
        most = max(limits.TOMBSTONES_MAX, self._table.live_count // 100)
        return self.index is not None and self._deleted > most

    def _saving_due(self) -> bool:
        if self.index is None or self._snapshot is None or self._closed:
            return False
        # A full disk is tried again when there is more to save, and at the end.
        if self._last_try is None:
            return True
        index, audit = self._last_try
        if index.generation != self.index.generation or audit is not self.audit:
            return True
        return self.index.indexed - index.indexed > _SAVED_ROWS_MIN

    def _audit_due(self) -> bool:
        if self.index is None:
            return False
        last = self.audit
        if last is None or last.generation != self.index.generation:
            return True
        if last.bound != self.loss_bound:
            return True
        return self._table.live_count > _AUDIT_GROWTH * last.face_count

    def _measure(self) -> None:
        """Measures the loss of the codes, and with it how many candidates to rescore."""
        assert self.index is not None
        found = audit(
            self.index, self._source, self._table.view(), self.loss_bound, self._has_better_to_do
        )
        if found is not None:
            self.audit = found
            _LOG.info(
                "the compact scan loses %.4f of the mates, rescoring %d",
                found.measured,
                found.effort,
            )

    def _has_better_to_do(self) -> bool:
        return (
            self._closed
            or bool(self._erasing)
            or self._tail_rows() > limits.TAIL_ROWS_MAX
            or self._training_due()
        )

    def _save(self) -> None:
        """Writes codes and audit to disk, if they have changed since."""
        index, audit = self.index, self.audit
        if index is None or self._snapshot is None or self._saved == (index, audit):
            return
        self._last_try = (index, audit)
        try:
            self._snapshot.save(index, audit)
            self._saved = self._last_try
        except OSError as error:
            # A restart without it takes longer, and that is all.
            _LOG.warning("the search snapshot could not be written: %s", error)

    def _wake(self) -> None:
        with self._condition:
            if self._closed:
                return
            self.settled.clear()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)
                self._thread.start()
            self._condition.notify_all()

    def _run(self) -> None:
        while not self._closed:
            if not self._due():
                self._rest()
            elif self._training_due():
                self._guarded(self._build)
            elif self._erasing:
                self._erase()
            elif self._purge_due():
                self._guarded(self._purge)
            elif self._tail_rows() == 0:
                self._guarded(self._save if self._saving_due() else self._measure)
            else:
                if self._tail_rows() < limits.TAIL_ROWS_MAX:
                    with self._condition:
                        self._condition.wait_for(lambda: self._closed, _GATHERING_SECONDS)
                self._guarded(self._extend)

    def _rest(self) -> None:
        with self._condition:
            # Asked again under the lock, so that a wake-up in between is not missed.
            if not self._due() and not self._closed:
                self.settled.set()
                self._condition.wait(timeout=60.0)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:  # noqa: BLE001
            if self._closed:
                return
            # Searches stay right without the codes: what is not indexed is scanned.
            _LOG.exception("background indexing failed; trying again in a minute")
            with self._condition:
                self._condition.wait_for(lambda: self._closed, 60.0)

    def _build(self) -> None:
        """Trains new codes on a sample and encodes everything, aside from the searches."""
        self.progress = 0.0
        level = 0 if self.index is None else self.index.codec.level + self._finer_codes_due()
        try:
            reached("build.before_training")
            codec = Codec.train(self._sample(), self._table.live_count, level=level)
            index = CompactIndex(codec, (), 0, self.generation + 1)
            # A chunk goes into one segment, so it must fit into one.
            chunk = min(_BUILD_CHUNK_ROWS, limits.SEGMENT_ROWS_MAX)
            while index.indexed < (count := self._table.view().count):
                if self._closed:
                    return
                index = self._grown(index, min(count, index.indexed + chunk))
                self.progress = index.indexed / count
                reached("build.after_chunk")
            reached("build.before_replacement")
            self._replace(index.joined())
            reached("build.after_replacement")
        finally:
            self.progress = None

    def _sample(self) -> Vector:
        live = np.flatnonzero(self._table.view().passing(None))
        if len(live) > limits.TRAINING_ROWS_MAX:
            random = np.random.default_rng(_SEED)
            live = np.sort(random.choice(live, limits.TRAINING_ROWS_MAX, replace=False))
        with self._source.read() as view:
            return view.vectors(live)

    def _extend(self) -> None:
        """Moves the newest faces into the codes."""
        assert self.index is not None
        stop = min(self._table.view().count, self.index.indexed + limits.SEGMENT_ADD_ROWS_MAX)
        reached("build.before_extension")
        self.index = self._grown(self.index, stop)
        reached("build.after_extension")

    def _grown(self, index: CompactIndex, stop: int) -> CompactIndex:
        owners = self._table.view().owners[index.indexed : stop]
        ordinals = index.indexed + np.flatnonzero(owners >= 0)
        with self._source.read() as view:
            vectors = view.vectors(ordinals)
        # A face deleted since has a zero vector now; its code would only be in the way.
        lives = np.any(vectors != 0, axis=1)
        newer = Segment.encoded(index.codec, ordinals[lives], vectors[lives])
        return index.grown(newer, stop)

    def _purge(self) -> None:
        """Takes deleted faces out of the codes."""
        assert self.index is not None
        reached("build.before_purge")
        self._replace(self.index.without(self._table.view().owners))
        reached("build.after_purge")

    def _erase(self) -> None:
        with self._condition:
            waiting, self._erasing = self._erasing, []
        error: Exception | None = None
        try:
            if self.tombstone_count:
                self._purge()
            if self._snapshot is not None:
                reached("compaction.before_codes")
                if self.index is None:
                    self._snapshot.remove()
                else:
                    self._saved = (self.index, self.audit)
                    self._snapshot.save(*self._saved)
                reached("compaction.after_codes")
        except Exception as raised:  # noqa: BLE001 - raised again by those who wait
            error = raised
        for erasing in waiting:
            erasing.error = error
            erasing.done.set()

    def _replace(self, index: CompactIndex) -> None:
        self.index = index
        with self._condition:
            # Deletions since the copy of the codes was made are still to be taken out.
            self._deleted = self.tombstone_count
