"""Exports: what goes out comes in again, equal to the last bit."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import random_vectors
from wire import DIMENSION, Api, import_of, refused

from visagedb.v1 import identities_pb2
from visagedb_indexer.database import Database
from visagedb_indexer.exchange.entries import BareIdentity, LooseCopy
from visagedb_indexer.exchange.export_run import export_gallery
from visagedb_indexer.exchange.import_run import ImportRun
from visagedb_indexer.exchange.paths import OpenFolders
from visagedb_indexer.exchange.sources import ImportPlan, open_source
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import EnrollMode, NewFace, NewIdentity
from visagedb_indexer.imports import Entry
from visagedb_indexer.store import FaceRecord, GalleryRecord, IdentityRecord, ImportRecord
from visagedb_indexer.values import (
    Box,
    ExtractedFace,
    Landmarks,
    ModelIdentity,
    Point,
    Quality,
    SourceFormat,
)
from visagedb_server.server import Server

FACES_NOT_EXPORTED = {"ordinal"}
IDENTITIES_NOT_EXPORTED = {"uid", "number", "face_count", "revision"}


@pytest.fixture
def api(vector_server: Server) -> Any:
    api = Api(vector_server.address)
    api.create_gallery()
    yield api
    api.close()


def test_everything_that_is_kept_is_exported_or_known_not_to_be() -> None:
    """A field that is added to a record has to be exported, or named here."""
    face = {"id", "content_sha256", "create_time_us", "source", "box", "landmarks"}
    face |= {"detection_score", "quality"} | FACES_NOT_EXPORTED
    assert set(FaceRecord.__dataclass_fields__) == face
    identity = {"id", "create_time_us", "update_time_us", "display_name", "labels", "metadata"}
    identity |= {"expire_time_us"} | IDENTITIES_NOT_EXPORTED
    assert set(IdentityRecord.__dataclass_fields__) == identity


def test_an_export_makes_an_equal_gallery(api: Api, tmp_path: Path) -> None:
    vectors = random_vectors(40, DIMENSION)
    for row, vector in enumerate(vectors):
        api.enroll(f"p{row // 3}", 3.7 * vector, face_id=f"f{row}", source=f"s{row}")
    api.create_identity("bare", display_name="Nobody yet", labels={"k": "v"})
    request = identities_pb2.EnrollLooseFacesRequest(gallery="galleries/people")
    request.template.vector = vectors[0].astype("<f4").tobytes()
    api.identities.EnrollLooseFaces(request)
    first = api.export(tmp_path / "people.parquet")
    assert (first.identity_count, first.face_count) == (15, 41)
    assert first.file_bytes == (tmp_path / "people.parquet").stat().st_size
    assert [path.name for path in tmp_path.glob("*parquet*")] == ["people.parquet"]
    api.create_gallery("copy")
    done = import_of(api.run_import(first.path, "copy"))
    assert (done.enrolled_count, done.failed_count) == (42, 0)
    assert api.all_faces("copy") == api.all_faces()
    assert api.gallery("copy").loose_face_count == 1
    assert api.identity("p3", "copy").create_time == api.identity("p3").create_time
    second = api.export(tmp_path / "copy.parquet", "copy")
    assert_equal_tables(first.path, second.path)
    # And once more into the same gallery: nothing changes.
    again = import_of(api.run_import(first.path, "copy"))
    assert (again.already_enrolled_count, again.failed_count) == (42, 0)
    assert api.best(vectors[7], "copy") == "p2"


def assert_equal_tables(one: object, other: object) -> None:
    first, second = pq.read_table(one), pq.read_table(other)
    assert first.schema.equals(second.schema, check_metadata=False)
    assert first.to_pylist() == second.to_pylist()
    vectors = [
        np.array(table["vector"].combine_chunks().flatten(), dtype=np.float32).tobytes()
        for table in (first, second)
    ]
    assert vectors[0] == vectors[1]


def test_an_export_does_not_replace_a_file_unless_told(api: Api, tmp_path: Path) -> None:
    (tmp_path / "people.parquet").write_text("mine")
    with refused("ALREADY_EXISTS", "ALREADY_EXISTS"):
        api.export(tmp_path / "people.parquet")
    assert (tmp_path / "people.parquet").read_text() == "mine"
    api.export(tmp_path / "people.parquet", overwrite=True)
    assert pq.read_table(tmp_path / "people.parquet").num_rows == 0
    (tmp_path / "link.parquet").symlink_to(tmp_path / "people.parquet")
    for path in ["/etc/people.parquet", tmp_path / "link.parquet", f"{tmp_path}/../x.parquet"]:
        with refused("FAILED_PRECONDITION", "PATH_NOT_ALLOWED"):
            api.export(path, overwrite=True)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "path"):
        api.export(tmp_path / "nowhere" / "people.parquet")


def test_an_export_is_of_one_moment_while_writes_go_on(api: Api, tmp_path: Path) -> None:
    """Every person has exactly one face at any moment, in the file as well."""
    vectors = random_vectors(3000, DIMENSION)
    stop = threading.Event()

    def write() -> None:
        row = 0
        while not stop.is_set():
            api.enroll(f"w{row}", vectors[row], face_id="only")
            if row > 20:
                name = f"galleries/people/identities/w{row - 20}"
                api.identities.DeleteIdentity(identities_pb2.DeleteIdentityRequest(name=name))
            row += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            done = api.export(tmp_path / f"{number}.parquet")
            rows = pq.read_table(done.path).to_pylist()
            assert len(rows) == done.face_count == done.identity_count
            for row in rows:
                expected = vectors[int(row["identity_id"][1:])]
                np.testing.assert_allclose(row["vector"], expected, atol=1e-6)
    finally:
        stop.set()
        writer.join()


def test_a_flipped_byte_in_an_export_is_noticed(api: Api, tmp_path: Path) -> None:
    for row, vector in enumerate(random_vectors(50, DIMENSION)):
        api.enroll(f"p{row}", vector)
    path = tmp_path / "people.parquet"
    api.export(path)
    good = path.read_bytes()
    api.create_gallery("copy")
    random = np.random.default_rng(1)
    for place in random.integers(4, len(good) // 2, 12).tolist():
        bad = bytearray(good)
        bad[place] ^= 0x10
        path.write_bytes(bad)
        operation = api.run_import(path, "copy")
        faces = api.gallery("copy").face_count
        assert operation.HasField("error") or import_of(operation).done_count == 50
        assert faces == sum(map(len, api.all_faces("copy").values()))
        for identity in api.all_faces("copy"):
            vector = random_vectors(50, DIMENSION)[int(identity[1:])]
            assert api.best(vector, "copy") == identity, "a damaged vector was enrolled"


def test_an_export_of_another_model_is_refused(api: Api, tmp_path: Path) -> None:
    api.enroll("a", random_vectors(1, DIMENSION)[0])
    path = api.export(tmp_path / "people.parquet").path
    api.create_gallery("other", dimension=8)
    with refused("FAILED_PRECONDITION", "MODEL_MISMATCH"):
        api.start_import(path, "other")


# The property: any gallery, out and in and out, is the same.

TEXT = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20)
IDS = st.text("abcXYZ019_-", min_size=1, max_size=12)
TIMES = st.integers(0, 4_000_000_000_000_000)
NUMBERS = st.floats(-1e6, 1e6)
POINTS = st.builds(Point, NUMBERS, NUMBERS)
FOUND = st.builds(
    ExtractedFace,
    box=st.builds(Box, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    landmarks=st.builds(Landmarks, POINTS, POINTS, POINTS, POINTS, POINTS),
    detection_score=st.floats(0, 1),
    quality=st.builds(Quality, *[st.floats(0, 1)] * 6, reasons=st.sampled_from([(), ("BLURRED",)])),
    vector=st.none(),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(-1e9, 1e9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
PEOPLE = st.builds(
    NewIdentity,
    display_name=TEXT,
    labels=st.dictionaries(
        st.text("abc09-", min_size=1, max_size=5).filter(lambda key: key[0] != "-"),
        TEXT,
        max_size=3,
    ),
    metadata=st.dictionaries(TEXT, JSON, max_size=3),
    expire_time_us=st.none() | TIMES,
    create_time_us=TIMES,
    update_time_us=TIMES,
)
VECTORS = st.lists(st.floats(-1, 1, width=32), min_size=4, max_size=4).filter(
    lambda values: np.linalg.norm(values) > 1e-3
)
FACES = st.tuples(IDS, VECTORS, st.binary(min_size=32, max_size=32), TEXT, st.none() | FOUND, TIMES)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    people=st.dictionaries(IDS, st.tuples(PEOPLE, st.lists(FACES, max_size=3)), max_size=5),
    loose=st.lists(FACES, max_size=3),
)
def test_out_in_and_out_again_is_equal(people: Any, loose: Any, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("round")
    database = Database(folder / "data")
    try:
        model = ModelIdentity("test", "1", 4)
        original, copy = (
            database.create_gallery(GalleryRecord(name, "", model, 0, 0)) for name in ("a", "b")
        )
        entries = []
        for identity_id, (said, faces) in people.items():
            entries.append(BareIdentity(identity_id, said))
            entries += [
                NewFace(
                    identity_id, np.array(vector, np.float32), content, face_id, source,
                    found, copied_from_us=time_us,
                )
                for face_id, vector, content, source, found, time_us in faces
            ]  # fmt: skip
        entries += [
            LooseCopy(face_id, np.array(vector, np.float32), content, source, found, time_us)
            for face_id, vector, content, source, found, time_us in loose
        ]
        fill(original, entries)
        written(original, folder / "first.parquet")
        imported(copy, folder / "first.parquet")
        written(copy, folder / "second.parquet")
        assert_equal_tables(folder / "first.parquet", folder / "second.parquet")
        assert content_of(original) == content_of(copy)
    finally:
        database.close()


def fill(gallery: Gallery, contents: list[Any]) -> None:
    gallery.imports.begin(ImportRecord("fill", 0, "", SourceFormat.NPZ))
    entries = [Entry("", "", content) for content in contents]
    gallery.imports.enroll("fill", entries, EnrollMode.INSERT)


def written(gallery: Gallery, path: Path) -> None:
    export_gallery(
        gallery,
        path,
        path.with_suffix(".partial"),
        overwrite=False,
        progress=lambda done, stage: None,
        check=lambda: None,
    )


def imported(gallery: Gallery, path: Path) -> None:
    plan = ImportPlan(str(path))
    kind, source = open_source(plan, OpenFolders([path.parent], "--x"), gallery.model)
    run = ImportRun(
        gallery, "copy", plan, kind, source, None, lambda record, pace, stage: None, lambda: None
    )
    record = run.run()
    source.close()
    assert not record.failures


def content_of(gallery: Gallery) -> list[Any]:
    """All that is kept, without numbers that only this gallery knows."""
    found: list[Any] = []
    for identity in gallery.identities(most=1000):
        fields = {name: getattr(identity, name) for name in identity.__dataclass_fields__}
        for name in ("uid", "number", "revision"):
            del fields[name]
        found.append(fields)
    for owner in ["", *(one["id"] for one in found)]:
        for face, vector in gallery.faces(owner, with_vectors=True):
            fields = {name: getattr(face, name) for name in face.__dataclass_fields__}
            del fields["ordinal"]
            assert vector is not None
            found.append((owner, fields, vector.tobytes()))
    return found
