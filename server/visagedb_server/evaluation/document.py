"""An evaluation as plain values, ready for JSON."""

import dataclasses
import math
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from visagedb_indexer.evaluation import Evaluation, Mistake
from visagedb_server.evaluation.values import Subject

SCHEMA = 1


def document(subject: Subject, evaluation: Evaluation) -> dict[str, Any]:
    """Everything that was measured, and on what. Rates are fractions, scores are cosines."""
    about = plain(subject)
    del about["references"]
    about["failure_counts"] = subject.failure_counts
    return {
        "schema": SCHEMA,
        "subject": about,
        "verification": {
            **plain(evaluation.verification),
            "points": [
                {**plain(point), "tar": point.tar} for point in evaluation.verification.points
            ],
        },
        "identification": plain(evaluation.identification),
        "quality": plain(evaluation.quality),
        "folds": plain(evaluation.folds),
        "false_matches": [_mistake(subject, m) for m in evaluation.false_matches],
        "false_non_matches": [_mistake(subject, m) for m in evaluation.false_non_matches],
    }


def plain(value: Any) -> Any:
    """Dicts, lists, strings and numbers; what is not a number becomes None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (datetime, Path)):
        return value.isoformat() if isinstance(value, datetime) else str(value)
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _mistake(subject: Subject, mistake: Mistake) -> dict[str, Any]:
    one, other = subject.references[mistake.one], subject.references[mistake.other]
    return {
        "score": mistake.score,
        "one": {"name": one.name, "person": one.person},
        "other": {"name": other.name, "person": other.person},
    }
