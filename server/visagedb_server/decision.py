"""MATCH or NO_MATCH, and what the answer tells of the threshold behind it."""

from typing import Final

from visagedb.v1 import types_pb2
from visagedb_indexer import operating_points
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.operating_points import Evidence, ThresholdSource, Trial
from visagedb_server.extraction import Extractor

_SOURCES: Final = {
    ThresholdSource.REQUEST: types_pb2.THRESHOLD_SOURCE_REQUEST,
    ThresholdSource.GALLERY: types_pb2.THRESHOLD_SOURCE_GALLERY,
    ThresholdSource.CALIBRATION: types_pb2.THRESHOLD_SOURCE_CALIBRATION,
    ThresholdSource.MODEL: types_pb2.THRESHOLD_SOURCE_MODEL,
}


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
    found = operating_points.threshold_for(
        _evidence(gallery, extractor),
        trial,
        threshold=asked.threshold if point == "threshold" else None,
        rate=asked.max_false_positive_rate if point == "max_false_positive_rate" else None,
    )
    if found is None:
        return types_pb2.DecisionBasis()
    return types_pb2.DecisionBasis(
        threshold=found.value,
        source=_SOURCES[found.source],
        calibration_version=str(found.calibration_version or ""),
        max_false_positive_rate=found.rate,
        extrapolated=found.extrapolated,
    )


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
    return operating_points.false_positive_probability(score, _evidence(gallery, extractor), trial)


def _evidence(gallery: Gallery | None, extractor: Extractor) -> Evidence:
    if gallery is None:
        return Evidence(card=extractor.thresholds(extractor.default_model()))
    return gallery.evidence()
