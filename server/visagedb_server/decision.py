"""MATCH or NO_MATCH: which threshold counts, and what a score means beside it."""

from typing import Literal

from visagedb.v1 import types_pb2
from visagedb_indexer import validation
from visagedb_indexer.errors import NotCalibratedError
from visagedb_indexer.gallery import Gallery
from visagedb_server.extraction import Extractor


def threshold_for(
    asked: types_pb2.OperatingPoint,
    gallery: Gallery | None,
    extractor: Extractor,
    kind: Literal["verify", "identify"],
) -> types_pb2.DecisionBasis:
    """The threshold: the caller's, else the gallery's, else the model card's.

    A basis without a source means that nobody knows one; then nothing is decided.

    Raises:
        InvalidArgumentError: The caller's threshold is not a cosine.
        NotCalibratedError: An error rate was asked for; no gallery is calibrated yet.
    """
    point = asked.WhichOneof("point")
    if point == "max_false_positive_rate":
        raise NotCalibratedError(
            "the gallery is not calibrated, so it cannot answer for an error rate; give a threshold"
        )
    if point == "threshold":
        validation.check_cosine(asked.threshold, "threshold")
        return _basis(asked.threshold, types_pb2.THRESHOLD_SOURCE_REQUEST)
    if gallery is not None and gallery.record.threshold is not None:
        return _basis(gallery.record.threshold, types_pb2.THRESHOLD_SOURCE_GALLERY)
    model = gallery.model if gallery else extractor.default_model()
    default = extractor.threshold(model, kind)
    if default is None:
        return types_pb2.DecisionBasis()
    return _basis(default, types_pb2.THRESHOLD_SOURCE_MODEL)


def decide(score: float, basis: types_pb2.DecisionBasis) -> types_pb2.Decision.ValueType:
    """Whether a score reaches the threshold; UNSPECIFIED when there is none."""
    if not basis.source:
        return types_pb2.DECISION_UNSPECIFIED
    if score >= basis.threshold:
        return types_pb2.DECISION_MATCH
    return types_pb2.DECISION_NO_MATCH


def _basis(
    threshold: float, source: types_pb2.ThresholdSource.ValueType
) -> types_pb2.DecisionBasis:
    return types_pb2.DecisionBasis(threshold=threshold, source=source)
