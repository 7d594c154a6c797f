"""From scores to error rates and back: the two formulas everything else is made of.

A comparison at threshold t says "the same" when its score is t or higher. So a rate of false
positives is the fraction of impostor scores at or above t, and a rate of false negatives the
fraction of mate scores below it (ISO/IEC 19795-1).
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Scores: TypeAlias = NDArray[np.float32]
"""Cosines, shape (n,)."""
Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]

SCORE_MIN = np.float32(-1.0)
NEVER = np.float32(-2.0)
"""Below every cosine: the score of a comparison that is lost at any threshold."""


def above(scores: Scores, thresholds: Any) -> Floats:
    """Fraction of scores at or above each threshold.

    Args:
        scores: Ascending, at least one.
        thresholds: One, or an array of any shape.
    """
    wanted = np.asarray(thresholds, dtype=np.float32)
    return np.asarray((len(scores) - np.searchsorted(scores, wanted, side="left")) / len(scores))


def below(scores: Scores, thresholds: Any) -> Floats:
    """Fraction of scores below each threshold; see `above`."""
    wanted = np.asarray(thresholds, dtype=np.float32)
    return np.asarray(np.searchsorted(scores, wanted, side="left") / len(scores))


def threshold_at(scores: Scores, rates: Any) -> Scores:
    """The lowest thresholds at which no more than these fractions of the scores pass.

    Args:
        scores: Of impostors, ascending, at least one.
        rates: Fractions, 0 to 1; one, or an array of any shape.
    """
    allowed = np.floor(np.asarray(rates) * len(scores) * (1 + 1e-12)).astype(np.int64)
    highest_refused = np.clip(len(scores) - 1 - allowed, 0, None)
    just_above = np.nextafter(scores[highest_refused], np.float32(2.0))
    return np.where(allowed >= len(scores), SCORE_MIN, just_above).astype(np.float32)


def weighted_threshold_at(scores: Scores, weights: Floats, total: float, rates: Floats) -> Scores:
    """The same where each score counts as many times as its weight says.

    Args:
        scores: The highest ones, **descending**.
        weights: Of these scores, not negative.
        total: Weight of all scores, with those that are too low to be listed.
        rates: Fractions, shape (r,).

    Returns:
        Shape (r,); the lowest listed score where the list is too short.
    """
    passing = np.cumsum(weights)
    first_refused = np.searchsorted(passing, rates * total * (1 + 1e-12), side="right")
    inside = np.clip(first_refused, 0, len(scores) - 1)
    return np.nextafter(scores[inside], np.float32(2.0)).astype(np.float32)


def weighted_below(scores: Scores, weights: Floats, thresholds: Scores) -> Floats:
    """Weight of the scores below each threshold over all weight; NaN when there is none.

    Args:
        scores: Ascending.
        weights: Of these scores, not negative.
        thresholds: Shape (t,).
    """
    sums = np.concatenate([[0.0], np.cumsum(weights)])
    if sums[-1] <= 0:
        return np.full(len(thresholds), np.nan)
    return np.asarray(sums[np.searchsorted(scores, thresholds, side="left")] / sums[-1])


def equal_error_rate(mates: Scores, impostors: Scores) -> tuple[float, float]:
    """The rate at which FMR and FNMR meet, and the threshold there.

    Both are steps, so they seldom meet exactly: this is the smallest value that the larger
    of the two takes.

    Args:
        mates: Ascending.
        impostors: Ascending.
    """

    def worst(thresholds: Scores) -> Floats:
        return np.maximum(above(impostors, thresholds), below(mates, thresholds))

    # FNMR grows at the mates' scores only, FMR falls just above the impostors' only; so the
    # best threshold is just above one of the impostors that lie between two mates.
    place = int(np.argmin(worst(mates)))
    low = mates[max(0, place - 1)]
    high = mates[min(len(mates) - 1, place + 1)]
    begin, end = np.searchsorted(impostors, [low, high])
    between = np.nextafter(impostors[max(0, begin - 1) : end + 1], np.float32(2.0))
    candidates = np.concatenate([between, mates[[place]], np.asarray([low, high])])
    rates = worst(candidates)
    best = int(np.argmin(rates))
    return float(rates[best]), float(candidates[best])
