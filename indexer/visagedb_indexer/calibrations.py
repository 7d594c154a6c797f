"""The calibrations of a gallery: measured on request and as it grows, kept, looked up.

Searches do not wait for a calibration: it takes none of their places, holds a read
transaction for one block at a time and no lock, and lets them go first, between any two of its
blocks of some milliseconds, when they take all cores.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer import limits
from visagedb_indexer.calibration import (
    PEOPLE_MIN,
    Calibration,
    CohortTable,
    Estimate,
    Faces,
    SuspectedDuplicate,
    cohort_table,
    estimate,
)
from visagedb_indexer.clock import now_us
from visagedb_indexer.commands import Effects, RunCommand
from visagedb_indexer.errors import (
    GalleryClosedError,
    IndexerError,
    InvalidArgumentError,
    NotCalibratedError,
)
from visagedb_indexer.filters import parse_filter
from visagedb_indexer.label_index import LabelIndex
from visagedb_indexer.store import Counters, GalleryStore, Transaction
from visagedb_indexer.store.schema import LOOSE_NUMBER
from visagedb_indexer.values import Fusion

_LOG = logging.getLogger(__name__)
_YIELD_SECONDS: Final = 5e-5
_WAITING_SECONDS_MAX: Final = 0.02
"""Between two blocks, while searches take all cores. A bound, because it shall end one day."""
_SEED: Final = 11

Progress = Callable[[float, str], None]
"""Told the progress, 0 to 1, and what is being done; raises to cancel the run."""


@dataclass(frozen=True, slots=True)
class RefreshPolicy:
    """When a gallery is calibrated without being asked to.

    Attributes:
        identities_min: From so many identities on.
        growth: When their number has changed by this factor, either way.
        rest_seconds: At least so long after the last one.
        rest_ratio: And so many times as long as the last one took.
        gathering_seconds: After the change that made it due.
    """

    identities_min: int = 500
    growth: float = 1.25
    rest_seconds: float = 30.0
    rest_ratio: float = 10.0
    gathering_seconds: float = 2.0


class Calibrations:
    """The calibrations of one gallery.

    Args:
        store: The gallery's database.
        run: The gallery's writer.
        labels: Its identities by label.
        busy: Whether searches take all cores at this moment.
        policy: When to calibrate in the background.
    """

    def __init__(
        self,
        store: GalleryStore,
        run: RunCommand,
        labels: LabelIndex,
        busy: Callable[[], bool],
        policy: RefreshPolicy | None = None,
    ) -> None:
        self._store = store
        self._run = run
        self._labels = labels
        self._busy = busy
        self._policy = policy or RefreshPolicy()
        self._one_at_a_time = threading.Lock()
        self._condition = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        with store.read() as view:
            self._latest = view.calibrations.latest()
            counters, fusion = view.counters(), view.gallery().fusion
        # At the count of identities at which it was in vain, it need not be tried again.
        self._tried = 0 if self._latest is None else self._latest.identity_count
        self._tried_fusion = None if self._latest is None else self._latest.fusion
        self._rest_until = 0.0
        self.notice(counters, fusion)

    @property
    def latest(self) -> Calibration | None:
        """The newest calibration, or None."""
        return self._latest

    def find(self, version: int) -> Calibration | None:
        """A calibration by version; None for one that is not kept, or never was."""
        with self._store.read() as view:
            return view.calibrations.find(version)

    def searched_identities(self, filter_text: str = "") -> int:
        """How many identities a search with a filter compares with.

        Raises:
            InvalidFilterError: The filter cannot be read.
        """
        mask = self._labels.mask(parse_filter(filter_text))
        return self._counters.identity_count if mask is None else int(np.count_nonzero(mask))

    def notice(self, counters: Counters, fusion: Fusion) -> None:
        """The gallery has changed."""
        self._counters, self._fusion = counters, fusion
        if self._due():
            with self._condition:
                if self._thread is None and not self._closed:
                    self._thread = threading.Thread(
                        target=self._keep_fresh, name="calibrator", daemon=True
                    )
                    self._thread.start()
                self._condition.notify_all()

    def close(self) -> None:
        """Stops what runs at its next block."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()
        with self._one_at_a_time:
            pass

    def calibrate(self, progress: Progress, label_key: str = "") -> Calibration:
        """Measures the gallery's impostors and keeps the result.

        Args:
            progress: Told how far it is.
            label_key: Also compare the values of this label; empty for none.

        Raises:
            NotCalibratedError: The gallery has too few identities.
            InvalidArgumentError: No identity carries the label.
            GalleryClosedError: The gallery was closed on the way.
        """
        with self._one_at_a_time:
            made = self._run(_keep(self._measured(progress, label_key)))
            self._latest, self._tried = made, made.identity_count
            self._tried_fusion = made.fusion
        return made

    def _measured(self, progress: Progress, label_key: str) -> Calibration:
        started = time.monotonic()
        progress(0.0, "reading")
        with self._store.read() as view:
            owners, generation = view.owners(), view.counters().generation
            fusion = view.gallery().fusion
        ordinals = np.flatnonzero((owners >= 0) & (owners != LOOSE_NUMBER))
        numbers, people = np.unique(owners[ordinals], return_inverse=True)
        if len(numbers) < PEOPLE_MIN:
            raise NotCalibratedError(
                f"the gallery has {len(numbers)} identities with faces; "
                f"a calibration needs at least {PEOPLE_MIN}",
                {"identities": str(len(numbers)), "needed": str(PEOPLE_MIN)},
            )
        values, names = self._label_values(label_key, numbers) if label_key else (None, ())
        faces = Faces.of(ordinals, people.astype(np.int64))
        progress(0.05, "comparing")
        pause = self._pause(lambda: progress(0.1, "comparing"))
        found = estimate(self._store, faces, _SEED, pause, fusion)
        cohorts = None
        if values is not None:
            progress(0.8, "comparing cohorts")
            cohorts = cohort_table(
                self._store, faces, values, names, label_key, found.pairs, found.suspects,
                _SEED, pause,
            )  # fmt: skip
        progress(0.95, "keeping the result")
        return self._calibration(
            found, cohorts, numbers, len(ordinals), generation, fusion, time.monotonic() - started
        )

    def _calibration(
        self,
        found: Estimate,
        cohorts: CohortTable | None,
        numbers: NDArray[np.int32],
        face_count: int,
        generation: int,
        fusion: Fusion,
        seconds: float,
    ) -> Calibration:
        return Calibration(
            version=0,
            create_time_us=now_us(),
            generation=generation,
            identity_count=len(numbers),
            face_count=face_count,
            probe_count=found.probe_count,
            pair_count=found.pair_count,
            seconds=seconds,
            pairs=found.pairs,
            searches=found.searches,
            clumping=found.clumping,
            false_match=found.false_match,
            false_positive=found.false_positive,
            suspected_count=len(found.suspects.keys),
            suspected=self._named(found, numbers),
            suspected_from=found.suspects.start,
            cohorts=cohorts,
            fusion=fusion,
        )

    def _named(self, found: Estimate, numbers: NDArray[np.int32]) -> tuple[SuspectedDuplicate, ...]:
        named = []
        most = limits.SUSPECTED_DUPLICATES_KEPT_MAX
        with self._store.read() as view:
            pairs = zip(found.suspects.keys[:most], found.suspects.scores[:most], strict=True)
            for key, score in pairs:
                places = (int(key) >> 32, int(key) & 0xFFFFFFFF)
                both = [view.identity_by_number(int(numbers[place])) for place in places]
                # One that was deleted in the meantime is nobody's duplicate any more.
                if both[0] is not None and both[1] is not None:
                    named.append(SuspectedDuplicate(both[0].id, both[1].id, float(score)))
        return tuple(named)

    def _label_values(
        self, label_key: str, numbers: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """The place of each identity's value in a list of values, -1 without; and the list."""
        names: dict[str, int] = {}
        values = np.full(len(numbers), -1, np.int64)
        place = {int(number): at for at, number in enumerate(numbers)}
        with self._store.read() as view:
            for value, number in view.calibrations.label_values(label_key):
                if number in place:
                    values[place[number]] = names.setdefault(value, len(names))
        if not names:
            raise InvalidArgumentError(
                f"no identity with a face carries the label {label_key!r}", {"field": "label_key"}
            )
        return values, tuple(names)

    def _pause(self, check: Callable[[], None]) -> Callable[[], None]:
        def pause() -> None:
            if self._closed:
                raise GalleryClosedError("the gallery is being closed")
            check()
            until = time.monotonic() + _WAITING_SECONDS_MAX
            # The interpreter's lock is not handed over by letting it go for no time.
            time.sleep(_YIELD_SECONDS)
            while self._busy() and time.monotonic() < until:
                time.sleep(_WAITING_SECONDS_MAX / 10)

        return pause

    def _due(self) -> bool:
        policy, count, last = self._policy, self._counters.identity_count, self._tried
        if count < policy.identities_min:
            return False
        if self._fusion is not self._tried_fusion:
            return True
        return count >= policy.growth * last or count * policy.growth <= last

    def _keep_fresh(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._closed or self._due())
                self._condition.wait_for(lambda: self._closed, self._waiting_seconds())
                if self._closed:
                    return
                self._tried = self._counters.identity_count
                self._tried_fusion = self._fusion
            started = time.monotonic()
            try:
                made = self.calibrate(lambda done, stage: None)
                _LOG.info("calibration %d took %.1f s", made.version, made.seconds)
            except IndexerError as error:
                _LOG.info("not calibrated: %s", error.message)
            except Exception:  # noqa: BLE001
                _LOG.exception("the calibration failed; tried again when the gallery has changed")
            now, policy = time.monotonic(), self._policy
            rest = max(policy.rest_seconds, policy.rest_ratio * (now - started))
            self._rest_until = now + rest

    def _waiting_seconds(self) -> float:
        return max(self._policy.gathering_seconds, self._rest_until - time.monotonic())


def _keep(calibration: Calibration) -> Callable[[Transaction], Effects[Calibration]]:
    def command(txn: Transaction) -> Effects[Calibration]:
        kept = txn.calibrations.add(calibration, limits.CALIBRATIONS_KEPT_MAX)
        return Effects(kept)

    return command
