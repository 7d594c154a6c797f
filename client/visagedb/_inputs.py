"""What callers give, as protobuf: images, vectors, probes, options. Pure but for reading files."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import uuid4

import numpy as np
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import ArrayLike, NDArray

from visagedb._errors import InvalidArgumentError, InvalidVectorError
from visagedb._resources import Face
from visagedb._values import EnrollMode, FaceScope, FaceSelection, Template
from visagedb.v1 import identities_pb2, types_pb2

ImageInput: TypeAlias = bytes | bytearray | memoryview | os.PathLike[str]
"""An encoded image, or the path of one."""

VectorInput: TypeAlias = NDArray[np.floating[Any]] | Sequence[float] | Template
"""A vector of shape (dimension,), any norm but zero: the server normalises it."""

ProbeInput: TypeAlias = ImageInput | VectorInput | Face
"""An image, a vector, or an enrolled face."""

_SELECTIONS: Final = {
    None: types_pb2.FACE_SELECTION_UNSPECIFIED,
    FaceSelection.ONLY: types_pb2.FACE_SELECTION_ONLY,
    FaceSelection.LARGEST: types_pb2.FACE_SELECTION_LARGEST,
    FaceSelection.CENTRAL: types_pb2.FACE_SELECTION_CENTRAL,
    FaceSelection.ALL: types_pb2.FACE_SELECTION_ALL,
}


def new_request_id() -> str:
    """A fresh id that makes a write safe to repeat."""
    return uuid4().hex


def image_bytes(image: ImageInput) -> bytes:
    """The encoded image.

    Raises:
        TypeError: A string was given, which could mean a path, a URL or base64.
        OSError: The file cannot be read.
    """
    if isinstance(image, str):
        raise TypeError("an image is bytes or a path object, not str: use pathlib.Path(...)")
    if isinstance(image, os.PathLike):
        return Path(image).read_bytes()
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    raise TypeError(f"an image is bytes or a path object, not {type(image).__name__}")


def vector_bytes(vector: ArrayLike) -> bytes:
    """Little-endian float32 values of a vector.

    Args:
        vector: Shape (dimension,), integers or floats.

    Raises:
        InvalidVectorError: It is not one row of finite numbers.
    """
    try:
        array = np.asarray(vector)
    except ValueError as error:
        raise _invalid_vector("it is ragged") from error
    if array.dtype.kind not in "fiu":
        raise _invalid_vector(f"its values are of type {array.dtype}, not numbers")
    if array.ndim != 1 or array.size == 0:
        raise _invalid_vector(f"its shape is {array.shape}, not (dimension,)")
    with np.errstate(over="ignore"):
        values = array.astype("<f4")
    if not np.isfinite(values).all():
        raise _invalid_vector("it holds NaN or infinity, or a value too large for float32")
    return values.tobytes()


def template_message(vector: VectorInput, model: str = "") -> types_pb2.Template:
    """A template from a vector or from one that knows its model."""
    if isinstance(vector, Template):
        return types_pb2.Template(vector=vector_bytes(vector.vector), model=model or vector.model)
    return types_pb2.Template(vector=vector_bytes(vector), model=model)


def selection_value(
    selection: FaceSelection | str | None,
) -> types_pb2.FaceSelection.ValueType:
    """Which face is meant, as on the wire; None leaves it to the server."""
    return _SELECTIONS[None if selection is None else FaceSelection(selection)]


_MODES: Final[Mapping[EnrollMode, identities_pb2.EnrollMode.ValueType]] = {
    EnrollMode.INSERT: identities_pb2.ENROLL_MODE_INSERT,
    EnrollMode.UPSERT: identities_pb2.ENROLL_MODE_UPSERT,
    EnrollMode.SKIP_EXISTING: identities_pb2.ENROLL_MODE_SKIP_EXISTING,
}


def mode_value(mode: EnrollMode | str) -> identities_pb2.EnrollMode.ValueType:
    """A mode of enrolment, as on the wire."""
    return _MODES[EnrollMode(mode)]


_SCOPES: Final[Mapping[FaceScope | None, types_pb2.FaceScope.ValueType]] = {
    None: types_pb2.FACE_SCOPE_UNSPECIFIED,
    FaceScope.IDENTITIES: types_pb2.FACE_SCOPE_IDENTITIES,
    FaceScope.LOOSE: types_pb2.FACE_SCOPE_LOOSE,
    FaceScope.ALL: types_pb2.FACE_SCOPE_ALL,
}


def scope_value(scope: FaceScope | str | None) -> types_pb2.FaceScope.ValueType:
    """Which faces are meant, as on the wire; None leaves it to the server."""
    return _SCOPES[None if scope is None else FaceScope(scope)]


def probe_message(
    *,
    image: ImageInput | None = None,
    vector: VectorInput | None = None,
    face: Face | str | None = None,
    model: str = "",
    face_selection: FaceSelection | str | None = None,
) -> types_pb2.Probe:
    """A probe from exactly one of its three sources."""
    only_one_of(image=image, vector=vector, face=face)
    probe = types_pb2.Probe(face_selection=selection_value(face_selection))
    if image is not None:
        probe.image = image_bytes(image)
    elif vector is not None:
        probe.template.CopyFrom(template_message(vector, model))
    else:
        probe.face = face.name if isinstance(face, Face) else str(face)
    return probe


def any_probe_message(
    probe: ProbeInput, face_selection: FaceSelection | str | None = None
) -> types_pb2.Probe:
    """A probe whose source follows from the type of what was given."""
    if isinstance(probe, Face):
        return probe_message(face=probe)
    if isinstance(probe, (str, bytes, bytearray, memoryview, os.PathLike)):
        # A string is refused where images are read, with advice.
        return probe_message(image=probe, face_selection=face_selection)
    return probe_message(vector=probe)


def operating_point(
    threshold: float | None, max_false_positive_rate: float | None
) -> types_pb2.OperatingPoint | None:
    """Where the line between MATCH and NO_MATCH is drawn; None leaves it to the gallery."""
    if threshold is not None and max_false_positive_rate is not None:
        raise InvalidArgumentError(
            "give a threshold or a max_false_positive_rate, not both",
            code="INVALID_ARGUMENT",
            reason="INVALID_ARGUMENT",
        )
    if threshold is not None:
        return types_pb2.OperatingPoint(threshold=threshold)
    if max_false_positive_rate is not None:
        return types_pb2.OperatingPoint(max_false_positive_rate=max_false_positive_rate)
    return None


def only_one_of(**sources: object) -> None:
    """Makes sure that exactly one of several arguments was given.

    Raises:
        TypeError: None or more than one was.
    """
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1:
        got = " and ".join(given) or "none"
        raise TypeError(f"give exactly one of {', '.join(sources)}; got {got}")


def timestamp(moment: datetime | None) -> Timestamp | None:
    """A moment on the wire; a naive one is taken for UTC."""
    if moment is None:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    message = Timestamp()
    message.FromDatetime(aware)
    return message


def struct(metadata: Mapping[str, Any] | None) -> Struct | None:
    """Free metadata as a protobuf Struct."""
    if metadata is None:
        return None
    message = Struct()
    message.update(dict(metadata))
    return message


def resource(value: object, kinds: Sequence[type]) -> str:
    """The resource name of a value, or the name itself."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple(kinds)):
        return str(getattr(value, "name"))  # noqa: B009 (every kind has a name)
    expected = " or ".join(kind.__name__ for kind in kinds)
    raise TypeError(f"expected {expected} or a resource name, not {type(value).__name__}")


def _invalid_vector(why: str) -> InvalidVectorError:
    return InvalidVectorError(
        f"not a usable vector: {why}", code="INVALID_ARGUMENT", reason="INVALID_VECTOR"
    )
