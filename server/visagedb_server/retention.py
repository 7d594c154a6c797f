"""What goes on by itself: who has expired is erased, and what was erased is compacted away."""

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from visagedb_indexer.compactions import CompactionPolicy
from visagedb_indexer.database import Database
from visagedb_indexer.errors import GalleryClosedError, IndexerError
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.trusted_clock import Reading, TrustedClock

_LOG = structlog.get_logger("visagedb.retention")
_TICK_SECONDS: Final = 1.0
_POLICY_SECONDS: Final = 5.0
_LOUD_SECONDS: Final = 600.0
_RETRY_SECONDS: Final = 600.0


class Retention:
    """Erases the expired and starts compactions, in a thread of its own.

    Args:
        database: All galleries.
        policy: When to compact.
        compact: Starts a compaction of a gallery unless one is under way.

    Attributes:
        on_expired: Told of a gallery, by its id, and how many of its identities were erased.
    """

    def __init__(
        self,
        database: Database,
        policy: CompactionPolicy,
        compact: Callable[[Gallery], None],
    ) -> None:
        self._database = database
        self._compact = compact
        self.on_expired: Callable[[str, int], None] = lambda gallery_id, count: None
        self.policy = policy
        catalogue = database.catalogue
        self.clock = TrustedClock(catalogue.clock(), catalogue.remember_clock)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)
        self._trusted = True
        self._loud_at = 0.0
        self._compacted_at: dict[str, float] = {}

    def start(self) -> None:
        """Erases those who have expired by now, then goes on in the background."""
        self.erase_expired()
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def erase_expired(self) -> None:
        """Erases those whose time is over, unless the clock is not to be believed."""
        reading = self.clock.read()
        self._tell(reading)
        if not reading.trusted:
            return
        for gallery in self._database.galleries():
            with _forgiven("expiry", gallery):
                due = gallery.erasures.pending().next_expiry_us
                if due is not None and due <= reading.time_us:
                    count = gallery.erasures.erase_expired(reading.time_us)
                    _LOG.info("expired", gallery=gallery.record.id, identities=count)
                    self.on_expired(gallery.record.id, count)

    def _run(self) -> None:
        policy_at = 0.0
        while not self._stop.wait(_TICK_SECONDS):
            try:
                self.erase_expired()
                if time.monotonic() >= policy_at:
                    policy_at = time.monotonic() + _POLICY_SECONDS
                    self._compact_where_due()
            except Exception:  # noqa: BLE001 - it must go on at the next tick
                _LOG.exception("retention failed")

    def _compact_where_due(self) -> None:
        for gallery in self._database.galleries():
            with _forgiven("compaction", gallery):
                reason = gallery.compactions.due(self.policy)
                rest_seconds = min(_RETRY_SECONDS, self.policy.erasure_seconds_max)
                last = self._compacted_at.get(gallery.record.uid, -rest_seconds)
                resting = time.monotonic() < last + rest_seconds
                if not reason or resting or gallery.compactions.running:
                    continue
                _LOG.info("compaction is due", gallery=gallery.record.id, reason=reason)
                self._compacted_at[gallery.record.uid] = time.monotonic()
                self._compact(gallery)

    def _tell(self, reading: Reading) -> None:
        """Says loudly, and again now and then, that nobody is erased by this clock."""
        if reading.trusted:
            if not self._trusted:
                _LOG.warning("the clock is believed again; expiry goes on")
            self._trusted, self._loud_at = True, 0.0
        elif time.monotonic() >= self._loud_at:
            self._trusted, self._loud_at = False, time.monotonic() + _LOUD_SECONDS
            _LOG.error(
                "the clock is not believed; nobody who expires is erased until it is right or "
                "confirmed with: visagedb erasure confirm-clock",
                reason=reading.reason,
                time_us=reading.time_us,
            )


class _forgiven:  # noqa: N801 - a context manager
    """Logs what goes wrong with one gallery, so that the others have their turn."""

    def __init__(self, what: str, gallery: Gallery) -> None:
        self._what = what
        self._gallery = gallery

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, IndexerError) and not isinstance(error, GalleryClosedError):
            _LOG.error(f"{self._what} failed", gallery=self._gallery.record.id, error=error.message)
        return isinstance(error, IndexerError)
