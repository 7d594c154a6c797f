"""Open-set identification of people split into tuning and test, and its errors.

Each split draws half of the people for tuning; whatever is fitted is fitted on them alone. Of
the others, those with enough photographs are enrolled with some of them, drawn at random, and
searched for with the rest; those with a single photograph are strangers. FNIR at a FPIR is the
share of the mated searches whose mate is not first, or below the threshold that so many of the
strangers reach.

Half of the people in each of many splits is the delete-half jackknife (Shao and Wu 1989): the
spread of a figure over the splits estimates its standard error over people, so the 2.5th and
97.5th percentiles are given as 95% intervals.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Scores: TypeAlias = NDArray[np.float32]
Rows: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """One draw.

    Attributes:
        tuning: Which photographs belong to the people for tuning, shape (n,), bool.
        enrolled: Photographs of each person in the gallery, shape (people, each).
        probes: Photographs that are searched for, shape (m,).
        mates: Whose they are, as rows of `enrolled`, shape (m,).
        strangers: Photographs of people who are not enrolled.
    """

    tuning: NDArray[np.bool_]
    enrolled: Rows
    probes: Rows
    mates: Rows
    strangers: Rows

    @classmethod
    def draw(cls, names: NDArray[np.str_], each: int, seed: int) -> "Split":
        """A split of the people with these names, one for each photograph."""
        random = np.random.default_rng(seed)
        people, index, counts = np.unique(names, return_inverse=True, return_counts=True)
        for_tuning = np.zeros(len(people), bool)
        for_tuning[random.permutation(len(people))[: len(people) // 2]] = True
        shuffled = random.permutation(len(names))
        order = shuffled[np.argsort(index[shuffled], kind="stable")]
        photographs = np.split(order, np.cumsum(counts)[:-1])
        enrolled: list[Rows] = []
        probes: list[int] = []
        mates: list[int] = []
        strangers: list[int] = []
        for person in np.flatnonzero(~for_tuning):
            own = photographs[person]
            if len(own) > each:
                mates.extend([len(enrolled)] * (len(own) - each))
                enrolled.append(own[:each])
                probes.extend(own[each:])
            elif len(own) == 1:
                strangers.extend(own)
        return cls(
            for_tuning[index],
            np.array(enrolled),
            np.array(probes),
            np.array(mates),
            np.array(strangers),
        )


def fnir(mated: Scores, mates: Rows, strangers: Scores, fpir: float = 0.01) -> float:
    """FNIR of searches, from their scores against every identity.

    Args:
        mated: Shape (searches, identities).
        mates: Which identity is right, shape (searches,).
        strangers: Scores of searches without a mate, shape (strangers, identities).
        fpir: Share of the strangers that may reach the threshold.
    """
    best = np.sort(strangers.max(axis=1))[::-1]
    allowed = int(fpir * len(best))
    own = mated[np.arange(len(mates)), mates]
    # The threshold lies above the first stranger that may not pass.
    return float(np.mean((own <= best[allowed]) | (mated.max(axis=1) > own)))


@dataclass(frozen=True, slots=True)
class Figure:
    """FNIR over many splits, and by how much it is lower than a reference's."""

    fnir: float
    lower: float
    upper: float
    reduction: float
    reduction_lower: float
    reduction_upper: float

    @classmethod
    def of(cls, values: list[float], reference: list[float]) -> "Figure":
        """From the values of a method and of the reference in the same splits."""
        rates, base = np.array(values), np.array(reference)
        known = base > 0
        reductions = 1 - rates[known] / base[known]
        low, high = np.percentile(rates, [2.5, 97.5])
        reduction_low, reduction_high = np.percentile(reductions, [2.5, 97.5])
        return cls(
            float(rates.mean()), float(low), float(high),
            float(1 - rates.mean() / base.mean()), float(reduction_low), float(reduction_high),
        )  # fmt: skip
