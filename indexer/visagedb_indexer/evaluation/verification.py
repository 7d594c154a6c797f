"""One to one: DET and ROC, operating points, with confidence intervals.

FMR is the fraction of impostor comparisons that match, FNMR the fraction of mate comparisons
that do not, and the true accept rate TAR = 1 - FNMR (ISO/IEC 19795-1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from visagedb_indexer.evaluation.bootstrap import (
    Bootstrap,
    Interval,
    band_of,
    interval_of,
    interval_of_rate,
)
from visagedb_indexer.evaluation.comparisons import Comparisons
from visagedb_indexer.evaluation.rates import (
    Floats,
    above,
    below,
    equal_error_rate,
    threshold_at,
    weighted_below,
    weighted_threshold_at,
)

FALSE_MATCH_RATES: Final = (1e-2, 1e-3, 1e-4, 1e-5)
EXPECTED_ERRORS_MIN: Final = 10
"""A rate at which fewer false positives are expected is measured too coarsely to rely on."""
CURVE_POINTS: Final = 160
BAND_POINTS: Final = 40
HISTOGRAM_BINS: Final = 100


@dataclass(frozen=True, slots=True)
class VerificationPoint:
    """What a threshold chosen by its false match rate costs.

    Attributes:
        target_fmr: The rate that was asked for.
        threshold: The lowest that keeps to it.
        threshold_interval: 95%; None where the scores do not reach.
        fmr: The measured rate, at most the target.
        fnmr: Fraction of mates that it refuses.
        fnmr_interval: 95%, with the threshold chosen anew in each repetition.
        reliable: Whether enough impostor pairs stand behind the rate.
    """

    target_fmr: float
    threshold: float
    threshold_interval: Interval | None
    fmr: float
    fnmr: float
    fnmr_interval: Interval | None
    reliable: bool

    @property
    def tar(self) -> float:
        """True accept rate."""
        return 1.0 - self.fnmr


@dataclass(frozen=True, slots=True, eq=False)
class DetCurve:
    """FNMR against FMR.

    Attributes:
        fmr: Descending from 1, shape (n,).
        fnmr: Shape (n,).
        thresholds: Shape (n,).
        band_fmr: Where the band is known, shape (b,).
        band_lower: Of the FNMR, 95%, shape (b,).
        band_upper: The same.
    """

    fmr: Floats
    fnmr: Floats
    thresholds: Floats
    band_fmr: Floats
    band_lower: Floats
    band_upper: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How scores are spread.

    Attributes:
        edges: Of the bins, shape (bins + 1,).
        mates: Fraction of the mate scores in each bin, shape (bins,).
        impostors: The same of the impostors.
    """

    edges: Floats
    mates: Floats
    impostors: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Verification:
    """All about one-to-one comparisons.

    Attributes:
        mate_count: Comparisons of one person's faces.
        impostor_count: Comparisons of different people's faces.
        points: Operating points, by falling FMR.
        equal_error_rate: Where FMR and FNMR meet.
        equal_error_threshold: The threshold there.
        curve: The trade-off.
        histogram: Of the scores.
    """

    mate_count: int
    impostor_count: int
    points: tuple[VerificationPoint, ...]
    equal_error_rate: float
    equal_error_threshold: float
    curve: DetCurve
    histogram: Histogram


def verification(
    comparisons: Comparisons, bootstrap: Bootstrap, rates: Sequence[float] = FALSE_MATCH_RATES
) -> Verification:
    """Error rates of one-to-one comparison.

    Args:
        comparisons: Their scores.
        bootstrap: For the confidence intervals.
        rates: False match rates of the operating points, falling. One at which less than one
            false match is expected is left out.
    """
    mates, impostors = comparisons.mate_scores, comparisons.impostor_scores
    band = _band_rates(comparisons)
    wanted = np.concatenate([np.asarray(rates, dtype=np.float64), band])
    fnmr_draws, threshold_draws = _repetitions(comparisons, bootstrap, wanted)
    error, at = equal_error_rate(mates, impostors)
    return Verification(
        mate_count=len(mates),
        impostor_count=len(impostors),
        points=tuple(
            _point(comparisons, rate, fnmr_draws[:, column], threshold_draws[:, column])
            for column, rate in enumerate(rates)
            # The first is always given, unreliable as it may be.
            if column == 0 or rate * len(impostors) >= 1
        ),
        equal_error_rate=error,
        equal_error_threshold=at,
        curve=_curve(comparisons, band, fnmr_draws[:, len(rates) :]),
        histogram=_histogram(comparisons),
    )


def _repetitions(
    comparisons: Comparisons, bootstrap: Bootstrap, rates: Floats
) -> tuple[Floats, Floats]:
    """FNMR and threshold at each rate in each repetition, both of shape (draws, rates)."""
    highest = comparisons.tail_pairs[::-1]
    scores = comparisons.impostor_scores[::-1][: len(highest)]
    one, other = comparisons.owners[highest].T
    mate_one, mate_other = comparisons.owners[comparisons.mate_pairs].T
    reach = rates * 2 <= comparisons.tail_share if comparisons.tail_share < 1 else rates <= 1
    fnmr = np.full((bootstrap.draws, len(rates)), np.nan)
    thresholds = np.full((bootstrap.draws, len(rates)), np.nan)
    for row, weights in enumerate(bootstrap.weights(comparisons.people)):
        tail = weights[one] * weights[other]
        total = comparisons.impostor_weight(weights, tail)
        if total <= 0:
            continue
        found = weighted_threshold_at(scores, tail, total, rates[reach])
        # A person's pairs weigh as much as the person; in a list of pairs without names
        # every image stands for itself.
        both = np.where(mate_one == mate_other, 1.0, weights[mate_other])
        mates = weights[mate_one] * both
        thresholds[row, reach] = found
        fnmr[row, reach] = weighted_below(comparisons.mate_scores, mates, found)
    return fnmr, thresholds


def _point(
    comparisons: Comparisons, rate: float, fnmr_draws: Floats, threshold_draws: Floats
) -> VerificationPoint:
    mates, impostors = comparisons.mate_scores, comparisons.impostor_scores
    threshold = threshold_at(impostors, rate)
    fnmr = float(below(mates, threshold))
    counts = np.bincount(comparisons.owners[comparisons.mate_pairs[:, 0]])
    return VerificationPoint(
        target_fmr=rate,
        threshold=float(threshold),
        threshold_interval=interval_of(threshold_draws),
        fmr=float(above(impostors, threshold)),
        fnmr=fnmr,
        fnmr_interval=interval_of_rate(fnmr_draws, fnmr, counts),
        reliable=rate * len(impostors) >= EXPECTED_ERRORS_MIN,
    )


def _band_rates(comparisons: Comparisons) -> Floats:
    lowest = min(0.1, EXPECTED_ERRORS_MIN / len(comparisons.impostor_scores))
    return np.geomspace(lowest, 1.0, BAND_POINTS)


def _curve(comparisons: Comparisons, band: Floats, draws: Floats) -> DetCurve:
    mates, impostors = comparisons.mate_scores, comparisons.impostor_scores
    thresholds = threshold_at(impostors, np.geomspace(1.0, 1.0 / len(impostors), CURVE_POINTS))
    known = np.isfinite(draws).any(axis=0) if len(draws) else np.zeros(len(band), dtype=bool)
    counts = np.bincount(comparisons.owners[comparisons.mate_pairs[:, 0]])
    measured = below(mates, threshold_at(impostors, band[known]))
    lower, upper = band_of(draws[:, known], measured, counts)
    return DetCurve(
        fmr=above(impostors, thresholds),
        fnmr=below(mates, thresholds),
        thresholds=thresholds.astype(np.float64),
        band_fmr=band[known],
        band_lower=lower,
        band_upper=upper,
    )


def _histogram(comparisons: Comparisons) -> Histogram:
    mates, impostors = comparisons.mate_scores, comparisons.impostor_scores
    low = float(min(mates[0], impostors[0]))
    high = float(max(mates[-1], impostors[-1]))
    edges = np.linspace(low, max(high, low + 1e-6), HISTOGRAM_BINS + 1)
    counts = [np.histogram(scores, edges)[0] / len(scores) for scores in (mates, impostors)]
    return Histogram(edges, counts[0], counts[1])
