"""Which threshold counts, and how often a stranger scores as high.

The caller's threshold, else the gallery's, its calibration's, or the model card's. An error rate
or a score is read from the calibration, before there is one from the card's table of false match
rates.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, TypeAlias

import numpy as np

from visagedb_indexer import validation
from visagedb_indexer.calibration import Calibration
from visagedb_indexer.errors import NotCalibratedError
from visagedb_indexer.faces.cards import Thresholds
from visagedb_indexer.values import Fusion, ModelIdentity

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
    def of_identity(cls, fusion: Fusion, faces: int) -> "Trial":
        """A face against an identity with so many faces, in a gallery that fuses so."""
        if faces > 1 and fusion is not Fusion.MAXIMUM:
            return cls("verify", 1, fused=True)
        return cls("verify", max(1, faces))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the scores of strangers.

    Attributes:
        threshold: The gallery's own; None if it has none.
        calibration: The gallery's latest; None if there is none.
        card: What the model's card says; None if it says nothing.
        faces_per_identity: Of the gallery, on average; 1 at least.
    """

    threshold: float | None = None
    calibration: Calibration | None = None
    card: Thresholds | None = None
    faces_per_identity: float = 1.0


CardThresholds: TypeAlias = Callable[[ModelIdentity], Thresholds | None]
"""What a model's card says of thresholds; None if it says nothing, or there is no card."""


def no_card(_model: ModelIdentity) -> Thresholds | None:
    """Where no card is known."""
    return None


class ThresholdSource(StrEnum):
    """Where a threshold comes from."""

    REQUEST = "request"
    GALLERY = "gallery"
    CALIBRATION = "calibration"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A cosine to decide by.

    Attributes:
        value: The cosine.
        source: Where it comes from.
        rate: The error rate asked for; 0 when none was.
        calibration_version: Of the calibration used; 0 without one.
        extrapolated: Nothing that was measured reaches that rate.
    """

    value: float
    source: ThresholdSource
    rate: float = 0.0
    calibration_version: int = 0
    extrapolated: bool = False


def threshold_for(
    evidence: Evidence, trial: Trial, *, threshold: float | None = None, rate: float | None = None
) -> Threshold | None:
    """The threshold that counts; None when nobody knows one.

    Args:
        evidence: What is known.
        trial: What is to be decided.
        threshold: The caller's own; it wins.
        rate: The error rate that the caller asks for instead.

    Raises:
        InvalidArgumentError: The threshold is not a cosine, or the rate not a rate.
        NotCalibratedError: An error rate was asked for; neither a calibration nor a model card
            answers for one.
    """
    if rate is not None:
        return _for_rate(rate, evidence, trial)
    if threshold is not None:
        validation.check_cosine(threshold, "threshold")
        return Threshold(threshold, ThresholdSource.REQUEST)
    if evidence.threshold is not None:
        return Threshold(evidence.threshold, ThresholdSource.GALLERY)
    if evidence.calibration is not None:
        return _calibrated(_DEFAULT_RATES[trial.kind], evidence.calibration, trial, asked=False)
    card = evidence.card
    if card is None:
        return None
    default = card.verify if trial.kind == "verify" else card.identify
    return Threshold(default, ThresholdSource.MODEL)


def false_positive_probability(score: float, evidence: Evidence, trial: Trial) -> float | None:
    """How often a stranger scores as high; None when nothing tells."""
    calibration = evidence.calibration
    if calibration is not None:
        if trial.kind == "identify":
            return calibration.false_positive_rate(score, max(1, trial.size))
        if trial.fused:
            return calibration.search_rate(score)
        return min(1.0, trial.size * calibration.false_match_rate(score))
    table = _card_table(evidence)
    if table is None:
        return None
    return min(1.0, _comparisons(evidence, trial) * table.rate(score))


def _for_rate(rate: float, evidence: Evidence, trial: Trial) -> Threshold:
    validation.check_rate(rate, "operating_point.max_false_positive_rate")
    if evidence.calibration is not None:
        return _calibrated(rate, evidence.calibration, trial, asked=True)
    table = _card_table(evidence)
    if table is None:
        raise NotCalibratedError(
            "the gallery is not calibrated and its model's card has no table of error rates; "
            "calibrate the gallery, or give a threshold"
        )
    each = rate / _comparisons(evidence, trial)
    return Threshold(
        table.threshold(each), ThresholdSource.MODEL, rate, extrapolated=each < table.lowest
    )


def _calibrated(rate: float, calibration: Calibration, trial: Trial, *, asked: bool) -> Threshold:
    if trial.kind == "identify":
        searched = max(1, trial.size)
        value = calibration.false_positive_threshold(rate, searched)
        supported = calibration.supports_false_positive(rate, searched)
    elif trial.fused:
        value = calibration.search_threshold(rate)
        supported = calibration.supports_search(rate)
    else:
        # A stranger may match any of the identity's faces: each gets its share of the rate.
        each = rate / max(1, trial.size)
        value = calibration.false_match_threshold(each)
        supported = calibration.supports_false_match(each)
    return Threshold(
        value,
        ThresholdSource.CALIBRATION,
        rate if asked else 0.0,
        calibration.version,
        not supported,
    )


def _comparisons(evidence: Evidence, trial: Trial) -> float:
    """Faces that a stranger is compared with."""
    if trial.kind == "verify":
        return max(1, trial.size)
    return max(1.0, trial.size * evidence.faces_per_identity)


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


def _card_table(evidence: Evidence) -> _CardTable | None:
    rates = evidence.card.false_match_rates if evidence.card else {}
    return _CardTable(rates) if len(rates) > 1 else None
