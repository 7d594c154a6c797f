"""Checks on what callers send, before anything is done with it."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from visagedb_indexer import limits
from visagedb_indexer.errors import (
    InvalidArgumentError,
    InvalidLabelsError,
    InvalidNameError,
    InvalidVectorError,
    ModelMismatchError,
)
from visagedb_indexer.gate_values import QUALITY_REASONS, GateSettings
from visagedb_indexer.values import ModelIdentity, Quotas, Vector

_ID: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_IDS: Final = re.compile(rf"(?:[A-Za-z0-9_-][A-Za-z0-9._-]{{0,{limits.ID_LENGTH_MAX - 1}}}\n)*")
_LABEL_KEY: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")


def check_id(value: str, what: str) -> str:
    """A gallery, identity or face id.

    Raises:
        InvalidNameError: Wrong characters or length.
    """
    if len(value) > limits.ID_LENGTH_MAX or not _ID.fullmatch(value):
        raise InvalidNameError(
            f"{value[:200]!r} is not a valid {what} id: 1 to {limits.ID_LENGTH_MAX} of the "
            "characters a-z A-Z 0-9 . _ - and not starting with a dot",
            {"field": what},
        )
    return value


def are_ids(values: Iterable[str]) -> bool:
    """Whether all are valid ids: cheaper for many than `check_id` for each."""
    return _IDS.fullmatch("".join([value + "\n" for value in values])) is not None


def check_request_id(value: str) -> str:
    """A request id; empty means none.

    Raises:
        InvalidArgumentError: Too long or not printable.
    """
    if len(value.encode()) > limits.REQUEST_ID_LENGTH_MAX or (value and not value.isprintable()):
        raise InvalidArgumentError(
            f"a request id has at most {limits.REQUEST_ID_LENGTH_MAX} printable characters",
            {"field": "request_id"},
        )
    return value


def check_text(value: str, what: str, length_max: int) -> str:
    """A free text of limited length.

    Raises:
        InvalidArgumentError: It is too long.
    """
    if len(value) > length_max:
        raise InvalidArgumentError(
            f"the {what} has more than {length_max} characters", {"field": what}
        )
    return value


def check_cosine(value: float | None, what: str) -> None:
    """A threshold or score; None means none.

    Raises:
        InvalidArgumentError: It is not between -1 and 1.
    """
    if value is not None and not -1.0 <= value <= 1.0:
        raise InvalidArgumentError(f"{what} is a cosine, -1 to 1", {"field": what})


def check_quotas(quotas: Quotas | None) -> None:
    """How large a gallery may become; None means that nothing is said.

    Raises:
        InvalidArgumentError: A quota is negative, or larger than can be kept.
    """
    for name in Quotas.__dataclass_fields__ if quotas is not None else ():
        if not 0 <= getattr(quotas, name) <= limits.QUOTA_MAX:
            raise InvalidArgumentError(
                f"a quota is 0 for none, or up to {limits.QUOTA_MAX}", {"field": f"quotas.{name}"}
            )


def check_mate_loss_bound(value: float | None) -> None:
    """A fraction of mates that may be lost; None means none is given.

    Raises:
        InvalidArgumentError: It is smaller or larger than can be kept or is of use.
    """
    least, most = limits.MATE_LOSS_BOUND_MIN, limits.MATE_LOSS_BOUND_MAX
    if value is not None and not least <= value <= most:
        raise InvalidArgumentError(
            f"the mate loss bound is a fraction, {least} to {most}", {"field": "mate_loss_bound"}
        )


def check_rate(value: float, field: str) -> None:
    """An error rate.

    Raises:
        InvalidArgumentError: It is not over 0 and under 1.
    """
    if not 0.0 < value < 1.0:
        raise InvalidArgumentError(
            "max_false_positive_rate must be over 0 and under 1", {"field": field}
        )


def check_gate(gate: GateSettings) -> None:
    """What a gallery asks of faces before it enrols them.

    Raises:
        InvalidArgumentError: A threshold or rate is out of range, or a reason unknown.
    """
    if not 0.0 <= gate.quality.min_score <= 1.0:
        raise InvalidArgumentError(
            "the least quality is 0 to 1", {"field": "enrolment_gate.quality.min_score"}
        )
    if unknown := set(gate.quality.reasons) - set(QUALITY_REASONS):
        raise InvalidArgumentError(
            f"{sorted(unknown)[0][:100]!r} is no reason of a low quality; known are "
            f"{', '.join(QUALITY_REASONS)}",
            {"field": "enrolment_gate.quality.reasons"},
        )
    for name, check in (("duplicate", gate.duplicate), ("mismatch", gate.mismatch)):
        field = f"enrolment_gate.{name}.operating_point"
        check_cosine(check.threshold, f"{field}.threshold")
        if check.max_false_positive_rate is not None:
            check_rate(check.max_false_positive_rate, f"{field}.max_false_positive_rate")


def check_top_k(value: int) -> None:
    """How many identities a search returns.

    Raises:
        InvalidArgumentError: Zero, or more than the limit.
    """
    if not 1 <= value <= limits.TOP_K_MAX:
        raise InvalidArgumentError(f"top_k is 1 to {limits.TOP_K_MAX}", {"field": "top_k"})


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels of an identity.

    Raises:
        InvalidLabelsError: Too many, too long, or with forbidden characters.
    """
    if len(labels) > limits.LABELS_PER_IDENTITY_MAX:
        raise InvalidLabelsError(
            f"an identity has at most {limits.LABELS_PER_IDENTITY_MAX} labels", {"field": "labels"}
        )
    for key, value in labels.items():
        check_label_key(key)
        if len(value.encode()) > limits.LABEL_VALUE_BYTES_MAX or "\0" in value:
            raise InvalidLabelsError(
                f"the value of label {key!r} has more than {limits.LABEL_VALUE_BYTES_MAX} bytes "
                "or a zero character",
                {"field": "labels"},
            )
    return dict(labels)


def check_label_key(key: str, field: str = "labels") -> None:
    """The key of a label.

    Raises:
        InvalidLabelsError: Empty, too long, or with forbidden characters.
    """
    if len(key) > limits.LABEL_KEY_LENGTH_MAX or not _LABEL_KEY.fullmatch(key):
        raise InvalidLabelsError(
            f"{key[:100]!r} is not a valid label key: 1 to {limits.LABEL_KEY_LENGTH_MAX} of "
            "the characters a-z 0-9 _ - and starting with a letter or digit",
            {"field": field},
        )


def check_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Free JSON of an identity.

    Raises:
        InvalidLabelsError: Larger than the limit.
    """
    if len(msgspec.json.encode(metadata)) > limits.METADATA_BYTES_MAX:
        raise InvalidLabelsError(
            f"the metadata is larger than {limits.METADATA_BYTES_MAX} bytes as JSON",
            {"field": "metadata"},
        )
    return dict(metadata)


def unit_vector(values: ArrayLike, dimension: int) -> Vector:
    """A vector brought to unit length, shape (dimension,), float32.

    Raises:
        InvalidVectorError: Wrong length, NaN or infinity, or zero.
    """
    vector = np.asarray(values, dtype=np.float32)
    if vector.shape != (dimension,):
        raise InvalidVectorError(
            f"the vector has {vector.size} values, the gallery's model has {dimension}",
            {"field": "vector", "expected": str(dimension), "actual": str(vector.size)},
        )
    if not np.all(np.isfinite(vector)):
        raise InvalidVectorError("the vector holds NaN or infinity", {"field": "vector"})
    # In float64, so that neither tiny nor huge values lose the length.
    wide = vector.astype(np.float64)
    norm = float(np.linalg.norm(wide))
    if abs(norm - 1.0) <= limits.VECTOR_UNIT_TOLERANCE:
        # What was stored and comes back stays the same to the bit.
        return vector.copy()
    if norm < limits.VECTOR_NORM_MIN:
        raise InvalidVectorError("the vector is zero and has no direction", {"field": "vector"})
    unit: Vector = (wide / norm).astype(np.float32)
    return unit


def check_same_model(named: str, model: ModelIdentity) -> None:
    """Refuses a vector that names another model; an empty name is taken on trust.

    Raises:
        ModelMismatchError: The name is not the gallery's, with or without its version.
    """
    if named not in {"", model.name, f"{model.name}@{model.version}"}:
        raise ModelMismatchError(
            f"the vector was made by {named!r}, the gallery's model is "
            f"{model.name}@{model.version}",
            {"gallery_model": f"{model.name}@{model.version}", "vector_model": named[:200]},
        )
