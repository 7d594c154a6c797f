"""Faces and models from protobuf to frozen values. Pure functions."""

import numpy as np

from visagedb import _values as values
from visagedb.v1 import types_pb2


def model_identity(message: types_pb2.ModelIdentity) -> values.ModelIdentity:
    """Which network made a vector."""
    return values.ModelIdentity(
        name=message.name,
        version=message.version,
        dimension=message.dimension,
        sha256=message.sha256,
        precision=message.precision,
    )


def template(message: types_pb2.Template) -> values.Template:
    """A vector of shape (dimension,), in native byte order and writeable."""
    vector = np.frombuffer(message.vector, dtype="<f4").astype(np.float32)
    return values.Template(vector=vector, model=message.model)


def _point(message: types_pb2.Point) -> values.Point:
    return values.Point(message.x, message.y)


def _landmarks(message: types_pb2.Landmarks) -> values.Landmarks:
    return values.Landmarks(
        left_eye=_point(message.left_eye),
        right_eye=_point(message.right_eye),
        nose=_point(message.nose),
        left_mouth=_point(message.left_mouth),
        right_mouth=_point(message.right_mouth),
    )


def _quality(message: types_pb2.Quality) -> values.Quality:
    return values.Quality(
        score=message.score,
        size=message.size,
        sharpness=message.sharpness,
        pose=message.pose,
        exposure=message.exposure,
        detection=message.detection,
        reasons=tuple(message.reasons),
    )


def detected_face(message: types_pb2.DetectedFace) -> values.DetectedFace:
    """A face found in an image."""
    box = message.box
    return values.DetectedFace(
        box=values.Box(box.x, box.y, box.width, box.height),
        landmarks=_landmarks(message.landmarks) if message.HasField("landmarks") else None,
        detection_score=message.detection_score,
        quality=_quality(message.quality) if message.HasField("quality") else None,
    )
