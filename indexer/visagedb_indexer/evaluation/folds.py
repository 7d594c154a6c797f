"""The pairs protocol of Labelled Faces in the Wild: accuracy over folds.

The threshold for a fold is the one that decides most pairs of all the other folds rightly.
The mean accuracy and its standard error over the folds are the figures that the literature
gives (Huang, Ramesh, Berg, Learned-Miller, "Labeled Faces in the Wild", 2007, View 2).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.evaluation.errors import InvalidPairListError
from visagedb_indexer.evaluation.rates import Indices, Scores


@dataclass(frozen=True, slots=True)
class Fold:
    """One part of the pairs.

    Attributes:
        accuracy: Fraction of its pairs decided rightly.
        threshold: Chosen on the other folds.
        pairs: How many it has.
    """

    accuracy: float
    threshold: float
    pairs: int


@dataclass(frozen=True, slots=True)
class FoldAccuracy:
    """The protocol's outcome.

    Attributes:
        accuracy: Mean over the folds.
        standard_error: Of the mean.
        folds: The single ones.
        given: Whether the list itself says which pairs are a fold.
    """

    accuracy: float
    standard_error: float
    folds: tuple[Fold, ...]
    given: bool


def fold_accuracy(
    scores: Scores, same: NDArray[np.bool_], folds: Indices, *, given: bool
) -> FoldAccuracy:
    """Accuracy with each fold's threshold chosen on the others.

    Args:
        scores: Shape (n,).
        same: Whether a pair shows one person, shape (n,).
        folds: Number of each pair's fold, shape (n,).
        given: Whether the folds come from the list.

    Raises:
        InvalidPairListError: There are fewer than two folds.
    """
    numbers = np.unique(folds)
    if len(numbers) < 2:
        raise InvalidPairListError("the protocol needs at least two folds")
    results = []
    for number in numbers:
        test = folds == number
        threshold = best_threshold(scores[~test], same[~test])
        right = (scores[test] >= threshold) == same[test]
        results.append(Fold(float(right.mean()), threshold, int(test.sum())))
    accuracies = np.array([fold.accuracy for fold in results])
    return FoldAccuracy(
        accuracy=float(accuracies.mean()),
        standard_error=float(accuracies.std(ddof=1) / np.sqrt(len(accuracies))),
        folds=tuple(results),
        given=given,
    )


def best_threshold(scores: Scores, same: NDArray[np.bool_]) -> float:
    """The threshold that decides most pairs rightly.

    It lies half-way between two neighbouring scores; of several equally good ones it is the
    middle one.
    """
    order = np.argsort(scores)
    values, mated = scores[order].astype(np.float64), same[order]
    # Threshold k refuses the k lowest pairs: right are the impostors among them and the
    # mates among the others.
    refused_impostors = np.concatenate([[0], np.cumsum(~mated)])
    kept_mates = mated.sum() - np.concatenate([[0], np.cumsum(mated)])
    cuts = np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2, [values[-1] + 1]])
    distinct = np.concatenate([[True], values[1:] > values[:-1], [True]])
    right = np.where(distinct, refused_impostors + kept_mates, -1)
    best = np.flatnonzero(right == right.max())
    return float(cuts[best[(len(best) - 1) // 2]])


def drawn_folds(same: NDArray[np.bool_], count: int, seed: int) -> Indices:
    """Folds for a list that names none: at random, with both kinds of pairs in each alike.

    Args:
        same: Whether a pair shows one person, shape (n,).
        count: Number of folds.
        seed: Of the random generator.

    Returns:
        Number of each pair's fold, shape (n,).
    """
    random = np.random.default_rng(seed)
    folds = np.empty(len(same), dtype=np.int64)
    for kind in (True, False):
        members = random.permutation(np.flatnonzero(same == kind))
        folds[members] = np.arange(len(members)) % count
    return folds
