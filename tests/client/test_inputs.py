"""What callers give: ids, images, vectors, options."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import visagedb
from visagedb._api import faces, galleries, identities, search
from visagedb._convert import template
from visagedb._inputs import image_bytes, template_message, timestamp, vector_bytes
from visagedb._names import check_id, face_name, identity_name, last_id, segment
from visagedb.v1 import types_pb2


@given(st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", fullmatch=True))
def test_ids_survive_resource_names(value: str) -> None:
    name = face_name("g", value, "f")
    assert segment(name, "identities") == value
    assert segment(name, "galleries") == "g"
    assert last_id(identity_name("g", value)) == value


@pytest.mark.parametrize("value", ["", ".", ".hidden", "a/b", "a b", "é", "x" * 129, "a\n", "*"])
def test_wrong_ids_are_refused_before_they_travel(value: str) -> None:
    with pytest.raises(visagedb.InvalidNameError) as caught:
        check_id(value, "gallery")
    assert caught.value.reason == "INVALID_NAME"
    assert caught.value.code == "INVALID_ARGUMENT"


def test_ids_are_strings() -> None:
    with pytest.raises(TypeError, match="identity id is a string"):
        identity_name("staff", 7)  # type: ignore[arg-type]


@given(hnp.arrays(np.float32, st.integers(1, 64), elements=st.floats(-1e6, 1e6, width=32)))
def test_vectors_round_trip(vector: Any) -> None:
    message = template_message(vector, "m@1")
    assert len(message.vector) == 4 * vector.size
    again = template(message)
    assert again.model == "m@1"
    assert again.vector.dtype == np.float32
    np.testing.assert_array_equal(again.vector, vector)


@pytest.mark.parametrize(
    "vector",
    [
        [1, 2, 3],
        (1.0, 2.0, 3.0),
        np.array([1, 2, 3], dtype=np.int8),
        np.array([1, 2, 3], dtype=np.float64),
        np.array([1, 2, 3], dtype=">f4"),
        np.array([1, 9, 2, 9, 3], dtype=np.float16)[::2],
    ],
)
def test_anything_like_an_array_of_numbers_is_a_vector(vector: Any) -> None:
    assert vector_bytes(vector) == np.array([1, 2, 3], dtype="<f4").tobytes()


@pytest.mark.parametrize(
    "vector",
    [
        [],
        [[1.0, 2.0]],
        3.0,
        [1.0, float("nan")],
        [1.0, float("inf")],
        [1e300],
        ["a", "b"],
        [1j],
        [True, False],
        [[1.0], [1.0, 2.0]],
        None,
    ],
)
def test_anything_else_is_not(vector: Any) -> None:
    with pytest.raises(visagedb.InvalidVectorError):
        vector_bytes(vector)


def test_images_are_bytes_or_paths(tmp_path: Path) -> None:
    path = tmp_path / "face.jpg"
    path.write_bytes(b"content")
    for image in (b"content", bytearray(b"content"), memoryview(b"content"), path):
        assert image_bytes(image) == b"content"


def test_strings_are_no_images() -> None:
    with pytest.raises(TypeError, match=r"pathlib\.Path"):
        image_bytes("face.jpg")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="int"):
        image_bytes(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"pathlib\.Path"):
        search.verify("face.jpg", b"other")  # type: ignore[arg-type]


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        image_bytes(tmp_path / "nobody.jpg")


def test_one_source_is_needed() -> None:
    with pytest.raises(TypeError, match="exactly one of image, vector; got none"):
        faces.enroll("staff", "alice")
    with pytest.raises(TypeError, match="image and vector"):
        search.identify("staff", image=b"x", vector=[1.0])
    with pytest.raises(TypeError, match="other, identity"):
        search.verify(b"x")
    with pytest.raises(TypeError, match="gallery"):
        search.verify(b"x", identity="alice")


def test_threshold_or_rate() -> None:
    with pytest.raises(visagedb.InvalidArgumentError, match="not both"):
        search.identify("staff", vector=[1.0], threshold=0.4, max_false_positive_rate=0.01)


def test_writes_carry_a_fresh_request_id() -> None:
    calls = [
        galleries.create_gallery("g"),
        identities.create_identity("g", "i"),
        faces.enroll("g", "i", vector=[1.0]),
        faces.enroll("g", "i", vector=[1.0]),
    ]
    ids = {call.request.request_id for call in calls}  # type: ignore[attr-defined]
    assert len(ids) == len(calls)
    assert "" not in ids


def test_updates_name_what_they_change() -> None:
    request: Any = galleries.update_gallery("g", threshold=None, etag="1").request
    assert list(request.update_mask.paths) == ["threshold"]
    assert not request.gallery.HasField("threshold")
    request = identities.update_identity("g", "i", labels={"a": "b"}, metadata={"n": 1}).request
    assert sorted(request.update_mask.paths) == ["labels", "metadata"]
    assert dict(request.identity.labels) == {"a": "b"}
    assert request.identity.metadata["n"] == 1


def test_unset_threshold_stays_unset() -> None:
    request: Any = search.identify("g", vector=[1.0]).request
    assert not request.HasField("operating_point")
    assert not request.HasField("min_score")
    request = search.identify("g", vector=[1.0], threshold=0.0, min_score=0.0).request
    assert request.operating_point.HasField("threshold")
    assert request.HasField("min_score")


def test_selection_by_word() -> None:
    request: Any = faces.enroll("g", "i", image=b"x", face_selection="largest").request
    assert request.face_selection == types_pb2.FACE_SELECTION_LARGEST
    with pytest.raises(ValueError, match="biggest"):
        faces.enroll("g", "i", image=b"x", face_selection="biggest")


def test_naive_moments_are_utc() -> None:
    aware = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
    message = timestamp(aware.replace(tzinfo=None))
    assert message is not None
    assert message.ToDatetime(tzinfo=UTC) == aware
