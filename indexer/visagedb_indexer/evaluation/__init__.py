"""How good are the decisions? Error rates from faces whose people are known.

Arrays in, frozen values out: nothing here reads images, galleries or files.
"""

from visagedb_indexer.evaluation.bootstrap import Bootstrap, Interval
from visagedb_indexer.evaluation.errors import (
    InvalidPairListError,
    NothingToEvaluateError,
    TooFewPeopleError,
)
from visagedb_indexer.evaluation.evaluate import (
    Evaluation,
    ScoredPairs,
    Settings,
    evaluate_faces,
    evaluate_pairs,
)
from visagedb_indexer.evaluation.folds import Fold, FoldAccuracy
from visagedb_indexer.evaluation.identification import OpenSet
from visagedb_indexer.evaluation.labelled import LabelledFaces, drawn_people, labelled_faces
from visagedb_indexer.evaluation.mistakes import Mistake
from visagedb_indexer.evaluation.open_set import (
    Identification,
    IdentificationPoint,
    RankPoint,
    SizePoint,
)
from visagedb_indexer.evaluation.quality import QualityBin, QualityEffect
from visagedb_indexer.evaluation.verification import Verification, VerificationPoint

__all__ = [
    "Bootstrap",
    "Evaluation",
    "Fold",
    "FoldAccuracy",
    "Identification",
    "IdentificationPoint",
    "Interval",
    "InvalidPairListError",
    "LabelledFaces",
    "Mistake",
    "NothingToEvaluateError",
    "OpenSet",
    "QualityBin",
    "QualityEffect",
    "RankPoint",
    "ScoredPairs",
    "Settings",
    "SizePoint",
    "TooFewPeopleError",
    "Verification",
    "VerificationPoint",
    "drawn_people",
    "evaluate_faces",
    "evaluate_pairs",
    "labelled_faces",
]
