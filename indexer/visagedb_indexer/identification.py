"""Searches of one gallery from beginning to end: scan, fusion, records.

All of it is done by whoever has a place to search in, for everybody who is answered along:
many threads that read records at once would take the interpreter's lock from each other at
every step.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from visagedb_indexer import limits, ranking, telemetry
from visagedb_indexer.errors import StorageCorruptError
from visagedb_indexer.gallery_values import SearchAnswer
from visagedb_indexer.search import SCHEDULER, Lane, SearchEngine, SearchRequest
from visagedb_indexer.store import GalleryStore
from visagedb_indexer.telemetry import Measure
from visagedb_indexer.values import Fusion

_READING: Final = threading.Lock()
"""Records are read by one thread at a time. Two would hand the interpreter's lock to and fro at
every lookup, while a scan needs it hardly ever."""


def searches_waiting() -> int:
    """Searches of all galleries that wait for a place to search in."""
    return SCHEDULER.waiting


@dataclass(frozen=True, slots=True)
class Moment:
    """What a gallery is at a moment: how it fuses, and the changes it has seen."""

    fusion: Fusion
    generation: int


class Identification:
    """Finds the identities that probes may belong to.

    Args:
        engine: Finds faces.
        store: Has the records.
        now: What the gallery is at this moment.
    """

    def __init__(
        self, engine: SearchEngine, store: GalleryStore, now: Callable[[], Moment]
    ) -> None:
        self._engine = engine
        self._store = store
        self._now = now
        # An exact scan may take a thousand times as long: nobody else should be tied to one.
        self._lane, self._exact_lane = (
            Lane[SearchRequest, SearchAnswer](SCHEDULER, self._answer, limits.SEARCHES_GATHERED_MAX)
            for _ in range(2)
        )

    def run(self, requests: Sequence[SearchRequest]) -> list[SearchAnswer]:
        """Answers the requests of one caller, which have one deadline and are all exact or none.

        Raises:
            DeadlineExceededError: The deadline passed before all answers were there.
            CancelledError: The caller has gone.
        """
        if not requests:
            return []
        lane = self._exact_lane if requests[0].exact else self._lane
        with telemetry.timed(Measure.SEARCH):
            return lane.run_many(requests, requests[0].deadline)

    def _answer(self, requests: list[SearchRequest]) -> list[SearchAnswer | BaseException]:
        answers: list[SearchAnswer | BaseException | None] = [None] * len(requests)
        while open_places := [place for place, one in enumerate(answers) if one is None]:
            moment = self._now()
            some = [requests[place] for place in open_places]
            for place, answer in zip(open_places, self._attempt(some, moment), strict=True):
                answers[place] = answer
            # An identity deleted since the search leaves a gap; search again to fill it.
            if None in answers and self._now().generation == moment.generation:
                self._check_store(moment)
        return [answer for answer in answers if answer is not None]

    def _attempt(
        self, requests: list[SearchRequest], moment: Moment
    ) -> list[SearchAnswer | BaseException | None]:
        """Answers, errors, and None where a face is gone that had just been found."""
        built = self._engine.generation
        found = self._engine.answer(
            [ranking.widened(request, moment.fusion) for request in requests]
        )
        answers: list[SearchAnswer | BaseException | None] = []
        with _READING, telemetry.timed(Measure.SEARCH_RECORDS), self._store.read() as view:
            for request, hits in zip(requests, found, strict=True):
                if isinstance(hits, BaseException):
                    answers.append(hits)
                    continue
                ranked = ranking.ranked(self._engine, view, request, hits, moment.fusion)
                stored = ranking.candidates(view, ranked)
                exact = request.exact or built == 0
                answer = SearchAnswer(stored, moment.generation, built, exact)
                answers.append(answer if len(stored) == len(ranked) else None)
        return answers

    def _check_store(self, moment: Moment) -> None:
        with self._store.read() as view:
            if view.counters().generation == moment.generation:
                raise StorageCorruptError("the database has lost faces it had when opened")
