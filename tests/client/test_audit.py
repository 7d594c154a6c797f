"""visagedb gallery audit, and fusion, as users of the client and the command line meet them."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import mates, random_vectors

import visagedb
from visagedb._cli._app import run
from visagedb_server.server import Server

DIMENSION, PEOPLE = 64, 40
CENTRES = random_vectors(PEOPLE, DIMENSION)


@pytest.fixture
def client(vector_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[visagedb.Client]:
    """Forty people of three faces, one of them under two ids, one face under a wrong id."""
    monkeypatch.setenv("VISAGEDB_ADDRESS", vector_server.address)
    monkeypatch.setenv("COLUMNS", "200")
    with visagedb.Client(vector_server.address) as client:
        client.create_gallery("labels", model="test", dimension=DIMENSION)
        for person, centre in enumerate(CENTRES):
            faces = mates(np.repeat(centre[None], 3, axis=0), 0.88, seed=person)
            for place, face in enumerate(faces):
                identity = {(0, 2): "p0-again", (1, 0): "p2"}.get((person, place), f"p{person}")
                client.enroll("labels", identity, vector=face, source=f"{person}/{place}.jpg")
        yield client


def output(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_an_audit_finds_what_is_wrong(client: visagedb.Client) -> None:
    audit = client.audit_gallery("labels").result(timeout=60)
    assert (audit.face_count, audit.identity_count) == (3 * PEOPLE, PEOPLE + 1)
    assert client.get_gallery_audit(audit) == audit
    duplicate, mislabelled = client.gallery_findings(audit, page_size=1)
    assert duplicate.kind is visagedb.FindingKind.DUPLICATE_IDENTITIES
    assert {duplicate.identity, duplicate.other_identity} == {"p0", "p0-again"}
    assert mislabelled.kind is visagedb.FindingKind.MISLABELLED_FACE
    assert (mislabelled.identity, mislabelled.other_identity) == ("p2", "p1")
    assert mislabelled.source == "1/0.jpg"
    assert list(client.list_operations())[-1].audit == audit


def test_kinds_by_name(client: visagedb.Client) -> None:
    audit = client.audit_gallery("labels", kinds=["mislabelled_face"]).result(timeout=60)
    assert (audit.duplicate_count, audit.mislabelled_count) == (0, 1)
    with pytest.raises(ValueError, match="typo"):
        client.audit_gallery("labels", kinds=["typo"])


def test_the_command_shows_tables(
    client: visagedb.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["gallery", "audit", "labels"]) == 0
    shown = capsys.readouterr().out
    assert "perhaps one person" in shown
    assert "1/0.jpg" in shown
    assert "p0-again" in shown


def test_the_command_writes_reports(
    client: visagedb.Client, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for suffix in ("json", "csv"):
        document = output(
            capsys, "gallery", "audit", "labels", "--output", str(tmp_path / f"report.{suffix}")
        )
    assert document["audit"]["duplicate_count"] == 1
    written = json.loads((tmp_path / "report.json").read_text())
    assert [one["kind"] for one in written["findings"]] == [
        "duplicate_identities",
        "mislabelled_face",
    ]
    with (tmp_path / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["identity"] for row in rows][1:] == ["p2"]
    assert rows[1]["other_identity"] == "p1"


def test_another_kind_of_report_is_refused(
    client: visagedb.Client, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = tmp_path / "report.txt"
    assert run(["gallery", "audit", "labels", "--output", str(report)]) == 2
    assert not report.exists()


def test_a_gallery_without_findings(
    client: visagedb.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    client.create_gallery("empty", model="test", dimension=4)
    assert run(["gallery", "audit", "empty"]) == 0
    assert "nothing found" in capsys.readouterr().out


def test_fusion_is_chosen_at_creation_and_later(
    client: visagedb.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    assert client.get_gallery("labels").score_fusion is visagedb.ScoreFusion.ADAPTIVE_MEAN
    made = output(
        capsys, "gallery", "create", "g", "--model", "t", "--dimension", "4", "--fusion", "maximum"
    )
    assert made["gallery"]["score_fusion"] == "maximum"
    for fusion in visagedb.ScoreFusion:
        if fusion is not visagedb.ScoreFusion.UNKNOWN:
            assert client.update_gallery("g", score_fusion=fusion).score_fusion is fusion
    assert run(["gallery", "show", "g"]) == 0
    assert "adaptive mean" in capsys.readouterr().out
    with pytest.raises(ValueError, match="newer server"):
        client.update_gallery("g", score_fusion="unknown")
    made = client.create_gallery("h", model="t", dimension=4, score_fusion="mean_vector")
    assert made.score_fusion is visagedb.ScoreFusion.MEAN_VECTOR
