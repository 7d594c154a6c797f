"""Who has expired is found no more, by a clock that is not believed when it jumps."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from raw_bytes import traces
from servers import make_config
from support import random_vectors

from visagedb import Client, ErasureCause, ErasureKind, ErasureState, InvalidArgumentError
from visagedb_indexer import limits
from visagedb_indexer.database import Database
from visagedb_indexer.errors import InvalidArgumentError as RefusedError
from visagedb_indexer.trusted_clock import TrustedClock
from visagedb_server.server import Server

DAY_US, HOUR_US = 24 * 3600 * 1_000_000, 3600 * 1_000_000
DIMENSION = 32


class Times:
    """A wall clock that can be set, a clock that cannot, and what was remembered."""

    def __init__(self, wall_us: int) -> None:
        self.wall_us = wall_us
        self.elapsed_seconds = 100.0
        self.remembered: list[int] = []

    def clock(self, last_us: int | None) -> TrustedClock:
        return TrustedClock(
            last_us, self.remembered.append, lambda: self.wall_us, lambda: self.elapsed_seconds
        )

    def pass_by(self, seconds: float) -> None:
        self.wall_us += int(seconds * 1e6)
        self.elapsed_seconds += seconds


def test_time_that_passes_is_believed_and_remembered_now_and_then() -> None:
    times = Times(50 * DAY_US)
    clock = times.clock(None)
    for _ in range(100):
        times.pass_by(10)
        assert clock.read().trusted
    assert 10 < len(times.remembered) < 30
    # A machine that slept for a week shows it in both clocks.
    times.pass_by(7 * 86_400)
    assert clock.read().trusted
    # Small steps, as of a clock that is being set right, are no jump.
    times.wall_us -= HOUR_US // 2
    assert clock.read().trusted


@pytest.mark.parametrize("jump_us", [70 * 365 * DAY_US, 2 * HOUR_US, -2 * HOUR_US, -400 * DAY_US])
def test_a_jump_is_not_believed_until_it_is_over_or_confirmed(jump_us: int) -> None:
    times = Times(20_000 * DAY_US)
    clock = times.clock(None)
    assert clock.read().trusted
    times.wall_us += jump_us
    reading = clock.read()
    assert not reading.trusted
    assert "hours" in reading.reason
    times.pass_by(3600)
    assert not clock.read().trusted
    assert max(times.remembered) < times.wall_us or jump_us < 0
    # It comes back by itself.
    times.wall_us -= jump_us
    assert clock.read().trusted
    times.wall_us += jump_us
    with pytest.raises(RefusedError):
        clock.confirm(times.wall_us - jump_us)
    assert clock.confirm(times.wall_us).trusted
    assert clock.read().trusted
    assert times.remembered[-1] == times.wall_us


@pytest.mark.parametrize(
    ("stopped_us", "trusted"),
    [(DAY_US, True), (29 * DAY_US, True), (31 * DAY_US, False), (-HOUR_US * 2, False)],
)
def test_after_a_stop(stopped_us: int, trusted: bool) -> None:
    times = Times(20_000 * DAY_US)
    clock = times.clock(20_000 * DAY_US - stopped_us)
    assert clock.read().trusted is trusted
    times.pass_by(86_400)
    assert clock.read().trusted is trusted


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def wait_for(what: Any) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def test_the_expired_are_erased_and_compacted_away(tmp_path: Path) -> None:
    server = Server(make_config(tmp_path / "data", erasure_hours=1 / 3600))
    server.start()
    vectors = random_vectors(4, DIMENSION)
    with Client(server.address) as client:
        client.create_gallery("staff", model="mine", dimension=DIMENSION)
        for name, vector in zip(("ada", "bob", "eve", "joe"), vectors, strict=True):
            client.enroll("staff", name, vector=vector)
        client.update_identity("staff", "ada", expire_time=soon(1))
        client.update_identity("staff", "eve", expire_time=soon(1))
        # Whoever's time is moved or taken away stays.
        client.update_identity("staff", "eve", expire_time=soon(3600))
        client.update_identity("staff", "bob", expire_time=soon(1))
        client.update_identity("staff", "bob", expire_time=None)
        wait_for(lambda: len(list(client.list_identities("staff"))) == 3)
        found = client.identify("staff", vector=vectors[0], top_k=4)
        assert {one.id for one in found.identifications[0].candidates} == {"bob", "eve", "joe"}
        [receipt] = client.list_erasures("staff")
        assert (receipt.identity, receipt.cause) == ("ada", ErasureCause.EXPIRY)
        assert receipt.expire_time is not None
        assert receipt.delete_time is not None
        assert receipt.expire_time <= receipt.delete_time
        wait_for(lambda: client.get_erasure(receipt).state is ErasureState.COMPLETE)
        retention = client.get_retention("staff")
        assert (retention.pending_erasure_count, retention.clock.trusted) == (0, True)
        assert retention.next_expire_time is not None
        assert traces(tmp_path / "data", vectors[0]) == []
        assert traces(tmp_path / "data", vectors[1]) != []
    server.stop(grace=5)


def test_a_clock_in_the_far_future_erases_nobody(tmp_path: Path) -> None:
    server = Server(make_config(tmp_path / "data"))
    server.start()
    with Client(server.address) as client:
        client.create_gallery("staff", model="mine", dimension=DIMENSION)
        client.enroll("staff", "ada", vector=random_vectors(1, DIMENSION)[0])
        client.update_identity("staff", "ada", expire_time=soon(2))
    server.stop(grace=5)
    # To a server that last ran years ago, the clock of today is in the far future.
    database = Database(tmp_path / "data")
    now_us = time.time_ns() // 1000
    database.catalogue.remember_clock(now_us - int(2e6 * limits.CLOCK_STOP_SECONDS_MAX))
    database.close()
    time.sleep(2)
    server = Server(make_config(tmp_path / "data"))
    server.start()
    with Client(server.address) as client:
        time.sleep(1.5)
        assert [one.id for one in client.list_identities("staff")] == ["ada"]
        clock = client.get_retention("staff").clock
        assert not clock.trusted
        assert "ahead" in clock.reason
        assert clock.time is not None
        with pytest.raises(InvalidArgumentError):
            client.confirm_clock(clock.time - timedelta(days=1))
        assert client.confirm_clock(clock.time).trusted
        wait_for(lambda: not list(client.list_identities("staff")))
    server.stop(grace=5)


def test_receipts_of_every_deletion(vector_server: Server) -> None:
    vectors = random_vectors(6, DIMENSION)
    with Client(vector_server.address) as client:
        client.create_gallery("staff", model="mine", dimension=DIMENSION)
        for number, vector in enumerate(vectors):
            client.enroll("staff", f"p{number % 3}", vector=vector, face_id=f"f{number}")
        face = client.delete_face("staff", "p0", "f0")
        person = client.delete_identity("staff", "p1")
        assert client.delete_identity("staff", "nobody", missing_ok=True) is None
        assert face is not None
        assert person is not None
        assert (face.kind, face.face_count, face.target.rpartition("/")[2]) == (
            ErasureKind.FACE, 1, "f0",
        )  # fmt: skip
        assert (person.kind, person.identity_count, person.face_count) == (
            ErasureKind.IDENTITY, 1, 2,
        )  # fmt: skip
        assert len(person.content_digest) == 64
        assert "backups" in person.not_reached
        assert {one.state for one in client.list_erasures("staff")} == {ErasureState.PENDING}
        pages = list(client.list_erasures("staff", page_size=1))
        assert [one.name for one in pages] == [person.name, face.name]
        done = client.compact_gallery("staff").result()
        assert done.completed_erasure_count == 2
        assert list(client.list_erasures("staff", state="pending")) == []
        assert client.get_erasure(person).complete_time is not None
        late = client.delete_identity("staff", "p2")
        gallery = client.delete_gallery("staff")
        assert late is not None
        assert gallery is not None
        assert (gallery.kind, gallery.identity_count, gallery.face_count) == (
            ErasureKind.GALLERY, 1, 1,
        )  # fmt: skip
        # The receipts outlive the gallery, and all are complete: its folder is gone.
        kept = list(client.list_erasures("staff"))
        assert [one.name for one in kept] == [gallery.name, late.name, person.name, face.name]
        assert {one.state for one in kept} == {ErasureState.COMPLETE}
        client.create_gallery("staff", model="mine", dimension=DIMENSION)
        again = client.delete_identity("staff", "x", missing_ok=True)
        assert again is None
        assert len(list(client.list_erasures("staff"))) == 4
