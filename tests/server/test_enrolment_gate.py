"""Checks on enrolment and the quarantine over the wire: both clients, the command line, images."""

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from servers import start_process
from support import mates, random_vectors

import visagedb
from visagedb import GateAction, GateReason, IdentityCheck, QualityCheck
from visagedb._cli._app import run
from visagedb.v1 import enrolment_gate_pb2, galleries_pb2, galleries_pb2_grpc
from visagedb_server import logs
from visagedb_server.server import Server

PEOPLE = random_vectors(12, 32)
MATES = mates(PEOPLE, 0.8)
AT = 0.6


@pytest.fixture(autouse=True)
def quiet_logs() -> None:
    """Servers in this process must not write to the output that a test of commands reads."""
    logs.configure("error", "text")


@pytest.fixture
def client(vector_server: Server) -> Iterator[visagedb.Client]:
    with visagedb.Client(vector_server.address) as client:
        client.create_gallery("g", model="mine", dimension=32)
        for number, vector in enumerate(PEOPLE[:6]):
            client.enroll("g", f"p{number}", vector=vector)
        yield client


def check(action: GateAction) -> IdentityCheck:
    return IdentityCheck(action, threshold=AT)


def test_settings_travel_and_change_one_by_one(client: visagedb.Client) -> None:
    asked = {
        "quality_check": QualityCheck(GateAction.REPORT, 0.4, ("TURNED_AWAY",)),
        "duplicate_check": IdentityCheck(GateAction.QUARANTINE, threshold=0.55),
        "mismatch_check": IdentityCheck(GateAction.REJECT, max_false_positive_rate=1e-3),
    }
    with pytest.raises(visagedb.NotCalibratedError):
        client.create_gallery("checked", model="mine", dimension=32, **asked)
    asked["mismatch_check"] = check(GateAction.REJECT)
    made = client.create_gallery("checked", model="mine", dimension=32, **asked)
    assert {name: getattr(made, name) for name in asked} == asked
    plain = client.get_gallery("g")
    assert plain.quality_check == QualityCheck(GateAction.OFF, 0.35)
    assert plain.duplicate_check == plain.mismatch_check == IdentityCheck()
    changed = client.update_gallery("checked", duplicate_check=IdentityCheck())
    assert changed.duplicate_check == IdentityCheck()
    assert changed.quality_check == asked["quality_check"]
    with pytest.raises(visagedb.InvalidArgumentError):
        client.update_gallery("g", quality_check=QualityCheck(GateAction.REJECT, 7.0))
    with pytest.raises(ValueError, match="not both"):
        client.update_gallery("g", duplicate_check=IdentityCheck(GateAction.OFF, 0.5, 0.1))
    with pytest.raises(ValueError, match="newer server"):
        client.update_gallery("g", duplicate_check=IdentityCheck(GateAction.UNKNOWN))


def test_an_unknown_action_is_refused(client: visagedb.Client) -> None:
    with grpc.insecure_channel(client.address) as channel:
        stub = galleries_pb2_grpc.GalleryServiceStub(channel)
        gate = galleries_pb2.EnrolmentGate(
            quality=enrolment_gate_pb2.QualityCheck(action=99)  # type: ignore[arg-type]
        )
        request = galleries_pb2.UpdateGalleryRequest(
            gallery=galleries_pb2.Gallery(name="galleries/g", enrolment_gate=gate)
        )
        request.update_mask.paths.append("enrolment_gate.quality")
        with pytest.raises(grpc.RpcError) as refusal:
            stub.UpdateGallery(request)
        assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_rejections_are_typed(client: visagedb.Client) -> None:
    client.update_gallery(
        "g", duplicate_check=check(GateAction.REJECT), mismatch_check=check(GateAction.REJECT)
    )
    with pytest.raises(visagedb.DuplicateIdentityError) as refusal:
        client.enroll("g", "twin", vector=MATES[2])
    assert refusal.value.metadata["identity"] == "p2"
    assert refusal.value.code == "FAILED_PRECONDITION"
    with pytest.raises(visagedb.IdentityMismatchError):
        client.enroll("g", "p1", vector=PEOPLE[8])
    assert client.get_gallery("g").face_count == 6
    results = {
        result.item.identity: result.outcome
        for result in client.enroll_many(
            "g",
            [
                visagedb.EnrollItem("twin", vector=MATES[2]),
                visagedb.EnrollItem("p3", vector=MATES[3]),
                visagedb.EnrollItem("new", vector=PEOPLE[9]),
            ],
        )
    }
    assert results == {"twin": "DUPLICATE_IDENTITY", "p3": "enrolled", "new": "enrolled"}


def test_the_quarantine(client: visagedb.Client) -> None:
    client.update_gallery(
        "g",
        duplicate_check=check(GateAction.QUARANTINE),
        mismatch_check=check(GateAction.QUARANTINE),
    )
    for number in range(3):
        answer = client.enroll("g", f"twin{number}", vector=MATES[number], source=f"{number}.jpg")
        assert answer.outcome is visagedb.EnrollOutcome.QUARANTINED
        assert answer.quarantined_face == f"galleries/g/quarantine/{number}"
        (finding,) = answer.findings
        assert finding.identity == f"galleries/g/identities/p{number}"
        assert finding.face.startswith(f"galleries/g/identities/p{number}/faces/")
    client.enroll("g", "p5", vector=PEOPLE[9])
    faces = list(client.list_quarantined_faces("g", page_size=3, include_template=True))
    assert [face.identity for face in faces] == ["twin0", "twin1", "twin2", "p5"]
    assert faces[1].template is not None
    np.testing.assert_allclose(faces[1].template.vector, MATES[1], atol=1e-6)
    assert (faces[1].source, faces[1].number, faces[1].gallery) == ("1.jpg", 1, "g")
    (mismatch,) = client.list_quarantined_faces("g", reason="identity_mismatch")
    assert mismatch.findings[0].reason is GateReason.IDENTITY_MISMATCH
    assert mismatch.template is None
    assert client.gallery_stats("g").quarantined_face_count == 4
    accepted = client.accept_quarantined_face("g", faces[0], identity="p0")
    assert accepted.face.identity == "p0"
    assert client.accept_quarantined_face("g", 1).identity_created
    client.drop_quarantined_face("g", faces[2])
    client.drop_quarantined_face("g", faces[2], missing_ok=True)
    with pytest.raises(visagedb.QuarantinedFaceNotFoundError):
        client.drop_quarantined_face("g", faces[2])
    with pytest.raises(visagedb.QuarantinedFaceNotFoundError):
        client.accept_quarantined_face("g", 0)
    assert [face.identity for face in client.list_quarantined_faces("g")] == ["p5"]
    client.delete_identity("g", "p5")
    assert list(client.list_quarantined_faces("g")) == []


def test_the_asynchronous_client(client: visagedb.Client) -> None:
    async def story() -> None:
        async with visagedb.AsyncClient(client.address) as other:
            await other.update_gallery("g", duplicate_check=check(GateAction.QUARANTINE))
            await other.enroll("g", "twin", vector=MATES[1])
            await other.enroll("g", "twin", vector=MATES[2])
            first, second = [face async for face in other.list_quarantined_faces("g")]
            assert (await other.accept_quarantined_face("g", first)).identity_created
            await other.drop_quarantined_face("g", second)
            assert [face async for face in other.list_quarantined_faces("g")] == []

    asyncio.run(story())


def test_the_command_line(client: visagedb.Client, capsys: pytest.CaptureFixture[str]) -> None:
    def cli(*arguments: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert run(["--address", client.address, *arguments, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    made = cli(
        "gallery", "create", "c", "--model", "m", "--dimension", "32",
        "--low-quality", "report", "--refuse-for", "turned-away",
        "--duplicates", "quarantine", "--duplicate-threshold", "0.6",
    )["gallery"]  # fmt: skip
    assert made["quality_check"]["reasons"] == ["TURNED_AWAY"]
    changed = cli(
        "gallery", "update", "c", "--min-quality", "0.3",
        "--mismatches", "reject", "--mismatch-threshold", "0.5",
    )["gallery"]  # fmt: skip
    assert changed["quality_check"]["action"] == "report"
    assert changed["quality_check"]["min_score"] == 0.3
    assert changed["duplicate_check"]["threshold"] == 0.6
    assert changed["mismatch_check"]["action"] == "reject"
    cli("gallery", "update", "c", "--duplicates", "off", "--mismatches", "off")
    cli("gallery", "update", "c", "--duplicates", "bad", code=2)
    client.enroll("c", "p", vector=PEOPLE[0])
    cli("gallery", "update", "c", "--duplicates", "quarantine")
    for number in range(3):
        client.enroll("c", f"twin{number}", vector=mates(PEOPLE, 0.9, seed=number)[0])
    listed = cli("quarantine", "list", "c", "--reason", "duplicate_identity")["faces"]
    assert [one["identity"] for one in listed] == ["twin0", "twin1", "twin2"]
    assert cli("quarantine", "list", "c", "--reason", "low_quality")["faces"] == []
    accepted = cli("quarantine", "accept", "c", "0", "--identity", "p")["enrolled"]
    assert [one["outcome"] for one in accepted] == ["enrolled"]
    assert cli("quarantine", "drop", "c", "1")["dropped"] == [1]
    assert cli("quarantine", "drop", "c", "1", code=1)["error"]["reason"] == (
        "QUARANTINED_FACE_NOT_FOUND"
    )
    cli("quarantine", "drop", "c", code=2)
    assert run(["--address", client.address, "quarantine", "list", "c"]) == 0
    shown = capsys.readouterr().out
    assert "twin2" in shown
    assert "1 face in quarantine" in shown
    assert cli("quarantine", "drop", "c", "--all")["dropped"] == [2]


def test_what_is_in_quarantine_outlives_a_kill(tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = start_process(data, "--workers", "0")
    with visagedb.Client(first.address) as client:
        client.create_gallery(
            "g", model="m", dimension=32, duplicate_check=check(GateAction.QUARANTINE)
        )
        client.enroll("g", "p", vector=PEOPLE[0])
        client.enroll("g", "dropped", vector=mates(PEOPLE, 0.9, seed=7)[0])
        client.drop_quarantined_face("g", 0)
        client.enroll("g", "kept", vector=MATES[0])
        first.kill()
    second = start_process(data, "--workers", "0")
    with visagedb.Client(second.address) as client:
        (face,) = client.list_quarantined_faces("g", include_template=True)
        assert face.identity == "kept"
        assert client.accept_quarantined_face("g", face).face.identity == "kept"
    assert second.terminate() == 0


def test_photographs(server: Server, photos: Any) -> None:
    """A good photograph passes, a bad one does not, and the model's card has the thresholds."""
    image_module = pytest.importorskip("PIL.Image")
    (name, paths), (other, others) = list(photos.people.items())[:2]

    def spoiled(path: Path) -> bytes:
        with image_module.open(path) as image:
            small = image.resize((image.width // 20, image.height // 20))
            stream = io.BytesIO()
            small.resize(image.size).save(stream, "JPEG")
        return stream.getvalue()

    with visagedb.Client(server.address) as client:
        client.delete_gallery("gate", missing_ok=True)
        client.create_gallery(
            "gate",
            quality_check=QualityCheck(GateAction.REJECT, 0.3, ("BLURRED",)),
            duplicate_check=IdentityCheck(GateAction.REJECT),
            mismatch_check=IdentityCheck(GateAction.REJECT),
        )
        first = client.enroll("gate", name, image=paths[0], face_selection="largest")
        assert first.findings == ()
        with pytest.raises(visagedb.LowQualityError) as refusal:
            client.enroll("gate", name, image=spoiled(paths[0]), face_selection="largest")
        assert "BLURRED" in refusal.value.metadata["quality_reasons"]
        if len(paths) > 1:
            assert client.enroll("gate", name, image=paths[1], face_selection="largest").face
            with pytest.raises(visagedb.DuplicateIdentityError):
                client.enroll("gate", "alias", image=paths[1], face_selection="largest")
        with pytest.raises(visagedb.IdentityMismatchError):
            client.enroll("gate", name, image=others[0], face_selection="largest")
        assert client.enroll("gate", other, image=others[0], face_selection="largest").face
        client.update_gallery(
            "gate", quality_check=QualityCheck(GateAction.REPORT, 0.3, ("BLURRED",))
        )
        loose = client.enroll_loose("gate", image=spoiled(others[0]))
        assert len(loose.faces) == len(loose.gated_faces) >= 1
        assert loose.gated_faces[0].face.startswith("galleries/gate/faces/")
        client.delete_gallery("gate")
