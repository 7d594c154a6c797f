"""Compactions of a gallery: after one, no byte of what was erased before it is left on disk.

What is derived from templates goes first: codes of deleted faces, rows of clustering runs, kept
answers that name the erased. Then the database is copied without its free pages, beside reads and
writes, and the receipts that were pending at the beginning are complete.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer import limits
from visagedb_indexer.clock import now_us
from visagedb_indexer.clusterings import Clusterings
from visagedb_indexer.commands import RunCommand
from visagedb_indexer.erasures import Erasures
from visagedb_indexer.errors import GalleryClosedError, UnavailableError
from visagedb_indexer.failpoints import reached
from visagedb_indexer.store import GalleryStore
from visagedb_indexer.store.compaction import Compacted, compact
from visagedb_indexer.tidying import tidy

Progress = Callable[[float, str], None]
"""Told the progress, 0 to 1, and what is being done; raises to cancel the compaction."""

_TIDIED: Final = 0.05
_CODES_ERASED: Final = 0.2
_COPIED: Final = 0.95


@dataclass(frozen=True, slots=True)
class CompactionOutcome:
    """What a compaction has done.

    Attributes:
        database: The database before and after.
        completed: Receipts that are complete by it.
    """

    database: Compacted
    completed: int


@dataclass(frozen=True, slots=True)
class CompactionPolicy:
    """When a gallery is compacted without being asked to.

    Attributes:
        erasure_seconds_max: When the oldest pending erasure is so old.
        free_share_max: When this part of the file is free, or was never filled.
        free_bytes_min: And it is at least so much.
    """

    erasure_seconds_max: float
    free_share_max: float = 0.5
    free_bytes_min: int = 64 * limits.MIB


class Engine(Protocol):
    """What a compaction asks of the search engine."""

    def erase_codes(self, check: Callable[[], None]) -> None:
        """Takes the codes of deleted faces out, in memory and on disk, and waits for it."""
        ...

    def live_ordinals(self) -> NDArray[np.int64]:
        """Ordinals of the faces that exist, ascending."""
        ...


class Compactions:
    """Compacts one gallery.

    Args:
        store: The gallery's database.
        run: The gallery's writer.
        engine: The gallery's search engine.
        erasures: Whose receipts become complete.
        clusterings: Whose runs keep vectors.
    """

    def __init__(
        self,
        store: GalleryStore,
        run: RunCommand,
        engine: Engine,
        erasures: Erasures,
        clusterings: Clusterings,
    ) -> None:
        self._store = store
        self._run = run
        self._engine = engine
        self._erasures = erasures
        self._clusterings = clusterings
        self._closed = False

    def compact(
        self, progress: Progress, *, overwrite: bool = False, gently: bool = False
    ) -> CompactionOutcome:
        """Compacts the gallery beside its reads and writes.

        Args:
            progress: Told how far it is.
            overwrite: Write zeros over the old database file before it is removed.
            gently: Rest as long as is worked, for the others' sake.

        Raises:
            UnavailableError: It is being compacted or verified at this moment.
            StorageFullError: There is no room for the copy; the gallery is as it was.
        """
        if not self._store.upkeep.acquire(blocking=False):
            raise UnavailableError("the gallery is being compacted or verified; wait for that")
        try:
            return self._compact(progress, overwrite=overwrite, gently=gently)
        finally:
            self._store.upkeep.release()

    def _compact(self, progress: Progress, *, overwrite: bool, gently: bool) -> CompactionOutcome:
        def report(done: float, stage: str) -> None:
            if self._closed:
                raise GalleryClosedError("the gallery is closed")
            progress(done, stage)

        report(0.0, "taking out what names the erased")
        with self._store.read() as view:
            generation = view.counters().generation
        reached("compaction.before_tidying")
        tidy(self._store, self._run, lambda: report(0.0, "taking out what names the erased"))
        reached("compaction.after_tidying")
        stage = "taking out the codes of the erased"
        report(_TIDIED, stage)
        self._engine.erase_codes(lambda: report(_TIDIED, stage))
        self._clusterings.erase_work(self._engine.live_ordinals())
        reached("compaction.after_work")
        share = _COPIED - _CODES_ERASED
        database = compact(
            self._store,
            lambda done: report(_CODES_ERASED + share * done, "copying the database"),
            overwrite=overwrite,
            gently=gently,
        )
        report(_COPIED, "completing the receipts")
        completed = self._erasures.complete(generation, overwritten=overwrite)
        reached("compaction.after_receipts")
        return CompactionOutcome(database, completed)

    @property
    def running(self) -> bool:
        """Whether the gallery is being compacted, or verified."""
        return self._store.upkeep.locked()

    def due(self, policy: CompactionPolicy) -> str:
        """Why the gallery should be compacted now, for the log; empty if it need not be."""
        pending = self._erasures.pending()
        if pending.oldest_us is not None:
            age_seconds = (now_us() - pending.oldest_us) / 1e6
            if age_seconds >= policy.erasure_seconds_max:
                return f"{pending.count} erasures are pending, the oldest for {age_seconds:.0f} s"
        free = self._store.environment.free_bytes()
        size = self._store.environment.file_bytes()
        if free >= policy.free_bytes_min and free >= policy.free_share_max * size:
            return f"{free} of {size} bytes are free"
        return ""

    def close(self) -> None:
        """Gives up a compaction in progress, and waits for its end."""
        self._closed = True
        with self._store.upkeep:
            pass
