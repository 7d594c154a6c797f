"""What a source says of a face and its identity beside the image or the vector.

A row of a table and a JSON file beside an image have the same fields, and both come from
anywhere: every one is checked.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from visagedb_indexer import limits
from visagedb_indexer.errors import IndexerError, InvalidLabelsError, InvalidSourceError
from visagedb_indexer.gallery_values import NewIdentity
from visagedb_indexer.values import Box, ExtractedFace, Landmarks, Point, Quality

FIELDS: Final = (
    "identity_id",
    "face_id",
    "vector",
    "display_name",
    "labels",
    "metadata",
    "expire_time",
    "source",
    "content_sha256",
    "box",
    "landmarks",
    "detection_score",
    "quality",
    "face_create_time",
    "identity_create_time",
    "identity_update_time",
)
"""What a table may have, in the order of an export."""

_HEXADECIMAL: Final = re.compile("[0-9a-fA-F]{64}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_POINTS: Final = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
_FACTORS: Final = ("score", "size", "sharpness", "pose", "exposure", "detection")
_REASONS_MAX: Final = 16
_REASON_LENGTH_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Said:
    """What is said of one face; empty or None where nothing is.

    Attributes:
        identity_name: A name to make an id from, where there is no id.
        labels: Of the identity; likewise `metadata`, the times and `display_name`.
        face_create_time_us: When it was enrolled elsewhere.
    """

    identity_id: str = ""
    identity_name: str = ""
    face_id: str = ""
    source: str = ""
    content_sha256: bytes = b""
    display_name: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    expire_time_us: int | None = None
    identity_create_time_us: int | None = None
    identity_update_time_us: int | None = None
    face_create_time_us: int | None = None
    extracted: ExtractedFace | None = None

    def new_identity(self, labels: Mapping[str, str]) -> NewIdentity:
        """The identity, with labels for all of an import beside its own."""
        return NewIdentity(
            display_name=self.display_name,
            labels={**labels, **self.labels} if labels else self.labels,
            metadata=self.metadata,
            expire_time_us=self.expire_time_us,
            create_time_us=self.identity_create_time_us,
            update_time_us=self.identity_update_time_us,
        )


def said_of(row: Mapping[str, Any], *, extracted: bool = True) -> Said:
    """What a row or a JSON object says; fields that it does not know are passed by.

    Args:
        row: Values by the names of `FIELDS`.
        extracted: Also read where the face was found, and how good it is.

    Raises:
        InvalidSourceError: A value is not of its kind.
        InvalidLabelsError: The labels or the metadata cannot be read.
    """
    return Said(
        identity_id=_text(row, "identity_id"),
        face_id=_text(row, "face_id"),
        source=_text(row, "source"),
        content_sha256=_digest(row.get("content_sha256")),
        display_name=_text(row, "display_name"),
        labels=_labels(row.get("labels")),
        metadata=_object(row.get("metadata"), "metadata"),
        expire_time_us=_time(row, "expire_time"),
        identity_create_time_us=_time(row, "identity_create_time"),
        identity_update_time_us=_time(row, "identity_update_time"),
        face_create_time_us=_time(row, "face_create_time"),
        extracted=_extracted(row) if extracted else None,
    )


def said_plainly(row: Mapping[str, Any]) -> Said:
    """What a row says that has nothing but ids and a source; most have, and it is much faster."""
    return Said(
        identity_id=_text(row, "identity_id"),
        face_id=_text(row, "face_id"),
        source=_text(row, "source"),
    )


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidSourceError(f"{name} is not a text", {"field": name})
    text = str(value)
    if not text.isprintable():
        raise InvalidSourceError(f"{name} has control characters", {"field": name})
    return text


def _digest(value: object) -> bytes:
    if value is None:
        return b""
    if isinstance(value, str) and _HEXADECIMAL.fullmatch(value):
        return bytes.fromhex(value)
    if not isinstance(value, bytes) or len(value) != 32:
        raise InvalidSourceError("content_sha256 is not 32 bytes", {"field": "content_sha256"})
    return value


def _labels(value: object) -> dict[str, str]:
    # A map column comes as a list of pairs.
    pairs = dict(value) if isinstance(value, list) else _object(value, "labels")
    for key, text in pairs.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise InvalidLabelsError("labels are texts by texts", {"field": "labels"})
    return pairs


def _object(value: object, name: str) -> dict[str, Any]:
    """A JSON object, as a text or as it is."""
    if value is None or value == "":
        return {}
    if isinstance(value, str | bytes):
        if len(value) > limits.METADATA_BYTES_MAX:
            raise InvalidLabelsError(
                f"the {name} are larger than {limits.METADATA_BYTES_MAX} bytes", {"field": name}
            )
        try:
            value = msgspec.json.decode(value)
        except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
            raise InvalidLabelsError(f"the {name} are no JSON: {error}", {"field": name}) from error
    if not isinstance(value, dict):
        raise InvalidLabelsError(f"the {name} are no JSON object", {"field": name})
    return value


def _time(row: Mapping[str, Any], name: str) -> int | None:
    """A moment in microseconds: a time, or a text in ISO 8601; without a zone it is UTC."""
    value = row.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise InvalidSourceError(f"{name} is not a time", {"field": name}) from error
    if not isinstance(value, datetime):
        raise InvalidSourceError(f"{name} is not a time", {"field": name})
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def _extracted(row: Mapping[str, Any]) -> ExtractedFace | None:
    parts: list[Any] = [row.get(name) for name in ("box", "landmarks", "quality")]
    box, landmarks, quality = parts
    if box is None and landmarks is None and quality is None:
        return None
    try:
        return ExtractedFace(
            box=Box(*(_number(box[name]) for name in ("x", "y", "width", "height"))),
            landmarks=Landmarks(*(_point(landmarks[name]) for name in _POINTS)),
            detection_score=_number(row.get("detection_score") or 0.0),
            quality=_quality(quality),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidSourceError(
            "box, landmarks and quality come together, of finite numbers", {"field": "box"}
        ) from error


def _quality(value: Mapping[str, Any]) -> Quality:
    reasons = tuple(value.get("reasons") or ())
    sensible = all(
        isinstance(one, str) and one.isprintable() and len(one) <= _REASON_LENGTH_MAX
        for one in reasons
    )
    if len(reasons) > _REASONS_MAX or not sensible:
        raise ValueError("the reasons of the quality are no words")
    return Quality(**{name: _number(value[name]) for name in _FACTORS}, reasons=reasons)


def _point(value: Mapping[str, Any]) -> Point:
    return Point(_number(value["x"]), _number(value["y"]))


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def said_in_json(data: bytes) -> Said:
    """What a JSON file beside an image says.

    Raises:
        IndexerError: It cannot be read, or says what cannot be.
    """
    try:
        return said_of(_object(data, "metadata"), extracted=False)
    except InvalidLabelsError as error:
        raise _sidecar(error) from error


def _sidecar(error: IndexerError) -> InvalidSourceError:
    return InvalidSourceError(f"the JSON file beside the image: {error.message}")
