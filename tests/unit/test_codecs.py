import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visagedb_indexer import limits
from visagedb_indexer.errors import StorageCorruptError
from visagedb_indexer.store import records, schema
from visagedb_indexer.store.blocks import Column, ColumnReader, ColumnWriter
from visagedb_indexer.store.environment import Environment
from visagedb_indexer.store.row_map import RowMap
from visagedb_indexer.values import Box, Landmarks, ModelIdentity, Point, Quality

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
TIMES = st.integers(0, 2**62)
FLOATS = st.floats(allow_nan=False)
POINTS = st.builds(Point, FLOATS, FLOATS)
JSON = st.recursive(
    st.none() | st.booleans() | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)
QUALITIES = st.builds(Quality, *[FLOATS] * 6, st.lists(TEXTS, max_size=2).map(tuple))
RECORDS = {
    records.Counters: st.builds(records.Counters, *[TIMES] * 5),
    records.GalleryRecord: st.builds(
        records.GalleryRecord,
        TEXTS, TEXTS, st.builds(ModelIdentity, TEXTS, TEXTS, st.integers(1, 2048), TEXTS, TEXTS),
        TIMES, TIMES, st.booleans(), TEXTS, FLOATS | st.none(), TIMES,
    ),
    records.IdentityRecord: st.builds(
        records.IdentityRecord,
        TEXTS, TEXTS, TIMES, TIMES, TIMES, TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=3),
        st.dictionaries(TEXTS, JSON, max_size=3), TIMES | st.none(), TIMES, TIMES,
    ),
    records.FaceRecord: st.builds(
        records.FaceRecord,
        TEXTS, TIMES, st.binary(max_size=32), TIMES, TEXTS,
        st.builds(Box, *[FLOATS] * 4) | st.none(), st.builds(Landmarks, *[POINTS] * 5) | st.none(),
        FLOATS, QUALITIES | st.none(),
    ),
    records.RequestRecord: st.builds(records.RequestRecord, TIMES, st.binary(), st.binary()),
    records.OperationRecord: st.builds(
        records.OperationRecord, TEXTS, TEXTS, TIMES, st.booleans(), *[st.binary(max_size=20)] * 3
    ),
    records.ClusteringRecord: st.builds(
        records.ClusteringRecord, TEXTS, *[TIMES] * 4, FLOATS, TEXTS, TIMES
    ),
    records.ClusterRecord: st.builds(records.ClusterRecord, st.binary(), st.binary(), FLOATS),
}  # fmt: skip


@given(st.sampled_from(list(RECORDS)).flatmap(lambda kind: st.tuples(st.just(kind), RECORDS[kind])))
def test_records_are_read_as_they_were_written(pair: tuple[type, object]) -> None:
    kind, record = pair
    assert records.decode(records.encode(record), kind) == record


@given(st.sampled_from(list(RECORDS)), st.binary(max_size=60))
def test_other_bytes_are_never_taken_for_a_record_by_accident(kind: type, data: bytes) -> None:
    with contextlib.suppress(StorageCorruptError):
        assert isinstance(records.decode(data, kind), kind)


def test_a_field_that_old_bytes_lack_gets_its_default() -> None:
    data = records.encode({"next_ordinal": 3, "a_field_of_a_later_release": 1})
    assert records.decode(data, records.Counters) == records.Counters(next_ordinal=3)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)), min_size=2))
def test_face_keys_sort_like_their_numbers(pairs: list[tuple[int, int]]) -> None:
    keys = sorted(schema.face_key(*pair) for pair in pairs)
    assert [schema.read_face_key(key) for key in keys] == sorted(pairs)


@given(st.binary(max_size=20))
def test_a_damaged_number_is_reported_as_damage(data: bytes) -> None:
    for read, size in ((schema.read_u32, 4), (schema.read_u64, 8), (schema.read_face_key, 12)):
        if len(data) != size:
            with pytest.raises(StorageCorruptError):
                read(data)


def test_no_key_is_longer_than_the_database_allows() -> None:
    value = "é" * (limits.LABEL_VALUE_BYTES_MAX // 2)
    longest = [
        schema.label_key("k" * limits.LABEL_KEY_LENGTH_MAX, value, 1),
        schema.u32(1) + b"x" * limits.ID_LENGTH_MAX,
        schema.request_time_key(1, "x" * limits.REQUEST_ID_LENGTH_MAX),
        schema.cluster_key("x" * limits.ID_LENGTH_MAX, 1),
    ]
    assert max(map(len, longest)) <= limits.KEY_BYTES_MAX


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    path = tmp_path_factory.mktemp("columns") / "database"
    return Environment(path, schema.GALLERY_DATABASES, map_bytes=1 << 28)


@settings(max_examples=40, deadline=None)
@given(dimension=st.integers(1, 2048), data=st.data())
def test_a_column_gives_back_any_rows_in_any_order(
    environment: Environment, dimension: int, data: st.DataObject
) -> None:
    column = Column.of(schema.VECTORS, "<f4", dimension, limits.BLOCK_BYTES)
    count = data.draw(st.integers(1, min(3 * column.rows_per_block, 300)))
    rows = np.random.default_rng(count).random((count, dimension), dtype=np.float32)
    cut = data.draw(st.integers(0, count))
    with environment.write() as txn:
        txn.drop(environment.handle(schema.VECTORS), delete=False)

    @contextmanager
    def open_column() -> Iterator[ColumnReader]:
        with environment.read() as txn:
            yield ColumnReader(environment, txn, column)

    # One map has seen every commit, the other reads all addresses at the end.
    row_map, fresh_map = RowMap(column, open_column), RowMap(column, open_column)
    for part in (range(cut), range(cut, count)):
        with environment.write() as txn:
            writer = ColumnWriter(environment, txn, column)
            for ordinal in part:
                writer.put(ordinal, rows[ordinal])
            changed = writer.flush()
        row_map.follow(changed)
        if part:
            row_map.gather(np.array([part[-1]]))
    order = data.draw(st.lists(st.integers(0, count - 1), max_size=50))
    start = data.draw(st.integers(0, count - 1))
    with open_column() as reader:
        for rows_by_address in (row_map, fresh_map):
            found = rows_by_address.gather(np.array(order, dtype=np.int64))
            np.testing.assert_array_equal(found, rows[order])
            with pytest.raises(StorageCorruptError):
                rows_by_address.gather(np.array([count + column.rows_per_block], dtype=np.int64))
        blocks = list(reader.blocks(start))
        first = blocks[0][0]
        assert first <= start < first + column.rows_per_block
        stored = np.concatenate([block for _, block in blocks])
        np.testing.assert_array_equal(stored[: count - first], rows[first:])
        assert not stored[count - first :].any()


@pytest.mark.parametrize("dimension", [1, 2, 3, 127, 128, 512, 2047, 2048])
def test_blocks_hold_a_power_of_two_of_rows(dimension: int) -> None:
    column = Column.of(schema.VECTORS, "<f4", dimension, limits.BLOCK_BYTES)
    assert column.rows_per_block.bit_count() == 1
    assert limits.BLOCK_BYTES // 2 < column.rows_per_block * 4 * dimension <= limits.BLOCK_BYTES


def test_a_block_of_a_wrong_size_is_reported_as_damage(tmp_path: Path) -> None:
    column = Column.of(schema.VECTORS, "<f4", 4, limits.BLOCK_BYTES)
    with pytest.raises(StorageCorruptError):
        column.rows(memoryview(b"x" * 15))
