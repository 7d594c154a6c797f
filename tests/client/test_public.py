"""The public face of the package."""

import inspect
import subprocess
import sys
import types

import pytest

import visagedb

METHODS = [
    name
    for name, member in inspect.getmembers(visagedb.Client, callable)
    if not name.startswith("_") and name != "close"
]


def test_all_is_the_namespace() -> None:
    public = {
        name
        for name, value in vars(visagedb).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public | {"__version__"} == set(visagedb.__all__)


def test_all_is_documented() -> None:
    for name in visagedb.__all__:
        value = getattr(visagedb, name)
        if inspect.isclass(value):
            assert value.__doc__, name


def test_both_clients_have_the_same_methods() -> None:
    def names(cls: type) -> set[str]:
        return {name for name in vars(cls) if not name.startswith("_")}

    assert names(visagedb.Client) == names(visagedb.AsyncClient)


@pytest.mark.parametrize("name", METHODS)
def test_both_clients_have_the_same_signatures(name: str) -> None:
    ours, theirs = (
        inspect.signature(getattr(cls, name)) for cls in (visagedb.Client, visagedb.AsyncClient)
    )
    assert list(ours.parameters.values()) == list(theirs.parameters.values())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_documented_and_named(name: str) -> None:
    method = getattr(visagedb.Client, name)
    assert method.__doc__
    assert method.__name__ == name
    assert next(iter(inspect.signature(method).parameters)) == "self"


def test_the_client_needs_no_server_packages() -> None:
    """The base install has none of them."""
    heavy = "{'faiss', 'lmdb', 'onnx', 'PIL', 'torch', 'visagedb_indexer', 'visagedb_server'}"
    script = (
        "import sys, visagedb\n"
        "from visagedb._cli._app import run\n"
        "run(['gallery', 'list', '--help'])\n"
        f"sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_closed_client_says_so() -> None:
    client = visagedb.Client()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.health()
