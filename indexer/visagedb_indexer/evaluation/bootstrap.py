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

from visagedb_indexer.evaluation.rates import Floats

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


def interval_of_rate(samples: Floats, measured: float, people: int) -> Interval | None:
    """The interval of an error rate; one that is 0 or 1 does not get a width of nothing.

    Without a single error every repetition has none either. Then the bound is the exact one
    (Clopper and Pearson) for as many independent trials as there are people.

    Args:
        samples: Of the repetitions.
        measured: The rate itself, 0 to 1.
        people: How many people stand behind it.
    """
    interval = interval_of(samples)
    if interval is None:
        return None
    lower, upper = min(interval.lower, measured), max(interval.upper, measured)
    possible = 1.0 - ((1 - LEVEL) / 2) ** (1.0 / max(1, people))
    if measured <= 0.0:
        upper = max(upper, possible)
    if measured >= 1.0:
        lower = min(lower, 1.0 - possible)
    return Interval(lower, upper)


def band_of(samples: Floats) -> tuple[Floats, Floats]:
    """The same for a whole curve: lower and upper ends; empty arrays without repetitions.

    Args:
        samples: Shape (draws, n); columns have at least one number.
    """
    if not samples.size:
        return np.empty(0), np.empty(0)
    lower, upper = np.nanquantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return lower, upper
