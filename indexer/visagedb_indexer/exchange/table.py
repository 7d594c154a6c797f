"""The Parquet table that an export writes and an import reads: its columns and their types."""

import json
from typing import Any, Final

import pyarrow as pa

from visagedb_indexer.exchange.said import FIELDS
from visagedb_indexer.store import GalleryRecord

METADATA_KEY: Final = b"visagedb"
"""Of the file's own metadata: a JSON object that says what was exported."""
VERSION: Final = 1

_TIME = pa.timestamp("us", tz="UTC")
_POINT = pa.struct([("x", pa.float64()), ("y", pa.float64())])
_BOX = pa.struct([(name, pa.float64()) for name in ("x", "y", "width", "height")])
_LANDMARKS = pa.struct(
    [(n, _POINT) for n in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")]
)
_QUALITY = pa.struct(
    [
        *((n, pa.float64()) for n in ("score", "size", "sharpness", "pose", "exposure")),
        ("detection", pa.float64()),
        ("reasons", pa.list_(pa.string())),
    ]
)
_TYPES: Final = {
    "identity_id": pa.string(),
    "face_id": pa.string(),
    "display_name": pa.string(),
    "labels": pa.map_(pa.string(), pa.string()),
    "metadata": pa.string(),
    "expire_time": _TIME,
    "source": pa.string(),
    "content_sha256": pa.binary(32),
    "box": _BOX,
    "landmarks": _LANDMARKS,
    "detection_score": pa.float64(),
    "quality": _QUALITY,
    "face_create_time": _TIME,
    "identity_create_time": _TIME,
    "identity_update_time": _TIME,
}


def schema_of(gallery: GalleryRecord, counts: dict[str, int]) -> Any:
    """The schema of an export, with what was exported in its metadata."""
    said = {
        "version": VERSION,
        "gallery": gallery.id,
        "model": {
            name: getattr(gallery.model, name)
            for name in ("name", "version", "dimension", "sha256", "precision")
        },
        **counts,
    }
    vector = pa.list_(pa.float32(), gallery.model.dimension)
    fields = [pa.field(name, vector if name == "vector" else _TYPES[name]) for name in FIELDS]
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(said).encode()})
