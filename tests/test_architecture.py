"""The rules of the house: who may import what, how long a module may be, what is implemented."""

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.longrunning import operations_pb2

from visagedb.v1 import (
    access_pb2,
    audit_log_pb2,
    clusters_pb2,
    erasures_pb2,
    galleries_pb2,
    gallery_audits_pb2,
    identities_pb2,
    imports_pb2,
    quarantine_pb2,
    search_pb2,
)
from visagedb_server import services

ROOT = Path(__file__).resolve().parents[1]
CLIENT, INDEXER, SERVER = ROOT / "client", ROOT / "indexer", ROOT / "server"
ENGINE = INDEXER / "visagedb_indexer"
LINES_MAX = 400
OWN = [
    path
    for folder in (CLIENT, INDEXER, SERVER)
    for path in sorted(folder.rglob("*.py"))
    if "visagedb/v1" not in path.as_posix()
]


def imports(path: Path) -> Iterator[str]:
    """Names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importing(folder: Path, *modules: str) -> set[str]:
    """Files below a folder that import one of the modules, or something inside it."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in folder.rglob("*.py")
        for name in imports(path)
        if any(name == module or name.startswith(f"{module}.") for module in modules)
    }


def inside(files: set[str], *rooms: Path) -> bool:
    allowed = tuple(room.relative_to(ROOT).as_posix() for room in rooms)
    return all(file.startswith(allowed) for file in files)


@pytest.mark.parametrize(
    ("libraries", "rooms"),
    [
        (["lmdb"], [ENGINE / "store"]),
        (["faiss"], [ENGINE / "search"]),
        (["pyroaring"], [ENGINE / "label_index.py"]),
        # An embedding process sets its number of threads.
        (["torch"], [ENGINE / "faces", ENGINE / "workers" / "child.py"]),
        (["onnx"], [ENGINE / "faces"]),
        (["pyarrow"], [ENGINE / "exchange"]),
        (["jinja2", "matplotlib"], [SERVER / "visagedb_server" / "evaluation"]),
        # The self-test draws a picture.
        (["PIL"], [ENGINE / "faces", SERVER / "visagedb_server" / "commands" / "checks.py"]),
    ],
)
def test_a_heavy_library_is_imported_in_its_own_room_only(
    libraries: list[str], rooms: list[Path]
) -> None:
    users = importing(INDEXER, *libraries) | importing(SERVER, *libraries)
    assert users
    assert inside(users, *rooms), users


def test_the_indexer_knows_neither_the_server_nor_the_wire() -> None:
    forbidden = ["visagedb", "visagedb_server", "grpc", "google"]
    assert importing(INDEXER, *forbidden) == set()


def test_the_client_knows_neither_the_indexer_nor_the_server() -> None:
    assert importing(CLIENT, "visagedb_indexer", "visagedb_server") == set()


def test_the_server_takes_from_the_client_package_only_the_stubs() -> None:
    # Its commands run inside the client's command line and may be its clients.
    commands = SERVER / "visagedb_server" / "commands"
    for path in set(SERVER.rglob("*.py")) - set(commands.rglob("*.py")):
        taken = {name for name in imports(path) if name.split(".")[0] == "visagedb"}
        assert all(name.startswith("visagedb.v1") for name in taken), f"{path}: {taken}"


def test_only_the_gallery_speaks_to_the_search_engine() -> None:
    users = importing(ENGINE, "visagedb_indexer.search") | importing(
        SERVER, "visagedb_indexer.search"
    )
    users = {user for user in users if "/search/" not in user}
    assert users == {
        "indexer/visagedb_indexer/following.py",
        "indexer/visagedb_indexer/gallery.py",
        "indexer/visagedb_indexer/gallery_values.py",
        "indexer/visagedb_indexer/identification.py",
        "indexer/visagedb_indexer/integrity/codes.py",
        "indexer/visagedb_indexer/ranking.py",
        "indexer/visagedb_indexer/loose_faces.py",
        "server/visagedb_server/convert.py",
    }


def test_no_room_of_the_store_knows_the_search_engine_or_the_reverse() -> None:
    assert importing(ENGINE / "store", "visagedb_indexer.search") == set()
    assert importing(ENGINE / "search", "visagedb_indexer.store") == set()


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_is_too_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX


@pytest.mark.parametrize("folder", [CLIENT, INDEXER, SERVER, ROOT / "tests", ROOT])
def test_the_top_folders_are_no_packages(folder: Path) -> None:
    assert not (folder / "__init__.py").exists()


@pytest.mark.parametrize(
    ("contract", "name", "servicer"),
    [
        (galleries_pb2, "GalleryService", services.GalleryService),
        (identities_pb2, "IdentityService", services.IdentityService),
        (quarantine_pb2, "QuarantineService", services.QuarantineService),
        (search_pb2, "SearchService", services.SearchService),
        (clusters_pb2, "ClusterService", services.ClusterService),
        (gallery_audits_pb2, "GalleryAuditService", services.GalleryAuditService),
        (access_pb2, "AccessService", services.AccessService),
        (audit_log_pb2, "AuditLogService", services.AuditLogService),
        (erasures_pb2, "ErasureService", services.ErasureService),
        (imports_pb2, "ImportService", services.ImportService),
        (operations_pb2, "Operations", services.OperationsService),
    ],
)
def test_every_method_of_the_contract_has_a_handler(
    contract: object, name: str, servicer: type
) -> None:
    methods = contract.DESCRIPTOR.services_by_name[name].methods_by_name
    assert methods
    assert set(methods) <= set(vars(servicer))


def missing(*modules: str) -> bool:
    return any(importlib.util.find_spec(module) is None for module in modules)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(
            "check",
            marks=pytest.mark.skipif(
                missing("grpc_tools"), reason="the generator of the stubs is not installed"
            ),
        ),
        *[
            pytest.param(
                command,
                marks=pytest.mark.skipif(
                    not (Path(sys.executable).parent / "buf").exists(),
                    reason="buf is not installed",
                ),
            )
            for command in ("lint", "breaking")
        ],
    ],
)
def test_the_contract_and_its_stubs_are_in_order(command: str) -> None:
    script = ROOT / "tools" / "protos.py"
    result = subprocess.run(
        [sys.executable, script, command], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
