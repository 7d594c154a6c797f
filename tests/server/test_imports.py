"""Imports of vectors: tables of many makers, hostile ones, and what is said of them."""

import json
import time
import zipfile
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.longrunning import operations_pb2
from servers import make_config
from support import random_vectors
from wire import DIMENSION, Api, import_of, refusal_of, refused

from visagedb.v1 import imports_pb2
from visagedb_server.server import Server

ROWS = 3000
DONE, FAILED = imports_pb2.IMPORT_STATE_DONE, imports_pb2.IMPORT_STATE_FAILED


@pytest.fixture
def api(vector_server: Server) -> Any:
    api = Api(vector_server.address)
    api.create_gallery()
    yield api
    api.close()


def table(count: int = ROWS, **columns: Any) -> pa.Table:
    vectors = random_vectors(count, DIMENSION)
    return pa.table(
        {
            "identity_id": [f"p{row // 3}" for row in range(count)],
            "vector": list(vectors),
            **columns,
        }
    )


def failures(api: Api, name: str, **fields: Any) -> list[imports_pb2.ImportFailure]:
    request = imports_pb2.ListImportFailuresRequest(parent=name, **fields)
    return list(api.imports.ListImportFailures(request).failures)


def test_a_parquet_table_becomes_a_gallery(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    faces = [f"f{row}" for row in range(ROWS)]
    pq.write_table(table(face_id=faces, source=faces), path, row_group_size=700)
    done = import_of(api.run_import(path, labels={"from": "table"}))
    assert (done.state, done.done_count, done.enrolled_count) == (DONE, ROWS, ROWS)
    assert (done.entry_count, done.identity_created_count) == (ROWS, ROWS // 3)
    assert done.progress == 1.0
    assert not done.failures_by_reason
    listing = api.all_faces()
    assert listing == {f"p{n}": [f"f{3 * n + k}" for k in range(3)] for n in range(ROWS // 3)}
    assert dict(api.identity("p7").labels) == {"from": "table"}
    vectors = random_vectors(ROWS, DIMENSION)
    assert all(api.best(vectors[row]) == f"p{row // 3}" for row in range(0, ROWS, 500))
    # Once more, nothing comes twice.
    again = import_of(api.run_import(path))
    assert (again.already_enrolled_count, again.enrolled_count) == (ROWS, 0)
    assert api.gallery().face_count == ROWS
    listed = api.imports.ListImports(imports_pb2.ListImportsRequest(parent="galleries/people"))
    assert [one.name for one in listed.imports] == [done.name, again.name]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float64()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float32(), DIMENSION),
        pa.list_(pa.int32()),
        pa.binary(),
        pa.binary(4 * DIMENSION),
    ],
    ids=str,
)
def test_vectors_come_in_many_types(api: Api, tmp_path: Path, kind: Any) -> None:
    vectors = np.round(random_vectors(10, DIMENSION) * 1000).astype(np.float32)
    rows: list[Any] = [row.astype("<f4").tobytes() for row in vectors]
    if pa.types.is_nested(kind):
        rows = [row.astype(int).tolist() for row in vectors]
    path = tmp_path / "people.parquet"
    pq.write_table(pa.table({"who": range(10), "embedding": pa.array(rows, kind)}), path)
    done = import_of(api.run_import(path, columns={"identity_id": "who", "vector": "embedding"}))
    assert (done.enrolled_count, done.failed_count) == (10, 0)
    assert [api.best(row) for row in vectors] == [str(n) for n in range(10)]


def test_rows_fail_one_by_one(api: Api, tmp_path: Path) -> None:
    good = random_vectors(1, DIMENSION)[0].tolist()
    rows: list[tuple[Any, Any]] = [
        ("good", good),
        ("short", good[:-1]),
        ("nan", [float("nan"), *good[1:]]),
        ("huge", [1e300, *good[1:]]),
        ("zero", [0.0] * DIMENSION),
        ("hole", [None, *good[1:]]),
        ("empty", []),
        ("a b", good),
        ("e\x1b[31m", good),
        ("x" * 129, good),
    ]
    columns = {
        "identity_id": [who for who, _ in rows],
        "vector": pa.array([vector for _, vector in rows], pa.list_(pa.float64())),
    }
    path = tmp_path / "people.parquet"
    pq.write_table(pa.table(columns), path)
    done = import_of(api.run_import(path))
    assert (done.enrolled_count, done.failed_count, done.done_count) == (1, 9, 10)
    assert dict(done.failures_by_reason) == {
        "INVALID_VECTOR": 6,
        "INVALID_NAME": 2,
        "INVALID_SOURCE": 1,
    }
    found = failures(api, done.name)
    assert [one.entry for one in found] == [f"row {row}" for row in range(1, 10)]
    assert [one.identity_id for one in found][:2] == ["short", "nan"]
    assert not any("\x1b" in one.identity_id + one.message for one in found)
    assert len(failures(api, done.name, reason="INVALID_NAME")) == 2
    first = api.imports.ListImportFailures(
        imports_pb2.ListImportFailuresRequest(parent=done.name, page_size=4)
    )
    rest = failures(api, done.name, page_token=first.next_page_token, page_size=100)
    assert [*first.failures, *rest] == found
    assert api.all_faces().keys() == {"good"}


def test_what_is_said_of_identities_comes_along(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    said = {
        "labels": ['{"site": "north"}', None, '{"UPPER": "x"}', "no json"],
        "metadata": ['{"a": [1, {"b": null}]}', "", None, "{}"],
        "display_name": ["Ann", None, "C", "D"],
        "expire_time": ["2030-01-02T03:04:05Z", None, None, None],
    }
    vectors = random_vectors(4, DIMENSION)
    pq.write_table(pa.table({"identity_id": list("abcd"), "vector": list(vectors), **said}), path)
    done = import_of(api.run_import(path))
    assert dict(done.failures_by_reason) == {"INVALID_LABELS": 2}
    ann = api.identity("a")
    assert (ann.display_name, dict(ann.labels)) == ("Ann", {"site": "north"})
    assert ann.expire_time.ToJsonString() == "2030-01-02T03:04:05Z"
    assert ann.metadata["a"][0] == 1
    assert api.all_faces().keys() == {"a", "b"}


def test_modes(api: Api, tmp_path: Path) -> None:
    old, new = random_vectors(3, DIMENSION), random_vectors(3, DIMENSION, seed=7)
    api.enroll("a", old[0], face_id="one")
    path = tmp_path / "people.parquet"
    rows = {"identity_id": ["a", "b", "b"], "face_id": ["one", "one", "two"]}
    pq.write_table(pa.table({**rows, "vector": list(new)}), path)
    skipped = import_of(api.run_import(path, mode=imports_pb2.IMPORT_MODE_SKIP_EXISTING))
    assert (skipped.skipped_count, skipped.enrolled_count) == (1, 2), "both faces of the new one"
    inserted = import_of(api.run_import(path))
    assert dict(inserted.failures_by_reason) == {"FACE_EXISTS": 1}
    assert inserted.already_enrolled_count == 2
    upserted = import_of(api.run_import(path, mode=imports_pb2.IMPORT_MODE_UPSERT))
    assert (upserted.replaced_count, upserted.already_enrolled_count) == (1, 2)
    assert api.best(new[0]) == "a"
    assert api.all_faces() == {"a": ["one"], "b": ["one", "two"]}


def test_npz_arrays(api: Api, tmp_path: Path) -> None:
    vectors = random_vectors(2500, DIMENSION)
    path = tmp_path / "people.npz"
    ids = np.array([f"p{n}" for n in range(2500)])
    labels = np.array([json.dumps({"site": "é"})] + [""] * 2499)
    np.savez_compressed(path, vector=vectors, identity_id=ids, labels=labels, other=np.ones(3))
    done = import_of(api.run_import(path))
    assert (done.enrolled_count, done.failed_count) == (2500, 0)
    assert dict(api.identity("p0").labels) == {"site": "é"}
    assert api.best(vectors[2499]) == "p2499"


class Trap:
    """An object whose pickle would tell."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("sprung"),)


def test_hostile_arrays_are_refused(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    vectors = random_vectors(4, DIMENSION)
    ids = np.array(list("abcd"))
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "pickle": ({"vector": vectors, "identity_id": np.array([Trap()] * 4)}, "pickled"),
        "missing": ({"identity_id": ids}, "no column 'vector'"),
        "nobody": ({"vector": vectors}, "no column 'identity_id'"),
        "uneven": ({"vector": vectors, "identity_id": ids[:3]}, "different numbers"),
        "flat": ({"vector": vectors[0], "identity_id": ids}, "not of numbers"),
        "texts": ({"vector": vectors.astype(str), "identity_id": ids}, "not of numbers"),
        "turned": ({"vector": np.asfortranarray(vectors), "identity_id": ids}, "row by row"),
        "wide": ({"vector": np.zeros((1, 1 << 20), np.float32), "identity_id": ids[:1]}, "values"),
    }
    for name, (arrays, message) in cases.items():
        path = tmp_path / f"{name}.npz"
        np.savez(path, allow_pickle=True, **arrays)
        with refused("INVALID_ARGUMENT", "INVALID_SOURCE") as refusal:
            api.start_import(path)
        assert message in refusal.message, name
    assert not (tmp_path / "sprung").exists()
    (tmp_path / "noise.npz").write_bytes(b"PK\x03\x04" + bytes(100))
    with refused("INVALID_ARGUMENT", "INVALID_SOURCE"):
        api.start_import(tmp_path / "noise.npz")
    assert api.gallery().face_count == 0


def test_an_archive_that_lies_about_its_size_fails_with_what_was_read(
    api: Api, tmp_path: Path
) -> None:
    path = tmp_path / "people.npz"
    np.savez(path, identity_id=np.array(["a"] * 9), vector=random_vectors(9, DIMENSION))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    # A million million rows are announced, nine are there.
    for name in members:
        members[name] = members[name].replace(b"(9", b"(1000000000000", 1)
        header = members[name]
        spaces = header.index(b"\n") + 1
        members[name] = header[: spaces - 13] + b"\n" + header[spaces:]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    operation = api.run_import(path)
    assert "cut short" in operation.error.message, operation
    [listed] = api.imports.ListImports(
        imports_pb2.ListImportsRequest(parent="galleries/people")
    ).imports
    assert (listed.state, listed.error_reason) == (FAILED, "INVALID_SOURCE")
    assert listed.enrolled_count == api.gallery().face_count == 0


@pytest.mark.parametrize("cut", [10, 1000, -1, -2000])
def test_damaged_parquet_is_refused(api: Api, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "people.parquet"
    pq.write_table(table(), path)
    path.write_bytes(path.read_bytes()[:cut])
    with refused("INVALID_ARGUMENT", "INVALID_SOURCE"):
        api.start_import(path)


def test_parquet_with_flipped_bytes_never_hurts(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    pq.write_table(table(300), path, compression="none")
    good = path.read_bytes()
    random = np.random.default_rng(5)
    reasons: set[str] = set()
    for place in random.integers(4, len(good) - 8, 40).tolist():
        bad = bytearray(good)
        bad[place] ^= 0xFF
        path.write_bytes(bad)
        try:
            operation = api.run_import(path)
            reasons.add("" if operation.done else "NOT DONE")
        except grpc.RpcError as error:
            reasons.add(refusal_of(error).reason)
    assert reasons <= {"", "INVALID_SOURCE"}
    assert api.gallery().face_count == sum(map(len, api.all_faces().values()))


def test_missing_columns_and_unfit_ones_are_named(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    pq.write_table(table(10).rename_columns(["who", "vector"]), path)
    with refused("INVALID_ARGUMENT", "INVALID_SOURCE", "columns") as refusal:
        api.start_import(path)
    assert "'identity_id'" in refusal.message
    assert "who" in refusal.message
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "columns"):
        api.start_import(path, columns={"person": "who"})
    pq.write_table(pa.table({"identity_id": ["a"], "vector": ["text"]}), path)
    with refused("INVALID_ARGUMENT", "INVALID_SOURCE") as refusal:
        api.start_import(path)
    assert "type string" in refusal.message


def test_loose_rows(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "faces.parquet"
    vectors = random_vectors(20, DIMENSION)
    pq.write_table(pa.table({"vector": list(vectors), "source": ["x"] * 20}), path)
    done = import_of(api.run_import(path, loose=True))
    assert done.enrolled_count == 20
    assert api.gallery().loose_face_count == 20
    again = import_of(api.run_import(path, loose=True))
    assert again.already_enrolled_count == 20


def test_pause_resume_and_cancel(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    pq.write_table(table(60_000), path)
    name = api.start_import(path)
    resource = f"galleries/people/imports/{name.split('/')[1]}"
    held = None
    while held is None:
        try:
            held = getattr(
                api.imports.PauseImport(imports_pb2.PauseImportRequest(name=resource)), "import"
            )
        except grpc.RpcError:
            # It has not begun yet.
            time.sleep(0.01)
    assert held.state == imports_pb2.IMPORT_STATE_PAUSED
    get = imports_pb2.GetImportRequest(name=resource)
    resumed = getattr(
        api.imports.ResumeImport(imports_pb2.ResumeImportRequest(name=resource)), "import"
    )
    assert resumed.state == imports_pb2.IMPORT_STATE_RUNNING
    api.imports.PauseImport(imports_pb2.PauseImportRequest(name=resource))
    api.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=name))
    assert api.finished(name).error.code == grpc.StatusCode.CANCELLED.value[0]
    ended = getattr(api.imports.GetImport(get), "import")
    assert ended.state == imports_pb2.IMPORT_STATE_CANCELLED
    assert ended.enrolled_count == api.gallery().face_count < 60_000
    with refused("FAILED_PRECONDITION", "FAILED_PRECONDITION"):
        api.imports.PauseImport(imports_pb2.PauseImportRequest(name=resource))


def test_paths_outside_are_refused(api: Api, tmp_path: Path) -> None:
    pq.write_table(table(3), tmp_path / "people.parquet")
    (tmp_path / "link.parquet").symlink_to("/etc/passwd")
    (tmp_path / "up").symlink_to("/etc")
    outside = [
        "/etc/passwd",
        "/etc/nothing-there.parquet",
        f"{tmp_path}/../{tmp_path.name}/people.parquet",
        f"{tmp_path}/link.parquet",
        f"{tmp_path}/up/passwd",
        f"{tmp_path}x/people.parquet",
    ]
    for path in outside:
        with refused("FAILED_PRECONDITION", "PATH_NOT_ALLOWED"):
            api.start_import(path, format=imports_pb2.SOURCE_FORMAT_PARQUET)
    for path, reason in [
        ("people.parquet", "INVALID_ARGUMENT"),
        (f"{tmp_path}/a\nb.parquet", "INVALID_ARGUMENT"),
        (f"{tmp_path}/nothing.parquet", "INVALID_SOURCE"),
    ]:
        with refused("INVALID_ARGUMENT", reason):
            api.start_import(path)
    with refused("FAILED_PRECONDITION", "MODEL_NOT_AVAILABLE"):
        api.start_import(tmp_path)


def test_without_open_folders_imports_and_exports_say_how(tmp_path: Path) -> None:
    server = Server(make_config(tmp_path / "data"))
    server.start()
    api = Api(server.address)
    api.create_gallery()
    try:
        for call, option in [(api.start_import, "--import-root"), (api.export, "--export-root")]:
            with refused("FAILED_PRECONDITION", "PATH_NOT_ALLOWED") as refusal:
                call("/etc/people.parquet")
            assert option in refusal.message
    finally:
        api.close()
        server.stop(grace=5)
