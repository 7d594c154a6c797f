"""Scores of strangers above a level, the suspected duplicates among them, and the fit.

A pair of faces depends on both of its people: somebody may look like many. Confidence
intervals therefore come from a bootstrap over identities, in which every identity gets a random
weight and a pair the product of its two (Owen 2007, "The pigeonhole bootstrap"). That counts
what is particular to a pair twice too often, so the spread is brought to that of the variance
estimate for dyadic data (Aronow, Samii and Assenova 2015, "Cluster-robust variance estimation
for dyadic data").
"""

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.calibration.sample import Comparison, Faces
from visagedb_indexer.calibration.tail import (
    SHAPE_PRIOR_DEVIATION,
    SHAPE_PRIOR_MEAN,
    Floats,
    Pareto,
    fit_pareto,
    fits,
    refitted,
    windows,
)

WINDOW_MOST: Final = 2000
WINDOW_FEWEST: Final = 120
_TRIMMED: Final = 0.1
"""The part of a window, at its top, that does not take part in the first fit."""
_SUSPECTED_BELOW: Final = 0.05
"""A pair is suspected if fewer than this many of its score are expected among all compared."""
_ROUNDS_MAX: Final = 5
_WINDOW_CHOICE: Final = 1.15
"""By so much the bootstrap's deviations are widened: the window it fits was chosen by the data."""
_SCORES_LEAST: Final = 10
_RATE_LEAST: Final = 1e-300
_BELIEVED_LEAST: Final = 0.6
"""A window of which less than this part is believed says too little."""


@dataclass(frozen=True, slots=True, eq=False)
class Impostors:
    """Scores of strangers above a level.

    Attributes:
        scores: Shape (n,), cosines.
        first: The person of the probe, shape (n,).
        second: The other person, shape (n,).
        weights: Shape (n,).
        total: Weight of all that was compared, above the level or not.
        probes: Position of the probe, shape (n,).
    """

    scores: Floats
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    weights: Floats
    total: float
    probes: NDArray[np.int64]

    def keys(self) -> NDArray[np.int64]:
        """One number for each pair of people, whoever was the probe."""
        low, high = np.minimum(self.first, self.second), np.maximum(self.first, self.second)
        return (low << np.int64(32)) | high

    def where(self, chosen: NDArray[np.bool_]) -> "Impostors":
        """Some of the scores."""
        return replace(
            self,
            scores=self.scores[chosen],
            first=self.first[chosen],
            second=self.second[chosen],
            weights=self.weights[chosen],
            probes=self.probes[chosen],
        )

    def rate(self, score: float) -> float:
        """Fraction of everything compared that is above a score at or above the level."""
        return float(self.weights[self.scores > score].sum() / self.total)

    def __len__(self) -> int:
        return len(self.scores)


def face_pairs(found: Comparison, probes: Faces, references: Faces) -> Impostors:
    """A face against a face of somebody else."""
    return Impostors(
        scores=found.scores,
        first=probes.people[found.probes],
        second=references.people[found.references],
        weights=probes.weights[found.probes] * references.weights[found.references],
        total=found.weight,
        probes=found.probes,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """The upper end of some impostors' scores, and the fit to it.

    Attributes:
        pareto: Of the excesses over `start`.
        start: Where the window begins, a cosine.
        highest: Excess above which nothing is believed.
        rate: Fraction of everything compared that is above `start`.
        impostors: Those above `start`.
        pair_count: Pairs of people among them.
        spread: What a deviation in the bootstrap is multiplied with.
    """

    pareto: Pareto
    start: float
    highest: float
    rate: float
    impostors: Impostors
    pair_count: int
    spread: float

    def rates(self, scores: Floats) -> Floats:
        """Fractions at or above scores in the window."""
        return self.rate * self.pareto.survival(scores - self.start)

    def expected_pairs(self, score: float) -> float:
        """Pairs of people expected above a score, among all compared."""
        return self.pair_count * float(self.pareto.survival(score - self.start))

    def replicates(
        self,
        scores: Floats,
        count: int,
        probe_people: NDArray[np.int64],
        people: int,
        random: np.random.Generator,
    ) -> Floats:
        """Deviations of the logarithm of the rates, by bootstrap: shape (count, len(scores))."""
        here = self.impostors.where(self.impostors.scores - self.start <= self.highest)
        weights, totals = _drawn(here, count, probe_people, people, random)
        rates = self.rate * weights.sum(axis=1) / (here.weights.sum() * totals)
        effective = _effective(here)
        again = refitted(
            self.pareto,
            here.scores - self.start,
            weights * (effective / weights.sum(axis=1, keepdims=True)),
            self.highest,
            # The prior is not known better than it says.
            SHAPE_PRIOR_MEAN + SHAPE_PRIOR_DEVIATION * random.standard_normal(count),
        )
        found = np.array(
            [
                rate * fit.survival(scores - self.start)
                for rate, fit in zip(rates, again, strict=True)
            ]
        )
        known = np.maximum(self.rates(scores), _RATE_LEAST)
        deviations: Floats = np.log(np.maximum(found, _RATE_LEAST)) - np.log(known)
        return _WINDOW_CHOICE * self.spread * deviations


def _drawn(
    here: Impostors,
    count: int,
    probe_people: NDArray[np.int64],
    people: int,
    random: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Weights of the pairs by bootstrap over people, and the weight of everything compared.

    Returns:
        Shape (count, pairs), and as a multiple of what it is without: shape (count,).
    """
    known = np.unique(np.concatenate([probe_people, here.first, here.second]))
    drawn = random.exponential(size=(count, len(known)))
    # Of those who appear in no pair only the sum matters.
    rest = random.gamma(max(people - len(known), 0) + 1e-9, size=count)
    probes = drawn[:, np.searchsorted(known, probe_people)]
    every = probes.sum(axis=1) * (drawn.sum(axis=1) + rest) - (probes**2).sum(axis=1)
    first, second = np.searchsorted(known, here.first), np.searchsorted(known, here.second)
    weights: Floats = here.weights * drawn[:, first] * drawn[:, second]
    return weights, every / (len(probe_people) * (people - 1))


def fit_window(impostors: Impostors, highest: float) -> Window:
    """The longest window at the top of the scores that goodness of fit lets stand.

    Args:
        impostors: At least some dozens.
        highest: Scores above this cosine have no influence.
    """
    keys = impostors.keys()
    ranked = np.sort(impostors.scores)[::-1]
    per_pair = len(ranked) / max(1, len(np.unique(keys)))
    window = None
    for size in windows(int(len(ranked) / per_pair), WINDOW_FEWEST, WINDOW_MOST):
        start = float(ranked[min(len(ranked) - 1, int(size * per_pair))])
        here = impostors.where(impostors.scores > start)
        if window is not None and np.mean(here.scores <= highest) < _BELIEVED_LEAST:
            break
        if len(here) < _SCORES_LEAST:
            continue
        window = _fitted(here, start, highest)
        excesses = here.scores - start
        weights = here.weights * (_effective(here) / here.weights.sum())
        if fits(window.pareto, excesses, weights, window.highest):
            break
    if window is None:
        raise ValueError("too few scores to fit a tail to")
    return window


def _fitted(here: Impostors, start: float, highest: float) -> Window:
    weights = here.weights * (_effective(here) / here.weights.sum())
    excesses = here.scores - start
    cut = highest - start if highest < 1.0 else math.inf
    pareto = fit_pareto(excesses, weights, cut)
    believed = here.weights[excesses <= cut].sum() / here.total
    rate = float(believed / (1.0 - float(pareto.survival(cut)) if math.isfinite(cut) else 1.0))
    pairs = len(np.unique(here.keys()[excesses <= cut]))
    return Window(pareto, start, cut, rate, here, pairs, _spread(here))


def _by_pair(here: Impostors) -> tuple[NDArray[np.int64], Floats]:
    keys, index = np.unique(here.keys(), return_inverse=True)
    weights: Floats = np.bincount(index, here.weights).astype(np.float64)
    return keys, weights


def _effective(here: Impostors) -> float:
    """How many equal pairs of people would vary as much."""
    _, weights = _by_pair(here)
    return float(weights.sum() ** 2 / (weights @ weights))


def dyadic_variance(here: Impostors) -> float:
    """Variance of the sum of the weights, where pairs that share a person depend."""
    person, pair = _variances(here)
    return max(person - pair, pair)


def _spread(here: Impostors) -> float:
    person, pair = _variances(here)
    return math.sqrt(max(person - pair, pair) / (person + pair))


def _variances(here: Impostors) -> tuple[float, float]:
    """Sums of squares of what each person and each pair of people contributes."""
    keys, weights = _by_pair(here)
    people = np.concatenate([keys >> np.int64(32), keys & np.int64(0xFFFFFFFF)])
    _, index = np.unique(people, return_inverse=True)
    by_person = np.bincount(index, np.concatenate([weights, weights]))
    return float(by_person @ by_person), float(weights @ weights)


@dataclass(frozen=True, slots=True, eq=False)
class Suspects:
    """Pairs of people who are more alike than strangers are.

    Attributes:
        start: The cosine from which a pair is suspected.
        keys: Of the pairs, most alike first.
        scores: Their best scores.
    """

    start: float
    keys: NDArray[np.int64]
    scores: Floats


def suspects(impostors: Impostors) -> Suspects:
    """Finds the pairs whose score is improbable under the tail of the others.

    The first fit looks away from the top tenth of its window, where duplicates are. What it
    makes improbable is set aside, and the rest fitted again, until nothing changes.

    Args:
        impostors: Scores of faces against identities.
    """
    keys, index = np.unique(impostors.keys(), return_inverse=True)
    best = np.full(len(keys), -1.0)
    np.maximum.at(best, index, impostors.scores)
    nobody = np.zeros(len(keys), np.int64)
    pairs = Impostors(best, keys >> np.int64(32), keys & np.int64(0xFFFFFFFF),
                      np.ones(len(keys)), float(len(keys)), nobody)  # fmt: skip
    ranked = np.sort(best)[::-1]
    window = min(len(ranked), WINDOW_MOST)
    highest = float(ranked[int(_TRIMMED * window)])
    for _ in range(_ROUNDS_MAX):
        start = _improbable(fit_window(pairs, highest))
        if abs(start - highest) < 1e-3:
            break
        highest = start
    found = np.flatnonzero(best >= highest)
    found = found[np.argsort(-best[found])]
    return Suspects(highest, keys[found], best[found])


def _improbable(window: Window) -> float:
    """The score above which hardly a pair is expected."""
    inside = 1.0 - float(window.pareto.survival(window.highest))
    expected = window.pair_count / max(inside, 1e-6)
    return min(1.0, window.start + window.pareto.excess(_SUSPECTED_BELOW / expected))
