"""A real server process, killed at random moments while it is written to."""

import contextlib
import hashlib
import os
import random
import signal
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from servers import ServerProcess, start_process
from support import failures, random_vectors, run_together
from wire import DIMENSION, Api

from visagedb.v1 import galleries_pb2, identities_pb2

KILLS = 8
LANES = 6


class Lane:
    """One writer: enrols, deletes faces and identities, and remembers what was acknowledged.

    What was under way when the server went is unknown: it may have happened or not.
    """

    def __init__(self, lane: int) -> None:
        self.lane = lane
        self.random = random.Random(lane)
        self.next = 0
        self.faces: set[tuple[str, str]] = set()
        self.gone: set[tuple[str, str]] = set()
        self.unknown: set[tuple[str, str]] = set()
        self.acknowledged = 0

    def work(self, api: Api, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self.step(api)
            except grpc.RpcError as error:
                if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
                    return
                raise

    def step(self, api: Api) -> None:
        if self.faces and self.random.random() < 0.3:
            self.delete(api, self.random.choice(sorted(self.faces)))
        else:
            self.enroll(api)
        self.acknowledged += 1

    def enroll(self, api: Api) -> None:
        face = (f"p{self.lane}-{self.next // 3}", f"f{self.next}")
        self.next += 1
        self.unknown.add(face)
        api.enroll(face[0], vector_of(face), face_id=face[1])
        self.unknown.discard(face)
        self.faces.add(face)

    def delete(self, api: Api, face: tuple[str, str]) -> None:
        whole = self.random.random() < 0.3
        chosen = {known for known in self.faces if known[0] == face[0]} if whole else {face}
        self.faces -= chosen
        self.unknown |= chosen
        name = f"galleries/people/identities/{face[0]}"
        if whole:
            request = identities_pb2.DeleteIdentityRequest(name=name, allow_missing=True)
            api.identities.DeleteIdentity(request)
            # Faces of this person whose fate was unknown are gone now, too.
            chosen |= {known for known in self.unknown if known[0] == face[0]}
        else:
            api.identities.DeleteFace(
                identities_pb2.DeleteFaceRequest(name=f"{name}/faces/{face[1]}")
            )
        self.unknown -= chosen
        self.gone |= chosen

    def settle(self, present: set[tuple[str, str]]) -> None:
        """Checks what is there after a restart; what was unknown is known then."""
        mine = {face for face in present if face[0].startswith(f"p{self.lane}-")}
        assert self.faces <= mine, "an acknowledged face is lost"
        assert not self.gone & mine, "a deleted face is back"
        assert mine <= self.faces | self.unknown
        self.gone |= self.unknown - mine
        self.faces, self.unknown = mine, set()


def vector_of(face: tuple[str, str]) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256("/".join(face).encode()).digest()[:4], "big")
    return random_vectors(1, DIMENSION, seed)[0]


def faces_in(api: Api) -> set[tuple[str, str]]:
    """All faces, with listing, counts and search found to agree."""
    listing = api.all_faces()
    pairs = [(person, face) for person, faces in listing.items() for face in faces]
    assert len(set(pairs)) == len(pairs), "a face is there twice"
    gallery = api.gallery()
    assert (gallery.identity_count, gallery.face_count) == (len(listing), len(pairs))
    for person, faces in listing.items():
        assert api.identity(person).face_count == len(faces)
    for pair in pairs[:: max(1, len(pairs) // 50)]:
        assert api.best(vector_of(pair)) == pair[0]
    return set(pairs)


def start(data: Path) -> tuple[ServerProcess, Api]:
    process = start_process(data, "--workers", "0", "--log-level", "warning")
    return process, Api(process.address)


def test_a_killed_server_keeps_what_it_acknowledged_and_nothing_else(tmp_path: Path) -> None:
    moments = random.Random(20_240_229)
    lanes = [Lane(lane) for lane in range(LANES)]
    stop = threading.Event()
    for kill in range(KILLS):
        process, api = start(tmp_path / "data")
        try:
            if kill == 0:
                api.create_gallery()
            else:
                present = faces_in(api)
                for lane in lanes:
                    lane.settle(present)
            target = sum(lane.acknowledged for lane in lanes) + moments.randrange(5, 400)

            def end(process: ServerProcess = process, target: int = target) -> None:
                while sum(lane.acknowledged for lane in lanes) < target:
                    stop.wait(moments.random() * 0.003)
                process.process.kill()

            tasks = [lambda lane=lane, api=api: lane.work(api, stop) for lane in lanes]
            assert not failures(run_together([*tasks, end]))
        finally:
            api.close()
            process.kill()
    process, api = start(tmp_path / "data")
    try:
        present = faces_in(api)
        for lane in lanes:
            lane.settle(present)
        assert len(present) > 20
        assert any(lane.gone for lane in lanes)
    finally:
        api.close()
        assert process.terminate() == 0


def test_a_server_killed_while_galleries_come_and_go_starts_again(tmp_path: Path) -> None:
    moments = random.Random(7)
    for _ in range(3):
        process, api = start(tmp_path / "data")
        known = {
            gallery.name
            for gallery in api.galleries.ListGalleries(
                galleries_pb2.ListGalleriesRequest()
            ).galleries
        }
        assert len(list((tmp_path / "data" / "galleries").iterdir())) == len(known)

        def churn(lane: int, api: Api = api) -> None:
            for i in range(10_000):
                try:
                    api.create_gallery(f"g{lane}-{i}")
                    if i % 2:
                        name = f"galleries/g{lane}-{i}"
                        api.galleries.DeleteGallery(galleries_pb2.DeleteGalleryRequest(name=name))
                except grpc.RpcError as error:
                    if error.code() == grpc.StatusCode.UNAVAILABLE:
                        return
                    if error.code() != grpc.StatusCode.ALREADY_EXISTS:
                        raise

        def end(process: ServerProcess = process) -> None:
            threading.Event().wait(0.2 + moments.random() * 0.3)
            process.process.kill()

        assert not failures(run_together([lambda: churn(0), lambda: churn(1), end]))
        api.close()
        process.kill()


def test_a_stopped_server_loses_no_acknowledged_write_and_exits_with_zero(tmp_path: Path) -> None:
    lanes = [Lane(lane) for lane in range(LANES)]
    process, api = start(tmp_path / "data")
    api.create_gallery()

    def end() -> int:
        while sum(lane.acknowledged for lane in lanes) < 100:
            threading.Event().wait(0.005)
        return process.terminate()

    never = threading.Event()
    results = run_together([*[lambda lane=lane: lane.work(api, never) for lane in lanes], end])
    assert not failures(results)
    assert results[-1] == 0
    api.close()
    process, api = start(tmp_path / "data")
    present = faces_in(api)
    for lane in lanes:
        lane.settle(present)
    api.close()
    assert process.terminate() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_server_at_once(tmp_path: Path, number: signal.Signals) -> None:
    process, api = start(tmp_path / "data")
    api.create_gallery()
    # A call that lasts keeps the first, graceful stop from ending.
    held = api.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
    hold = threading.Event()

    def requests() -> object:
        yield b""
        hold.wait(60)

    call = held(requests())
    next(call)
    os.kill(process.process.pid, number)
    with contextlib.suppress(grpc.RpcError):
        while True:
            api.gallery()
    assert process.process.poll() is None
    os.kill(process.process.pid, number)
    assert process.process.wait(timeout=60) == 128 + number
    hold.set()
    api.close()
    process.kill()
    process, api = start(tmp_path / "data")
    assert api.gallery().face_count == 0
    api.close()
    assert process.terminate() == 0
