"""Data directories of every format version are opened, are sound, and say what they said."""

import importlib.util
import json
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from visagedb_indexer.integrity import verify_directory
from visagedb_indexer.store.schema import FORMAT_VERSION

CHECKOUT = Path(__file__).resolve().parents[2]
GOLDEN = CHECKOUT / "tests" / "golden" / "data"
ARCHIVES = sorted(GOLDEN.glob("format-*.tar.xz"))


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """The tool that made them: it asks a server what is in a directory."""
    spec = importlib.util.spec_from_file_location("golden", CHECKOUT / "tools" / "golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_version_has_one() -> None:
    names = [f"format-{version}.tar.xz" for version in range(1, FORMAT_VERSION + 1)]
    assert [path.name for path in ARCHIVES] == names


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name)
def test_a_directory_of_a_format_is_sound_and_says_what_it_said(
    archive: Path, tool: ModuleType, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with tarfile.open(archive) as packed:
        packed.extractall(data, filter="data")
    reports = list(verify_directory(data))
    assert reports
    assert all(report.ok for report in reports), [report.broken for report in reports]
    found = json.loads(json.dumps(tool.described(data)))
    expected = json.loads(archive.with_name(archive.name.replace(".tar.xz", ".json")).read_text())
    assert_alike(found, expected)
    # And it has been left as sound by the server that opened it.
    assert all(report.ok for report in verify_directory(data))


def assert_alike(found: Any, expected: Any, where: str = "") -> None:
    """Equal but for the last digit of numbers, which processors compute differently."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_alike(found[key], expected[key], f"{where}/{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for place, pair in enumerate(zip(found, expected, strict=True)):
            assert_alike(*pair, f"{where}/{place}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=2e-4), where
    else:
        assert found == expected, where
