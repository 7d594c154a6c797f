"""Everything that is measured, in one value."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from visagedb_indexer.evaluation.bootstrap import Bootstrap
from visagedb_indexer.evaluation.comparisons import Comparisons, compare_all, compare_pairs
from visagedb_indexer.evaluation.folds import FoldAccuracy, drawn_folds, fold_accuracy
from visagedb_indexer.evaluation.identification import OpenSet, search_splits
from visagedb_indexer.evaluation.labelled import LabelledFaces
from visagedb_indexer.evaluation.mistakes import Mistake, false_matches, false_non_matches
from visagedb_indexer.evaluation.open_set import Identification, identification
from visagedb_indexer.evaluation.quality import QualityEffect, quality_effect
from visagedb_indexer.evaluation.rates import Floats, Indices, Scores
from visagedb_indexer.evaluation.verification import Verification, verification

FOLDS: Final = 10
MISTAKES: Final = 12


@dataclass(frozen=True, slots=True)
class Settings:
    """How an evaluation is made.

    Attributes:
        open_set: How people are divided for identification.
        bootstrap: For the confidence intervals.
        mistakes: How many of the most confident mistakes of each kind are listed.
    """

    open_set: OpenSet = field(default_factory=OpenSet)
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    mistakes: int = MISTAKES


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What was measured.

    Attributes:
        verification: One to one.
        identification: One to many; None for a list of pairs, or without enough people.
        quality: Error against quality; None when no quality is known.
        folds: The pairs protocol; None unless a list of pairs was given.
        false_matches: Impostor pairs with the highest scores.
        false_non_matches: Mate pairs with the lowest scores.
    """

    verification: Verification
    identification: Identification | None
    quality: QualityEffect | None
    folds: FoldAccuracy | None
    false_matches: tuple[Mistake, ...]
    false_non_matches: tuple[Mistake, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ScoredPairs:
    """A list of pairs and their scores.

    Attributes:
        scores: Shape (n,).
        same: Whether the list says that a pair shows one person.
        pairs: Numbers of the two images of each pair, shape (n, 2).
        owners: The person of each image, or any number that is the image's own.
        quality: Of each image's face, NaN where unknown.
        folds: Fold of each pair; None when the list names none.
    """

    scores: Scores
    same: Sequence[bool]
    pairs: Indices
    owners: Indices
    quality: Floats
    folds: Indices | None = None


def evaluate_faces(faces: LabelledFaces, settings: Settings) -> Evaluation:
    """All against all, and identification with strangers.

    Raises:
        LimitExceededError: There are more than `limits.EVALUATED_FACES_MAX` faces.
    """
    splits = list(search_splits(faces, settings.open_set))
    # Numbers of faces differ between splits, so it can happen that some have no mated probe.
    found = identification(splits, settings.open_set, len(faces.people), settings.bootstrap)
    return _evaluation(compare_all(faces), faces.quality, found, None, settings)


def evaluate_pairs(listed: ScoredPairs, settings: Settings) -> Evaluation:
    """A list of pairs: accuracy over folds, and the error rates of its pairs.

    Raises:
        InvalidPairListError: There are no pairs of one person, or none of two, or fewer than
            two folds.
    """
    comparisons = compare_pairs(listed.scores, listed.same, listed.pairs, listed.owners)
    same = np.asarray(listed.same, dtype=bool)
    folds = listed.folds
    if folds is None:
        folds = drawn_folds(same, FOLDS, settings.bootstrap.seed)
    accuracy = fold_accuracy(listed.scores, same, folds, given=listed.folds is not None)
    return _evaluation(comparisons, listed.quality, None, accuracy, settings)


def _evaluation(
    comparisons: Comparisons,
    quality: Floats,
    found: Identification | None,
    folds: FoldAccuracy | None,
    settings: Settings,
) -> Evaluation:
    return Evaluation(
        verification=verification(comparisons, settings.bootstrap),
        identification=found,
        quality=quality_effect(comparisons, quality, settings.bootstrap),
        folds=folds,
        false_matches=false_matches(comparisons, settings.mistakes),
        false_non_matches=false_non_matches(comparisons, settings.mistakes),
    )
