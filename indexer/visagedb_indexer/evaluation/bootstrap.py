"""Confidence intervals that respect that a person's comparisons are not independent.

A person with ten photographs is in forty-five mate pairs, and in thousands of impostor pairs,
which succeed and fail together. So whole people are drawn with replacement: a person who is
drawn w times weighs w in each of the person's own pairs, and v times w in pairs with a person
who is drawn v times (Bolle, Ratha, Pankanti, "Error analysis of pattern recognition systems:
the subsets bootstrap", 2004).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import expit, logit, ndtri, stdtrit

from visagedb_indexer.evaluation.rates import Floats, Indices

LEVEL: Final = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95% confidence interval.

    Attributes:
        lower: Its lower end.
        upper: Its upper end.
    """

    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How often people are drawn.

    Attributes:
        draws: Number of repetitions; 0 for no intervals.
        seed: Of the random generator.
    """

    draws: int = 200
    seed: int = 0

    def weights(self, people: int) -> Iterator[Floats]:
        """How often each person is drawn, shape (people,), once per repetition."""
        random = np.random.default_rng(self.seed)
        for _ in range(self.draws):
            drawn = random.integers(people, size=people)
            yield np.bincount(drawn, minlength=people).astype(np.float64)


def interval_of(samples: Floats) -> Interval | None:
    """The middle 95% of a figure's repetitions; None without any that is a number."""
    known = samples[np.isfinite(samples)]
    if not len(known):
        return None
    lower, upper = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(lower), float(upper))


def interval_of_rate(samples: Floats, measured: float, counts: Indices) -> Interval | None:
    """The interval of an error rate; wider where few people have most of the comparisons.

    The percentiles of a bootstrap are too narrow for few people, like the normal
    distribution in place of Student's. So their distances from the rate, as log-odds, are
    stretched by the ratio of those two, for the number of equally weighty people that
    `counts` is worth (Kish, "Survey Sampling", 1965).

    Without a single error every repetition has none either. Then the bound is the exact one
    (Clopper and Pearson) for as many independent trials as there are people.

    Args:
        samples: Of the repetitions.
        measured: The rate itself, 0 to 1.
        counts: Comparisons of each person, shape (people,); those without any count nothing.
    """
    interval = interval_of(samples)
    if interval is None:
        return None
    lower, upper = min(interval.lower, measured), max(interval.upper, measured)
    if 0.0 < measured < 1.0:
        stretch = stretch_for(counts)
        return Interval(
            _moved(measured, lower, stretch),
            _moved(measured, upper, stretch),
        )
    people = max(1, int(np.count_nonzero(counts)))
    possible = 1.0 - ((1 - LEVEL) / 2) ** (1.0 / people)
    if measured <= 0.0:
        return Interval(lower, max(upper, possible))
    return Interval(min(lower, 1.0 - possible), upper)


def stretch_for(counts: Indices) -> float:
    """How much wider Student's distribution is than the normal one."""
    weights = counts.astype(np.float64)
    effective = weights.sum() ** 2 / max(1e-12, float((weights**2).sum()))
    degrees = max(1.0, effective - 1)
    tail = (1 + LEVEL) / 2
    return float(stdtrit(degrees, tail) / ndtri(tail))


def _moved(rate: float, end: float, stretch: float) -> float:
    """An interval's end, farther from the rate; 0 and 1 stay."""
    if end <= 0.0 or end >= 1.0:
        return end
    odds = logit(rate) + stretch * (logit(end) - logit(rate))
    return float(expit(odds))


def band_of(samples: Floats, measured: Floats, counts: Indices) -> tuple[Floats, Floats]:
    """The same for every point of a curve; empty arrays without repetitions.

    Args:
        samples: Shape (draws, n); columns have at least one number.
        measured: The curve itself, shape (n,).
        counts: Comparisons of each person.

    Returns:
        Lower and upper ends, shape (n,).
    """
    intervals = [
        interval_of_rate(samples[:, column], float(rate), counts)
        for column, rate in enumerate(measured)
    ]
    known = [interval for interval in intervals if interval is not None]
    if len(known) < len(measured):
        return np.empty(0), np.empty(0)
    return np.array([i.lower for i in known]), np.array([i.upper for i in known])
