import contextlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from visagedb_indexer import limits, validation
from visagedb_indexer.errors import (
    InvalidArgumentError,
    InvalidLabelsError,
    InvalidNameError,
    InvalidVectorError,
    ModelMismatchError,
)
from visagedb_indexer.values import ModelIdentity


@given(st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", fullmatch=True))
def test_valid_ids_pass_unchanged(value: str) -> None:
    assert validation.check_id(value, "identity") == value


@pytest.mark.parametrize(
    "value",
    ["", ".", "..", "../x", ".hidden", "a/b", "a\\b", "a b", "a\n", "é", "a\0", "%2e", "x" * 129],
)
def test_other_ids_are_refused(value: str) -> None:
    with pytest.raises(InvalidNameError):
        validation.check_id(value, "gallery")


@given(st.text(max_size=300))
def test_any_text_is_an_id_or_refused(value: str) -> None:
    with contextlib.suppress(InvalidNameError):
        assert validation.check_id(value, "face") == value
        assert value.isascii()
        assert "/" not in value


@pytest.mark.parametrize("value", ["x" * 129, "é" * 65, "a\nb", "a\0"])
def test_request_ids_are_short_and_printable(value: str) -> None:
    with pytest.raises(InvalidArgumentError):
        validation.check_request_id(value)
    assert validation.check_request_id("") == ""


@pytest.mark.parametrize(
    "labels",
    [
        {"": "x"},
        {"A": "x"},
        {"a b": "x"},
        {"-a": "x"},
        {"a" * 64: "x"},
        {"a": "x" * 256},
        {"a": "é" * 128},
        {"a": "x\0y"},
        {f"k{i}": "x" for i in range(33)},
    ],
)
def test_labels_beyond_the_limits_are_refused(labels: dict[str, str]) -> None:
    with pytest.raises(InvalidLabelsError):
        validation.check_labels(labels)


def test_labels_at_the_limits_pass() -> None:
    labels = {f"k{i}".ljust(63, "x"): "v" * 255 for i in range(32)}
    assert validation.check_labels(labels) == labels
    assert validation.check_labels({"a": ""}) == {"a": ""}


def test_metadata_is_limited_by_its_json() -> None:
    room = limits.METADATA_BYTES_MAX - len('{"a":""}')
    assert validation.check_metadata({"a": "x" * room})
    with pytest.raises(InvalidLabelsError):
        validation.check_metadata({"a": "x" * (room + 1)})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.0001, -1.0001])
def test_what_is_no_cosine_is_refused(value: float) -> None:
    with pytest.raises(InvalidArgumentError):
        validation.check_cosine(value, "threshold")


@pytest.mark.parametrize("value", [None, -1.0, 0.0, 1.0])
def test_cosines_pass(value: float | None) -> None:
    validation.check_cosine(value, "threshold")


FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(
    st.integers(1, 2048).flatmap(
        lambda n: arrays.arrays(np.float32, n, elements=FLOATS, fill=FLOATS)
    )
)
def test_a_vector_is_brought_to_unit_length_or_refused(vector: np.ndarray) -> None:
    norm = np.linalg.norm(vector.astype(np.float64))
    if not np.all(np.isfinite(vector)) or norm < limits.VECTOR_NORM_MIN:
        with pytest.raises(InvalidVectorError):
            validation.unit_vector(vector, len(vector))
        return
    result = validation.unit_vector(vector, len(vector))
    assert result.dtype == np.float32
    assert abs(float(np.linalg.norm(result.astype(np.float64))) - 1.0) < 1e-5


@pytest.mark.parametrize("size", [3.4e38, 1e20, 1.0, 1e-5])
@pytest.mark.parametrize("dimension", [1, 128, 2048])
def test_huge_and_small_vectors_keep_their_direction(size: float, dimension: int) -> None:
    vector = np.full(dimension, size, dtype=np.float32)
    result = validation.unit_vector(vector, dimension)
    np.testing.assert_allclose(result, np.full(dimension, dimension**-0.5), rtol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 15, 17])
def test_a_vector_of_another_length_is_refused(count: int) -> None:
    with pytest.raises(InvalidVectorError) as caught:
        validation.unit_vector(np.ones(count, dtype=np.float32), 16)
    assert caught.value.metadata == {"field": "vector", "expected": "16", "actual": str(count)}


def test_a_vector_may_name_the_model_with_or_without_version() -> None:
    model = ModelIdentity("sface", "1", 128)
    for name in ("", "sface", "sface@1"):
        validation.check_same_model(name, model)
    for name in ("sface@2", "arcface", "sface@", "sface@1 "):
        with pytest.raises(ModelMismatchError):
            validation.check_same_model(name, model)
