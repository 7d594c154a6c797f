"""A server process that is killed and started again under a client."""

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from servers import start_process

import visagedb

DIMENSION = 32


def test_bulk_enrolment_outlives_a_killed_server(tmp_path: Path) -> None:
    """Every face is there afterwards, and none of them twice."""
    data = tmp_path / "data"
    first = start_process(data, "--workers", "0")
    port = first.address.rpartition(":")[2]
    vectors = np.random.default_rng(2).standard_normal((3_000, DIMENSION)).astype(np.float32)
    killed = threading.Event()

    def items() -> Iterator[visagedb.EnrollItem]:
        for number, vector in enumerate(vectors):
            if number == 1_000:
                first.kill()
                killed.set()
            yield visagedb.EnrollItem(f"p{number}", vector=vector)

    restarted = []

    def restart() -> None:
        killed.wait(60)
        time.sleep(0.5)
        restarted.append(start_process(data, "--workers", "0", "--port", port))

    starter = threading.Thread(target=restart)
    starter.start()
    try:
        with visagedb.Client(first.address) as client:
            client.create_gallery("staff", model="mine@1", dimension=DIMENSION)
            results = list(client.enroll_many("staff", items(), patience=60))
            assert all(result.ok for result in results)
            assert len(results) == len(vectors)
            gallery = client.get_gallery("staff")
            assert (gallery.identity_count, gallery.face_count) == (3_000, 3_000)
            found = client.identify("staff", vector=vectors[999], top_k=1).best
            assert found is not None
            assert found.id == "p999"
    finally:
        killed.set()
        starter.join(60)
        assert [process.terminate() for process in restarted] == [0]


def test_a_matrix_outlives_a_killed_server(tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = start_process(data, "--workers", "0")
    port = first.address.rpartition(":")[2]
    vectors = np.random.default_rng(2).standard_normal((20_000, DIMENSION)).astype(np.float32)
    ids = [f"p{number}" for number in range(len(vectors))]
    restarted = []

    def progress(state: visagedb.BulkProgress) -> None:
        if state.done >= 3_000 and not restarted:
            first.kill()
            restarted.append(start_process(data, "--workers", "0", "--port", port))

    try:
        with visagedb.Client(first.address) as client:
            client.create_gallery("staff", model="mine@1", dimension=DIMENSION)
            done = client.enroll_vectors("staff", ids, vectors, batch_rows=200, progress=progress)
            assert done.ok
            # Their request ids give them the answer that got lost, not that of a repeat.
            assert done.count("enrolled") == done.created_identity_count == len(vectors)
            gallery = client.get_gallery("staff")
            assert (gallery.identity_count, gallery.face_count) == (len(vectors), len(vectors))
    finally:
        assert [process.terminate() for process in restarted] == [0]


def test_a_server_that_stays_away_is_an_error(tmp_path: Path) -> None:
    process = start_process(tmp_path / "data", "--workers", "0")
    with visagedb.Client(process.address) as client:
        client.create_gallery("staff", model="mine@1", dimension=2)
        process.kill()
        items = (visagedb.EnrollItem(f"p{n}", vector=[1.0, n]) for n in itertools.count())
        with pytest.raises(visagedb.ServerUnreachableError):
            list(client.enroll_many("staff", items, patience=0.5))
