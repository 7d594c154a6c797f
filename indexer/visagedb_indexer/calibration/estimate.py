"""From the stored vectors of a gallery to its calibration. Pure but for reading the vectors.

Every probe is an enrolled face taken for a stranger's: its own identity does not count. What
a stranger's best score among N identities is follows from two things: how often a face passes
a score against one identity, and how much the false matches of a probe clump. Both are
measured; at the rates that matter the first decides nearly alone.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from visagedb_indexer.calibration import impostors as scores_of
from visagedb_indexer.calibration.impostors import Impostors, Suspects, Window
from visagedb_indexer.calibration.sample import (
    Comparison,
    Faces,
    Pause,
    VectorSource,
    compare,
    rate_in,
    score_in,
)
from visagedb_indexer.calibration.searches import fuses, searches
from visagedb_indexer.calibration.tail import Floats, Tail
from visagedb_indexer.calibration.values import (
    FALSE_MATCH_RATES,
    FALSE_POSITIVE_RATES,
    OperatingPoint,
    false_positive_rate,
    rate_per_identity,
)
from visagedb_indexer.values import Fusion

PROBES_MAX: Final = 4096
REFERENCES_MAX: Final = 8192
"""With the probes 33 million pairs, of which every score is counted."""
SEARCHED_FACES_MAX: Final = 1 << 20
"""Faces that the probes are searched among; of larger galleries this many are drawn."""
PEOPLE_MIN: Final = 100
"""Fewer identities say nothing of one false match in a thousand."""
_KEPT_PER_PROBE: Final = 16
_KEPT_RATE_MAX: Final = 0.02
_KEPT_WHEN_FUSED: Final = 4
"""Times as many are kept where several faces are fused: the best face alone does not tell."""
_REPLICATES: Final = 100
_INTERVAL: Final = (0.025, 0.975)
_SUPPORT_RATIO_MAX: Final = 3.0
_SUPPORT_PAIRS_MIN: Final = 1.0
_BODY_RATES: Final = (
    0.9999, 0.999, 0.99, 0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001,
    0.0005, 0.0002, 0.0001, 0.00005, 0.00002,
)  # fmt: skip
_CLUMPING_EXPECTED: Final = 0.5
_CLUMPING_MAX: Final = 1000.0
_CLUMPING_MIN: Final = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """What was measured; the fields are those of `Calibration`."""

    probe_count: int
    pair_count: int
    pairs: Tail
    searches: Tail
    clumping: float
    false_match: tuple[OperatingPoint, ...]
    false_positive: tuple[OperatingPoint, ...]
    suspects: Suspects


def estimate(
    source: VectorSource,
    faces: Faces,
    seed: int,
    pause: Pause,
    fusion: Fusion = Fusion.MAXIMUM,
) -> Estimate:
    """Measures the impostors of a gallery.

    Args:
        source: The stored vectors.
        faces: All faces, of at least `PEOPLE_MIN` people.
        seed: Of all that is drawn.
        pause: Called between blocks of work.
        fusion: How several faces of an identity make one score.
    """
    random = np.random.default_rng(seed)
    probes = faces.draw(PROBES_MAX, random)
    sampled = faces.draw(REFERENCES_MAX, random)
    body = compare(source, probes, sampled, 1.0, pause, with_histogram=True)
    searched = faces.draw_people(SEARCHED_FACES_MAX, random)
    people = len(np.unique(searched.people))
    kept = min(_KEPT_RATE_MAX, _KEPT_PER_PROBE / people)
    kept *= _KEPT_WHEN_FUSED if fuses(searched, fusion) else 1
    level = score_in(body.histogram, kept)
    found = compare(source, probes, searched, level, pause)
    against, complete = searches(found, probes, searched, level, source, fusion, pause)
    suspects = scores_of.suspects(against)
    against = _without(against, suspects)
    pairs = _without(scores_of.face_pairs(found, probes, searched), suspects)
    pair_window = scores_of.fit_window(pairs, suspects.start)
    search_window = scores_of.fit_window(against, suspects.start)
    knots = _knots(body, level, pairs, pair_window)
    best_of_several = against.rate(complete) / pairs.rate(complete)
    pair_tail = _tail(knots, pair_window)
    search_knots = _knots(body, complete, against, search_window, best_of_several)
    search_tail = _tail(search_knots, search_window)
    size = int(np.max(faces.people)) + 1
    clumping = _clumping(against, probes, size, search_tail, complete)
    bootstrap = _Bootstrap(np.unique(probes.people), size, random, pause)
    return Estimate(
        probe_count=len(probes),
        pair_count=body.pair_count + found.pair_count,
        pairs=pair_tail,
        searches=search_tail,
        clumping=clumping,
        false_match=tuple(
            bootstrap.point(rate, rate, pair_tail, pair_window) for rate in FALSE_MATCH_RATES
        ),
        false_positive=tuple(
            bootstrap.searched(rate, clumping, search_tail, search_window)
            for rate in FALSE_POSITIVE_RATES
        ),
        suspects=suspects,
    )


def _without(impostors: Impostors, suspects: Suspects) -> Impostors:
    return impostors.where(~np.isin(impostors.keys(), suspects.keys))


def _knots(
    body: Comparison, level: float, kept: Impostors, window: Window, factor: float = 1.0
) -> list[tuple[float, float]]:
    """Scores and rates, from the lowest score up to where the window starts."""
    knots = [(-1.0, 1.0)]
    for rate in _BODY_RATES:
        score = score_in(body.histogram, rate)
        if score < min(level, window.start):
            knots.append((score, min(1.0, factor * rate_in(body.histogram, score))))
    lowest = kept.rate(level)
    if window.start > level:
        steps = max(2, math.ceil(4 * math.log10(lowest / window.rate)))
        for share in range(steps):
            score = level + (window.start - level) * share / steps
            knots.append((score, kept.rate(score)))
    knots.append((window.start, window.rate))
    # Sampling may turn the order of neighbours: rates only fall.
    kept_knots: list[tuple[float, float]] = []
    for score, rate in knots:
        if rate < window.rate and score < window.start:
            continue
        if not kept_knots or (score > kept_knots[-1][0] and rate < kept_knots[-1][1]):
            kept_knots.append((score, rate))
    if kept_knots[-1][0] != window.start:
        kept_knots[-1] = (window.start, window.rate)
    return kept_knots


def _tail(knots: list[tuple[float, float]], window: Window) -> Tail:
    return Tail(
        scores=tuple(score for score, _ in knots),
        rates=tuple(rate for _, rate in knots),
        start=window.start,
        start_rate=window.rate,
        scale=window.pareto.scale,
        shape=window.pareto.shape,
        count=window.pair_count,
    )


def _clumping(against: Impostors, probes: Faces, people: int, tail: Tail, level: float) -> float:
    """Index of the negative binomial distribution, from the probes without a false match.

    At a score at which a probe has half a false match on average, where the data reach it.
    """
    score = max(level, tail.score(min(1.0, _CLUMPING_EXPECTED / people)))
    expected = against.rate(score) * (people - 1)
    struck = np.zeros(len(probes), np.bool_)
    struck[against.probes[against.scores > score]] = True
    spared = float(probes.weights[~struck].sum() / probes.weights.sum())

    def excess(log_index: float) -> float:
        index = math.exp(log_index)
        return -index * math.log1p(expected / index) - math.log(max(spared, 1e-9))

    low, high = math.log(_CLUMPING_MIN), math.log(_CLUMPING_MAX)
    if excess(high) >= 0:
        return _CLUMPING_MAX
    if excess(low) <= 0:
        return _CLUMPING_MIN
    return math.exp(optimize.brentq(excess, low, high))


class _Bootstrap:
    """Confidence intervals of rates at thresholds."""

    def __init__(
        self,
        probe_people: NDArray[np.int64],
        people: int,
        random: np.random.Generator,
        pause: Pause,
    ) -> None:
        self._probe_people = probe_people
        self._people = people
        self._random = random
        self._pause = pause
        self._known: dict[int, tuple[Floats, Floats]] = {}

    def point(self, rate: float, unit_rate: float, tail: Tail, window: Window) -> OperatingPoint:
        """A threshold for a rate of comparisons."""
        threshold = tail.score(unit_rate)
        low, high = self._factors(threshold, window)
        lower, upper = min(1.0, rate * low), min(1.0, rate * high)
        expected = window.expected_pairs(threshold) if threshold >= window.start else math.inf
        supported = expected >= _SUPPORT_PAIRS_MIN and upper <= _SUPPORT_RATIO_MAX * rate
        return OperatingPoint(rate, threshold, lower, upper, supported)

    def searched(self, rate: float, clumping: float, tail: Tail, window: Window) -> OperatingPoint:
        """A threshold for a rate of searches among all people."""
        unit = rate_per_identity(rate, self._people, clumping)
        point = self.point(rate, unit, tail, window)
        low, high = (
            false_positive_rate(unit * end / rate, self._people, clumping)
            for end in (point.rate_lower, point.rate_upper)
        )
        return OperatingPoint(rate, point.threshold, low, high, point.supported)

    def _factors(self, threshold: float, window: Window) -> tuple[float, float]:
        """What the rate at a threshold is multiplied with at the interval's ends."""
        grid, deviations = self._replicates(window)
        # Below the window the rate is better known than where the window begins.
        at = min(max(threshold, grid[0]), grid[-1])
        here = np.array([np.interp(at, grid, row) for row in deviations])
        low, high = np.quantile(here, _INTERVAL)
        return math.exp(min(low, 0.0)), math.exp(min(max(high, 0.0), 500.0))

    def _replicates(self, window: Window) -> tuple[Floats, Floats]:
        known = self._known.get(id(window))
        if known is None:
            self._pause()
            grid = np.linspace(window.start, min(1.0, window.start + 0.5), 101)
            found = window.replicates(
                grid, _REPLICATES, self._probe_people, self._people, self._random
            )
            known = self._known[id(window)] = (grid, found)
        return known
