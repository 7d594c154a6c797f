"""The measurements: one pass of single queries, and throughput of several clients."""

import itertools
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import beta

from search.engine import Engine

CONFIDENCE: Final = 0.95
JUDGED_COSINE_MIN: Final = 0.4
LOSS_RATE_MAX: Final = 1 / 1000
_WARM_UP_QUERIES: Final = 50
_WARM_UP_SECONDS: Final = 2.0
_PASS_PROBES_MIN: Final = 200


@dataclass(frozen=True, slots=True)
class Loss:
    """Mates lost among probes."""

    lost: int
    probes: int

    @property
    def rate(self) -> float:
        """Share of the probes."""
        return self.lost / self.probes if self.probes else 0.0

    @property
    def rate_max(self) -> float:
        """Upper bound of the true rate (Clopper and Pearson 1934), one-sided 95%."""
        if self.lost >= self.probes:
            return 1.0
        return float(beta.ppf(CONFIDENCE, self.lost + 1, self.probes - self.lost))


@dataclass(frozen=True, slots=True)
class Pass:
    """Single queries, one after another.

    Attributes:
        p50_ms: Median latency.
        p99_ms: Latency that one query in a hundred exceeds.
        losses: Mates lost by cosine.
    """

    p50_ms: float
    p99_ms: float
    losses: dict[float, Loss]

    @property
    def judged(self) -> Loss:
        """Mates lost at the cosines that the bound is about."""
        counted = [loss for cosine, loss in self.losses.items() if cosine >= JUDGED_COSINE_MIN]
        return Loss(sum(loss.lost for loss in counted), sum(loss.probes for loss in counted))

    @property
    def within_bound(self) -> bool:
        """Whether the engine loses as few mates as it is asked to."""
        return self.judged.rate <= LOSS_RATE_MAX


def single_queries(engine: Engine, seconds_max: float) -> Pass:
    """Asks every probe once; stops early, at a balanced prefix, when time is over."""
    workload = engine.workload
    _warm_up(engine)
    times: list[float] = []
    found: list[bool] = []
    end = time.perf_counter() + seconds_max
    for probe, mate in zip(workload.probes, workload.mates.tolist(), strict=True):
        started = time.perf_counter()
        answer = engine.search(probe)
        stopped = time.perf_counter()
        times.append(stopped - started)
        found.append(mate in answer)
        if stopped > end and len(times) >= _PASS_PROBES_MIN:
            break
    cosines = workload.cosines[: len(found)]
    lost = ~np.array(found)
    losses = {
        float(cosine): Loss(int(lost[cosines == cosine].sum()), int((cosines == cosine).sum()))
        for cosine in np.unique(workload.cosines)
    }
    p50, p99 = np.percentile(times, [50, 99]) * 1000
    return Pass(float(p50), float(p99), losses)


def queries_per_second(engine: Engine, clients: int, seconds: float) -> float:
    """Throughput of several threads that each wait for an answer before they ask again."""
    barrier = threading.Barrier(clients + 1)
    counts = [0] * clients
    errors: list[BaseException] = []
    deadline = 0.0

    def client(number: int) -> None:
        probes = itertools.cycle(engine.workload.probes[number::clients])
        try:
            engine.search(next(probes))
            barrier.wait()
            while time.perf_counter() < deadline:
                engine.search(next(probes))
                counts[number] += 1
        except BaseException as error:
            errors.append(error)
            barrier.abort()
            raise

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    deadline = time.perf_counter() + 3600
    barrier.wait()
    started = time.perf_counter()
    deadline = started + seconds
    _join(threads)
    if errors:
        raise errors[0]
    return sum(counts) / (time.perf_counter() - started)


def _warm_up(engine: Engine) -> None:
    end = time.perf_counter() + _WARM_UP_SECONDS
    for probe in engine.workload.probes[-_WARM_UP_QUERIES:]:
        engine.search(probe)
        if time.perf_counter() > end:
            return


def _join(threads: Iterable[threading.Thread]) -> None:
    for thread in threads:
        thread.join()
