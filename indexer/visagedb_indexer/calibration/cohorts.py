"""Are the error rates the same for everybody? Impostors among the identities of one cohort.

A camera, a site or a group whose people resemble each other more than the gallery's do has more
false matches at the same threshold. For every value of a label, faces of its identities are
compared with each other, and the rate at the gallery's threshold is tested against the
gallery's.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from visagedb_indexer.calibration.impostors import Impostors, Suspects, dyadic_variance, face_pairs
from visagedb_indexer.calibration.sample import Faces, Pause, VectorSource, compare
from visagedb_indexer.calibration.tail import Floats, Tail
from visagedb_indexer.calibration.values import Cohort, CohortTable

COHORTS_MAX: Final = 64
COHORT_PEOPLE_MIN: Final = 30
"""Fewer identities have too few pairs to say anything of."""
RATE_DEFAULT: Final = 1e-3
_PROBES_MAX: Final = 2048
_REFERENCES_MAX: Final = 4096
_LEVEL_RATE: Final = 0.1
_SIGNIFICANCE: Final = 0.05


def cohort_table(
    source: VectorSource,
    faces: Faces,
    values: NDArray[np.int64],
    names: tuple[str, ...],
    label_key: str,
    tail: Tail,
    suspects: Suspects,
    seed: int,
    pause: Pause,
    rate: float = RATE_DEFAULT,
) -> CohortTable:
    """Measures every value of a label.

    Args:
        source: The stored vectors.
        faces: All faces.
        values: Which of the names each person has, -1 for none; shape (people,).
        names: The label's values.
        label_key: The label.
        tail: Of the whole gallery's pairs.
        suspects: Pairs of people that do not count.
        seed: Of all that is drawn.
        pause: Called between blocks of work.
        rate: False match rate at which the cohorts are compared.
    """
    sizes = np.bincount(values[values >= 0], minlength=len(names))
    order = np.argsort(-sizes, kind="stable")
    chosen = [int(value) for value in order if sizes[value] >= COHORT_PEOPLE_MIN][:COHORTS_MAX]
    threshold = tail.score(rate)
    random = np.random.default_rng(seed)
    found = []
    for value in chosen:
        kept = values[faces.people] == value
        mine = Faces.of(faces.ordinals[kept], faces.people[kept])
        probes = mine.draw(_PROBES_MAX, random)
        references = mine.draw(_REFERENCES_MAX, random)
        compared = compare(source, probes, references, tail.score(_LEVEL_RATE), pause)
        pairs = face_pairs(compared, probes, references)
        pairs = pairs.where(~np.isin(pairs.keys(), suspects.keys))
        measured = _measured(pairs, threshold, rate, len(chosen))
        found.append(
            Cohort(
                value=names[value],
                identity_count=int(sizes[value]),
                pair_count=compared.pair_count,
                rate=pairs.rate(threshold),
                rate_lower=measured[0],
                rate_upper=measured[1],
                threshold=_needed(pairs, rate, tail),
                unequal=measured[2],
            )
        )
    return CohortTable(label_key, rate, threshold, tuple(found), len(names) - len(found))


def _measured(
    pairs: Impostors, threshold: float, rate: float, cohorts: int
) -> tuple[float, float, bool]:
    """The interval of a cohort's rate, and whether it differs from the gallery's."""
    above = pairs.where(pairs.scores > threshold)
    # So many independent pairs of people would vary as much as these do.
    each = max(dyadic_variance(above) / max(above.weights.sum(), 1e-300), 1e-300)
    if not len(above):
        each = 2.0 * float(pairs.weights.mean()) if len(pairs) else 1.0
    hits, trials = above.weights.sum() / each, pairs.total / each
    lower, upper = _poisson(hits, _SIGNIFICANCE)
    strict_lower, strict_upper = _poisson(hits, _SIGNIFICANCE / max(1, cohorts))
    unequal = not strict_lower <= rate * trials <= strict_upper
    return float(lower / trials), float(min(trials, upper) / trials), bool(unequal)


def _poisson(hits: float, significance: float) -> tuple[float, float]:
    """Interval of a Poisson mean (Garwood 1936), also for counts that are no whole number."""
    lower = stats.gamma.ppf(significance / 2, hits) if hits > 0 else 0.0
    return float(lower), float(stats.gamma.isf(significance / 2, hits + 1))


def _needed(pairs: Impostors, rate: float, tail: Tail) -> float:
    """The threshold at which this cohort has a rate."""
    order = np.argsort(-pairs.scores)
    above: Floats = np.cumsum(pairs.weights[order]) / pairs.total
    place = int(np.searchsorted(above, rate))
    if place >= len(order):
        return tail.score(_LEVEL_RATE)
    if place == 0:
        return float(min(1.0, np.nextafter(pairs.scores[order[0]], math.inf)))
    return float(pairs.scores[order[place]])
