"""MATCH or NO_MATCH: which threshold counts, and how often a stranger scores as high.

An error rate or a score is read from the gallery's calibration, before there is one from the
model card's table of false match rates.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from visagedb.v1 import types_pb2
from visagedb_indexer import validation
from visagedb_indexer.calibration import Calibration
from visagedb_indexer.errors import InvalidArgumentError, NotCalibratedError
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.values import Fusion
from visagedb_server.extraction import Extractor

Kind = Literal["verify", "identify"]

_DEFAULT_RATES: Final[Mapping[Kind, float]] = {"verify": 1e-4, "identify": 1e-2}
"""Where a calibrated gallery decides when neither a rate nor a threshold was given."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What is to be decided.

    Attributes:
        kind: One to one, or one to many.
        size: Compared with it: faces of the reference, or identities searched.
        fused: Whether the reference's faces make one template, one to one.
    """

    kind: Kind
    size: int = 1
    fused: bool = False

    @classmethod
    def of_identity(cls, gallery: Gallery, faces: int) -> "Trial":
        """A face against an identity with so many faces."""
        if faces > 1 and gallery.record.fusion is not Fusion.MAXIMUM:
            return cls("verify", 1, fused=True)
        return cls("verify", faces)


def threshold_for(
    asked: types_pb2.OperatingPoint, gallery: Gallery | None, extractor: Extractor, trial: Trial
) -> types_pb2.DecisionBasis:
    """The threshold: the caller's, else the gallery's, its calibration's, or the model card's.

    A basis without a source means that nobody knows one; then nothing is decided.

    Raises:
        InvalidArgumentError: The caller's threshold is not a cosine, or the rate not a rate.
        NotCalibratedError: An error rate was asked for; neither a calibration nor a model card
            answers for one.
    """
    point = asked.WhichOneof("point")
    if point == "max_false_positive_rate":
        return _for_rate(asked.max_false_positive_rate, gallery, extractor, trial)
    if point == "threshold":
        validation.check_cosine(asked.threshold, "threshold")
        return _basis(asked.threshold, types_pb2.THRESHOLD_SOURCE_REQUEST)
    if gallery is not None and gallery.record.threshold is not None:
        return _basis(gallery.record.threshold, types_pb2.THRESHOLD_SOURCE_GALLERY)
    calibration = gallery.calibrations.latest if gallery else None
    if calibration is not None:
        basis = _calibrated(_DEFAULT_RATES[trial.kind], calibration, trial)
        basis.max_false_positive_rate = 0.0
        return basis
    model = gallery.model if gallery else extractor.default_model()
    default = extractor.threshold(model, trial.kind)
    if default is None:
        return types_pb2.DecisionBasis()
    return _basis(default, types_pb2.THRESHOLD_SOURCE_MODEL)


def decide(score: float, basis: types_pb2.DecisionBasis) -> types_pb2.Decision.ValueType:
    """Whether a score reaches the threshold; UNSPECIFIED when there is none."""
    if not basis.source:
        return types_pb2.DECISION_UNSPECIFIED
    # The threshold as the caller is told it, a float32, so that the answer is its own proof.
    if score >= basis.threshold:
        return types_pb2.DECISION_MATCH
    return types_pb2.DECISION_NO_MATCH


def false_positive_probability(
    score: float, gallery: Gallery | None, extractor: Extractor, trial: Trial
) -> float | None:
    """How often a stranger scores as high; None when nothing tells."""
    calibration = gallery.calibrations.latest if gallery else None
    if calibration is not None:
        if trial.kind == "identify":
            return calibration.false_positive_rate(score, max(1, trial.size))
        if trial.fused:
            return calibration.search_rate(score)
        return min(1.0, trial.size * calibration.false_match_rate(score))
    table = _card_table(gallery, extractor)
    if table is None:
        return None
    return min(1.0, _comparisons(gallery, trial) * table.rate(score))


def _for_rate(
    rate: float, gallery: Gallery | None, extractor: Extractor, trial: Trial
) -> types_pb2.DecisionBasis:
    if not 0.0 < rate < 1.0:
        raise InvalidArgumentError(
            "max_false_positive_rate must be over 0 and under 1",
            {"field": "operating_point.max_false_positive_rate"},
        )
    calibration = gallery.calibrations.latest if gallery else None
    if calibration is not None:
        return _calibrated(rate, calibration, trial)
    table = _card_table(gallery, extractor)
    if table is None:
        raise NotCalibratedError(
            "the gallery is not calibrated and its model's card has no table of error rates; "
            "calibrate the gallery, or give a threshold"
        )
    each = rate / _comparisons(gallery, trial)
    basis = _basis(table.threshold(each), types_pb2.THRESHOLD_SOURCE_MODEL)
    basis.max_false_positive_rate = rate
    basis.extrapolated = each < table.lowest
    return basis


def _calibrated(rate: float, calibration: Calibration, trial: Trial) -> types_pb2.DecisionBasis:
    if trial.kind == "identify":
        searched = max(1, trial.size)
        threshold = calibration.false_positive_threshold(rate, searched)
        supported = calibration.supports_false_positive(rate, searched)
    elif trial.fused:
        threshold = calibration.search_threshold(rate)
        supported = calibration.supports_search(rate)
    else:
        # A stranger may match any of the identity's faces: each gets its share of the rate.
        each = rate / max(1, trial.size)
        threshold = calibration.false_match_threshold(each)
        supported = calibration.supports_false_match(each)
    return types_pb2.DecisionBasis(
        threshold=threshold,
        source=types_pb2.THRESHOLD_SOURCE_CALIBRATION,
        calibration_version=str(calibration.version),
        max_false_positive_rate=rate,
        extrapolated=not supported,
    )


def _comparisons(gallery: Gallery | None, trial: Trial) -> float:
    """Faces that a stranger is compared with."""
    if trial.kind == "verify" or gallery is None:
        return max(1, trial.size)
    counters = gallery.counters
    return max(1.0, trial.size * counters.face_count / max(1, counters.identity_count))


class _CardTable:
    """A model card's false match rates; between and beyond them straight in the logarithm.

    Beyond the lowest rate a straight line asks for more than the light tail of cosines does.
    """

    def __init__(self, rates: Mapping[float, float]) -> None:
        falling = sorted(rates.items(), reverse=True)
        self._logs = np.log([rate for rate, _ in falling])
        self._scores = np.array([score for _, score in falling])
        self.lowest = falling[-1][0]

    def threshold(self, rate: float) -> float:
        """The cosine for a rate, within what a cosine can be."""
        found = _line(-math.log(rate), -self._logs, self._scores)
        return max(-1.0, min(1.0, found))

    def rate(self, score: float) -> float:
        """The rate at a cosine."""
        return min(1.0, math.exp(_line(score, self._scores, self._logs)))


def _line(x: float, xs: np.ndarray, ys: np.ndarray) -> float:
    """Piecewise linear, the first and last pieces going on."""
    at = int(np.clip(np.searchsorted(xs, x), 1, len(xs) - 1))
    slope = (ys[at] - ys[at - 1]) / (xs[at] - xs[at - 1])
    return float(ys[at - 1] + slope * (x - xs[at - 1]))


def _card_table(gallery: Gallery | None, extractor: Extractor) -> _CardTable | None:
    model = gallery.model if gallery else extractor.default_model()
    rates = extractor.false_match_rates(model)
    return _CardTable(rates) if len(rates) > 1 else None


def _basis(
    threshold: float, source: types_pb2.ThresholdSource.ValueType
) -> types_pb2.DecisionBasis:
    return types_pb2.DecisionBasis(threshold=threshold, source=source)
