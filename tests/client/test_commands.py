"""visagedb models and visagedb doctor."""

import json
from pathlib import Path
from typing import Any

import pytest

from visagedb._cli._app import run
from visagedb_server.commands import checks


def output(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_models_list_and_describe(capsys: pytest.CaptureFixture[str]) -> None:
    models = {model["name"]: model for model in output(capsys, "models", "list")["models"]}
    assert models["sface"]["dimension"] == 128
    assert models["yunet"]["kind"] == "detector"
    sface = output(capsys, "models", "describe", "sface")["model"]
    assert len(sface["sha256"]) == 64
    assert run(["models", "list"]) == 0
    assert run(["models", "describe", "yunet"]) == 0


def test_models_check_files(capsys: pytest.CaptureFixture[str]) -> None:
    checked = output(capsys, "models", "check", "--files-only")["checks"]
    assert {check["model"]: check["ok"] for check in checked} == {"sface": True, "yunet": True}


def test_unknown_model_and_broken_card(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    error = output(capsys, "models", "describe", "nobody", code=1)["error"]
    assert error["reason"] == "MODEL_NOT_AVAILABLE"
    card = tmp_path / "card.toml"
    card.write_text("not toml at all")
    error = output(capsys, "models", "list", "--card", str(card), code=1)["error"]
    assert error["reason"] == "INVALID_MODEL_CARD"
    report = output(capsys, "doctor", "--quick", "--card", str(card), code=1)
    assert report["ok"] is False


def test_doctor(capsys: pytest.CaptureFixture[str], tmp_path: Path, vector_server: Any) -> None:
    report = output(
        capsys, "doctor", "--data", str(tmp_path / "new"), "--address", vector_server.address
    )
    found = {check["name"]: check for check in report["checks"]}
    assert report["ok"] is True
    assert found["data directory"]["status"] == "OK"
    assert found["server"]["detail"] == f"serving at {vector_server.address}"
    assert found["self-test"]["status"] == "OK"
    assert not (tmp_path / "new").exists()


def test_doctor_finds_a_file_in_place_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    (check, *_) = checks.disk(path, is_data=True)
    assert check.status is checks.Status.FAIL
    assert check.fix


def test_doctor_finds_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "FREE_BYTES_WARN", 1 << 62)
    (_, check) = checks.disk(tmp_path, is_data=True)
    assert check.status is checks.Status.WARN


def test_doctor_without_a_server() -> None:
    (none,) = checks.server(None)
    assert none.status is checks.Status.OK
    (asked,) = checks.server("127.0.0.1:1")
    assert asked.status is checks.Status.WARN
    assert "visagedb serve" in asked.fix


def test_doctor_finds_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = (("nowhere", "nowhere", "server"), ("nowhere", "nowhere", "faces"))
    monkeypatch.setattr(checks, "_PACKAGES", wanted)
    statuses = [check.status for check in checks.packages()]
    assert statuses == [checks.Status.FAIL, checks.Status.WARN]
