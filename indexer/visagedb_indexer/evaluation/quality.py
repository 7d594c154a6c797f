"""Do errors follow quality? A quality score is worth having only if they do.

The quality of a pair is that of its worse face. The error-versus-discard curve leaves out the
pairs of lowest quality first and keeps the threshold (Grother and Tabassi, "Performance of
biometric quality measures", 2007; ISO/IEC 29794-1).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.evaluation.bootstrap import Bootstrap, Interval, interval_of_rate
from visagedb_indexer.evaluation.comparisons import Comparisons
from visagedb_indexer.evaluation.rates import Floats, Indices, threshold_at

BINS: Final = 5
TARGET_FMR: Final = 1e-3
DISCARD_MAX: Final = 0.5
DISCARD_POINTS: Final = 51


@dataclass(frozen=True, slots=True)
class QualityBin:
    """Mate pairs of similar quality.

    Attributes:
        lowest: Quality of the worst pair.
        highest: Quality of the best pair.
        pairs: How many there are.
        fnmr: Fraction of them that is refused.
        fnmr_interval: 95%.
    """

    lowest: float
    highest: float
    pairs: int
    fnmr: float
    fnmr_interval: Interval | None


@dataclass(frozen=True, slots=True, eq=False)
class QualityEffect:
    """Error against quality.

    Attributes:
        target_fmr: Chooses the threshold, over all pairs.
        threshold: The same for all qualities.
        bins: By rising quality, about equally many pairs each; pairs of the same quality stay
            together.
        discarded: Fraction of the mate pairs left out, worst first; shape (n,).
        fnmr: Of those that remain, shape (n,).
        ideal_fnmr: If the refused pairs were exactly those left out first, shape (n,).
    """

    target_fmr: float
    threshold: float
    bins: tuple[QualityBin, ...]
    discarded: Floats
    fnmr: Floats
    ideal_fnmr: Floats


def quality_effect(
    comparisons: Comparisons, quality: Floats, bootstrap: Bootstrap
) -> QualityEffect | None:
    """Error of mate pairs against their quality.

    Args:
        comparisons: Of the faces.
        quality: Of each face, NaN where it is not known; shape (n,).
        bootstrap: For the confidence intervals.

    Returns:
        None when the quality of too few faces is known.
    """
    of_pairs = quality[comparisons.mate_pairs].min(axis=1)
    known = np.flatnonzero(np.isfinite(of_pairs))
    if len(known) < BINS:
        return None
    threshold = threshold_at(comparisons.impostor_scores, TARGET_FMR)
    order = known[np.argsort(of_pairs[known], kind="stable")]
    refused = comparisons.mate_scores[order] < threshold
    owners = comparisons.owners[comparisons.mate_pairs[order, 0]]
    fractions = np.linspace(0, DISCARD_MAX, DISCARD_POINTS)
    left_out = np.floor(fractions * len(order)).astype(np.int64)
    # Among pairs of the same quality no order is meant: each has their mean error.
    _, same = np.unique(of_pairs[order], return_inverse=True)
    mean = np.bincount(same, refused) / np.bincount(same)
    errors = np.concatenate([[0.0], np.cumsum(mean[same])])
    remaining = len(order) - left_out
    return QualityEffect(
        target_fmr=TARGET_FMR,
        threshold=float(threshold),
        bins=_bins(of_pairs[order], refused, owners, comparisons.people, bootstrap),
        discarded=fractions,
        fnmr=(errors[-1] - errors[left_out]) / remaining,
        ideal_fnmr=np.maximum(errors[-1] - left_out, 0) / remaining,
    )


def _bins(
    quality: Floats, refused: NDArray[np.bool_], owners: Indices, people: int, bootstrap: Bootstrap
) -> tuple[QualityBin, ...]:
    edges = np.unique(np.quantile(quality, np.linspace(0, 1, BINS + 1)))
    number = np.clip(np.searchsorted(edges, quality, side="right") - 1, 0, max(0, len(edges) - 2))
    parts = np.split(np.arange(len(quality)), np.flatnonzero(np.diff(number)) + 1)
    number = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    draws = np.full((bootstrap.draws, len(parts)), np.nan)
    for row, weights in enumerate(bootstrap.weights(people)):
        weight = weights[owners]
        pairs = np.bincount(number, weight, len(parts))
        errors = np.bincount(number, weight * refused, len(parts))
        draws[row] = np.divide(errors, pairs, out=draws[row], where=pairs > 0)
    return tuple(
        QualityBin(
            lowest=float(quality[part[0]]),
            highest=float(quality[part[-1]]),
            pairs=len(part),
            fnmr=float(refused[part].mean()),
            fnmr_interval=interval_of_rate(
                draws[:, index], float(refused[part].mean()), np.bincount(owners[part])
            ),
        )
        for index, part in enumerate(parts)
    )
