"""Killed at any step of a compaction, a gallery is whole: nobody is lost, nobody comes back."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from raw_bytes import traces
from servers import start_process
from support import enroll, gallery_record, random_vectors
from wire import Api

from visagedb.v1 import erasures_pb2, identities_pb2
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.integrity import verify_store
from visagedb_indexer.values import Vector

ENGINE = Path(__file__).resolve().parents[2] / "indexer" / "visagedb_indexer"
STEPS = sorted(
    {
        name
        for path in ENGINE.rglob("*.py")
        for name in re.findall(r'reached\("(compaction\.\w+)"\)', path.read_text())
    }
)
DIMENSION, PEOPLE = 64, 60

COMPACTING = """
import sys
from pathlib import Path
from support import enroll, random_vectors
from visagedb_indexer.gallery import Gallery
gallery = Gallery(Path(sys.argv[1]))
written = []
def progress(done, stage):
    if stage == "copying the database" and not written:
        enroll(gallery, "meanwhile", random_vectors(1, 64, seed=3)[0])
        written.append(1)
gallery.compactions.compact(progress, overwrite=True)
"""


@pytest.fixture(scope="module")
def erased(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Vector]:
    """The folder of a gallery, and the vector of somebody who was deleted from it."""
    folder = tmp_path_factory.mktemp("erased") / "g"
    gallery = Gallery(folder, gallery_record(dimension=DIMENSION))
    for number, vector in enumerate(random_vectors(PEOPLE, DIMENSION)):
        enroll(gallery, f"p{number}", vector)
    vector = gallery.faces("p7", with_vectors=True)[0][1]
    assert vector is not None
    gallery.delete_identity("p7")
    gallery.close()
    return folder, vector


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step(step: str, erased: tuple[Path, Vector], tmp_path: Path) -> None:
    origin, vector = erased
    folder = tmp_path / "g"
    shutil.copytree(origin, folder)
    environment = {
        **os.environ,
        "VISAGEDB_FAILPOINT": f"{step}=kill",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", COMPACTING, str(folder)], env=environment, check=False, timeout=120
    )
    assert done.returncode == -signal.SIGKILL, f"{step} was not reached"
    gallery = Gallery(folder)
    try:
        expected = {f"p{number}" for number in range(PEOPLE)} - {"p7"}
        assert {one.id for one in gallery.identities(most=1000)} - {"meanwhile"} == expected
        report = verify_store(gallery._store)
        assert report.ok, report.broken
        assert not {"compaction", "replaced.mdb"} & {file.name for file in folder.iterdir()}
        gallery.compactions.compact(lambda done, stage: None)
        assert gallery.erasures.pending().count == 0
        assert {one.id for one in gallery.identities(most=1000)} - {"meanwhile"} == expected
    finally:
        gallery.close()
    assert traces(folder, vector) == []


def test_a_killed_server_goes_on_with_its_compaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    monkeypatch.setenv("VISAGEDB_FAILPOINT", "compaction.after_rename=kill")
    process = start_process(data, "--workers", "0", "--log-level", "warning")
    api = Api(process.address)
    api.create_gallery("people", DIMENSION)
    vectors = random_vectors(20, DIMENSION)
    for number, vector in enumerate(vectors):
        api.enroll(f"p{number}", vector)
    name = "galleries/people/identities/p3"
    request = identities_pb2.DeleteIdentityRequest(name=name)
    receipt = api.identities.DeleteIdentity(request).erasure
    assert receipt.state == erasures_pb2.ERASURE_STATE_PENDING
    compact = erasures_pb2.CompactGalleryRequest(name="galleries/people")
    with contextlib.suppress(grpc.RpcError):
        api.erasures.CompactGallery(compact)
    assert process.process.wait(timeout=60) == -signal.SIGKILL
    api.close()
    process.kill()
    monkeypatch.delenv("VISAGEDB_FAILPOINT")
    process = start_process(data, "--workers", "0", "--log-level", "warning")
    api = Api(process.address)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = api.erasures.GetErasure(erasures_pb2.GetErasureRequest(name=receipt.name)).erasure
        if found.state == erasures_pb2.ERASURE_STATE_COMPLETE:
            break
        time.sleep(0.05)
    assert found.state == erasures_pb2.ERASURE_STATE_COMPLETE
    assert traces(data, vectors[3]) == []
    listed = identities_pb2.ListIdentitiesRequest(parent="galleries/people")
    assert len(api.identities.ListIdentities(listed).identities) == 19
    api.close()
    assert process.terminate() == 0
