"""The server is killed in the middle of enrolling a folder of photographs."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from sample_photos import SamplePhotos
from servers import ServerProcess, start_process

import visagedb

GALLERY = "people"
FILES = 48
KILLED_AFTER = 12
COMMAND_SECONDS_MAX = 150


@pytest.fixture
def folder(tmp_path: Path, photos: SamplePhotos) -> Path:
    """Sub-folders with many different files that show the same few faces."""
    portraits = [path for paths in photos.people.values() for path in paths]
    for number in range(FILES):
        person = tmp_path / "folder" / f"person-{number // 4:02d}"
        person.mkdir(parents=True, exist_ok=True)
        with Image.open(portraits[number % len(portraits)]) as image:
            image.thumbnail((400 + number, 400 + number))
            content = io.BytesIO()
            image.convert("RGB").save(content, "JPEG", quality=90)
        (person / f"{number}.jpg").write_bytes(content.getvalue())
    return tmp_path / "folder"


def enroll_until_killed(address: str, folder: Path, kill: Callable[[], None]) -> set[str]:
    """Enrols the folder, kills the server on the way; the sources that were acknowledged."""
    items = [
        visagedb.EnrollItem(path.parent.name, image=path, source=str(path.relative_to(folder)))
        for path in sorted(folder.rglob("*.jpg"))
    ]
    acknowledged = set()
    with visagedb.Client(address, timeout=60) as client:
        client.create_gallery(GALLERY)
        with contextlib.suppress(visagedb.ServerUnreachableError):
            for result in client.enroll_many(GALLERY, items, patience=0.2):
                if result.ok:
                    acknowledged.add(result.item.source)
                if len(acknowledged) == KILLED_AFTER:
                    kill()
    return acknowledged


def stored_sources(address: str) -> Counter[str]:
    with visagedb.Client(address, timeout=60) as client:
        return Counter(
            face.source
            for identity in client.list_identities(GALLERY)
            for face in client.list_faces(GALLERY, identity.id)
        )


def enroll_by_command(server: ServerProcess, folder: Path) -> dict[str, int]:
    """How many files came to what; a command that never returns says what all threads do."""
    command = [sys.executable, "-X", "faulthandler", "-m", "visagedb", "--address", server.address]
    command += ["enroll", GALLERY, str(folder), "--json"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        printed, _ = run.communicate(timeout=COMMAND_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        for children in Path(f"/proc/{server.process.pid}/task").glob("*/children"):
            for worker in children.read_text().split():
                os.kill(int(worker), signal.SIGUSR1)
        server.process.send_signal(signal.SIGUSR1)
        run.send_signal(signal.SIGABRT)
        pytest.fail(f"the command never returned:\n{run.communicate()[1]}")
    assert run.returncode == 0
    outcomes: dict[str, int] = json.loads(printed)["outcomes"]
    return outcomes


def test_a_killed_folder_enrolment_keeps_what_it_acknowledged_and_can_be_repeated(
    tmp_path: Path, folder: Path
) -> None:
    data = tmp_path / "data"
    server = start_process(data, "--workers", "1")
    acknowledged = enroll_until_killed(server.address, folder, server.kill)
    assert KILLED_AFTER <= len(acknowledged) < FILES

    server = start_process(data, "--workers", "1")
    try:
        stored = stored_sources(server.address)
        assert acknowledged <= stored.keys(), "an acknowledged face is missing"
        assert set(stored.values()) == {1}, "a face is there twice"

        outcomes = enroll_by_command(server, folder)
        assert outcomes["already_enrolled"] == len(stored)
        assert outcomes["enrolled"] == FILES - len(stored)
        assert len(stored_sources(server.address)) == FILES
        assert set(stored_sources(server.address).values()) == {1}
    finally:
        server.terminate()
