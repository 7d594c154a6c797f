"""An import outlives its server: killed on the way, nothing is lost and nothing comes twice."""

import os
import time
from contextlib import suppress
from pathlib import Path

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.longrunning import operations_pb2
from servers import ServerProcess, start_process
from support import random_vectors
from wire import DIMENSION, Api, import_of

from visagedb.v1 import imports_pb2

ROWS = 30_000
BAD = range(0, ROWS, 1000)
FAILPOINTS = [
    "import.before_begin",
    "import.after_begin",
    "import.before_commit",
    "import.before_checkpoint",
    "import.after_checkpoint",
    "import.after_commit",
    "import.before_end",
    "import.after_end",
]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table in which every thousandth row cannot be enrolled."""
    path = tmp_path_factory.mktemp("people") / "people.parquet"
    vectors = random_vectors(ROWS, DIMENSION)
    ids = [f"p{row // 2}" if row not in BAD else f"bad {row}" for row in range(ROWS)]
    faces = [f"f{row}" for row in range(ROWS)]
    pq.write_table(pa.table({"identity_id": ids, "face_id": faces, "vector": list(vectors)}), path)
    return path


def start(data: Path, root: Path, failpoint: str = "") -> tuple[ServerProcess, Api]:
    before = os.environ.get("VISAGEDB_FAILPOINT")
    os.environ["VISAGEDB_FAILPOINT"] = failpoint
    try:
        process = start_process(
            data, "--workers", "0", "--log-level", "warning", "--import-root", str(root)
        )
    finally:
        del os.environ["VISAGEDB_FAILPOINT"]
        if before is not None:
            os.environ["VISAGEDB_FAILPOINT"] = before
    return process, Api(process.address)


def wait_for(api: Api, name: str, least: int) -> int:
    """How many entries are done, once they are so many."""
    while True:
        operation = api.operations.GetOperation(operations_pb2.GetOperationRequest(name=name))
        done = import_of(operation).done_count
        if done >= least or operation.done:
            return done
        time.sleep(0.002)


def check(api: Api, name: str) -> None:
    """The import ended as one that was never disturbed."""
    done = import_of(api.finished(name))
    assert done.state == imports_pb2.IMPORT_STATE_DONE
    assert (done.done_count, done.failed_count) == (ROWS, len(BAD))
    assert (done.enrolled_count, done.already_enrolled_count) == (ROWS - len(BAD), 0)
    assert dict(done.failures_by_reason) == {"INVALID_NAME": len(BAD)}
    request = imports_pb2.ListImportFailuresRequest(parent=done.name, page_size=1000)
    failures = api.imports.ListImportFailures(request).failures
    assert [failure.entry for failure in failures] == [f"row {row}" for row in BAD]
    gallery = api.gallery()
    assert gallery.face_count == ROWS - len(BAD)
    expected: dict[str, list[str]] = {}
    for row in range(ROWS):
        if row not in BAD:
            expected.setdefault(f"p{row // 2}", []).append(f"f{row}")
    assert gallery.identity_count == len(expected) == done.identity_created_count
    for identity in list(expected)[:: len(expected) // 40]:
        listed = f"galleries/people/identities/{identity}"
        faces = api.faces(listed)
        assert faces == expected[identity]
    vectors = random_vectors(ROWS, DIMENSION)
    for row in range(1, ROWS, 3001):
        assert api.best(vectors[row]) == f"p{row // 2}"


def test_killed_again_and_again_it_still_ends_the_same(people: Path, tmp_path: Path) -> None:
    process, api = start(tmp_path / "data", people.parent)
    api.create_gallery()
    name = api.start_import(people)
    kills = 0
    for least in (1, ROWS // 3, 2 * ROWS // 3):
        reached = wait_for(api, name, least)
        kills += reached < ROWS
        process.kill()
        api.close()
        process, api = start(tmp_path / "data", people.parent)
    assert kills >= 2, "the import was over before it could be killed"
    check(api, name)
    api.close()
    assert process.terminate() == 0


def test_killed_at_every_step_of_a_checkpoint(people: Path, tmp_path: Path) -> None:
    """Each start is killed at the next step; the last one finishes."""
    process, api = start(tmp_path / "data", people.parent, f"{FAILPOINTS[0]}=kill")
    api.create_gallery()
    # The server may be gone before it has answered.
    with suppress(grpc.RpcError):
        api.start_import(people)
    for failpoint in [*FAILPOINTS[1:], ""]:
        process.process.wait(timeout=60)
        process.kill()
        api.close()
        arrival = "" if failpoint.endswith(("_begin", "_end")) else "@2"
        process, api = start(
            tmp_path / "data", people.parent, failpoint and f"{failpoint}=kill{arrival}"
        )
    [operation] = api.operations.ListOperations(
        operations_pb2.ListOperationsRequest(name="operations")
    ).operations
    check(api, operation.name)
    api.close()
    assert process.terminate() == 0


def test_a_stop_is_no_cancel_and_a_pause_outlives_it(people: Path, tmp_path: Path) -> None:
    process, api = start(tmp_path / "data", people.parent)
    api.create_gallery()
    name = api.start_import(people)
    wait_for(api, name, 1)
    resource = f"galleries/people/imports/{name.split('/')[1]}"
    api.imports.PauseImport(imports_pb2.PauseImportRequest(name=resource))
    assert process.terminate() == 0
    api.close()
    process, api = start(tmp_path / "data", people.parent)
    time.sleep(0.5)
    held = getattr(api.imports.GetImport(imports_pb2.GetImportRequest(name=resource)), "import")
    assert held.state == imports_pb2.IMPORT_STATE_PAUSED
    assert held.done_count == api.gallery().face_count + held.failed_count < ROWS
    api.imports.ResumeImport(imports_pb2.ResumeImportRequest(name=resource))
    check(api, name)
    api.close()
    process.kill()


def test_a_source_that_changed_is_not_gone_on_with(people: Path, tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    path.write_bytes(people.read_bytes())
    process, api = start(tmp_path / "data", tmp_path)
    api.create_gallery()
    name = api.start_import(path)
    wait_for(api, name, 1)
    process.kill()
    api.close()
    os.utime(path, (1, 1))
    process, api = start(tmp_path / "data", tmp_path)
    operation = api.finished(name)
    assert "has changed" in operation.error.message
    assert 0 < api.gallery().face_count < ROWS
    api.close()
    process.kill()


def test_an_import_that_ends_the_server_is_given_up(people: Path, tmp_path: Path) -> None:
    process, api = start(tmp_path / "data", people.parent, "import.before_commit=kill@2")
    api.create_gallery()
    name = api.start_import(people)
    process.process.wait(timeout=60)
    process.kill()
    api.close()
    for _ in range(6):
        process, api = start(tmp_path / "data", people.parent, "import.before_commit=kill")
        with suppress(grpc.RpcError):
            while not api.finished(name).done:
                pass
            break
        process.kill()
        api.close()
    operation = api.finished(name)
    assert "without any progress" in operation.error.message
    assert api.gallery().face_count > 0, "what was enrolled before stays"
    api.close()
    process.kill()
