"""Fixtures: real servers on free ports, with and without embedding processes; photographs."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from sample_photos import SamplePhotos, SamplePhotosError, sample_photos
from servers import make_config
from threadpoolctl import threadpool_limits

from visagedb_server.server import Server

CHECKOUT = Path(__file__).resolve().parents[1]

# As in a server: threads of the matrix library wait for one another on a busy machine.
threadpool_limits(1, user_api="blas")


@pytest.fixture
def vector_server(tmp_path: Path) -> Iterator[Server]:
    """A server without embedding processes, in this process."""
    open_folders = {"import_roots": (tmp_path,), "export_roots": (tmp_path,)}
    server = Server(make_config(tmp_path / "data", **open_folders))
    server.start()
    yield server
    server.stop(grace=5)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one embedding process, shared by all tests that need faces."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("the faces extra is not installed")
    data = tmp_path_factory.mktemp("server") / "data"
    server = Server(make_config(data, workers=1, import_roots=(tmp_path_factory.getbasetemp(),)))
    server.start()
    yield server
    server.stop(grace=5)


@pytest.fixture(scope="session")
def photos() -> SamplePhotos:
    """Photographs of public figures, fetched once."""
    try:
        return sample_photos()
    except SamplePhotosError as error:
        pytest.skip(str(error))


def _shared(name: str) -> Path:
    path = CHECKOUT.parent / "shared" / name
    if not path.is_dir():
        pytest.skip(f"needs {name!r} in a folder 'shared' beside the checkout")
    return path


@pytest.fixture(scope="session")
def shared_faces() -> Path:
    """Face collections that may not be redistributed."""
    return _shared("faces")


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """Weights that may not be redistributed."""
    return _shared("models")
