"""Searches while the gallery changes."""

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import (
    enroll,
    failures,
    gallery_record,
    mates,
    random_vectors,
    run_together,
    write_gallery,
)

from visagedb_indexer import limits
from visagedb_indexer.cluster_run import ClusterPlan, cluster_gallery
from visagedb_indexer.errors import (
    CancelledError,
    DeadlineExceededError,
    GalleryTooLargeError,
    InvalidArgumentError,
)
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import IdentityPatch, NewIdentity, SearchOptions
from visagedb_indexer.search import EngineState

DIMENSION = 32


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes are built, extended and cleaned up with far fewer faces than usual."""
    monkeypatch.setattr(limits, "EXACT_ROWS_MAX", 1000)
    monkeypatch.setattr(limits, "TAIL_ROWS_MAX", 64)
    monkeypatch.setattr(limits, "SEGMENT_ADD_ROWS_MAX", 64)
    monkeypatch.setattr(limits, "TOMBSTONES_MAX", 50)
    monkeypatch.setattr(limits, "FILTERED_EXACT_ROWS_MAX", 20)
    monkeypatch.setattr(limits, "SEGMENT_ROWS_MAX", 1500)


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    gallery = Gallery(tmp_path / "gallery", gallery_record(dimension=DIMENSION))
    yield gallery
    gallery.close()


def written(path: Path, count: int) -> tuple[Gallery, np.ndarray]:
    vectors = random_vectors(count, DIMENSION)
    write_gallery(path, list(range(count)), vectors, lambda n: {"parity": str(n % 2)})
    return Gallery(path), vectors


def first(gallery: Gallery, vector: np.ndarray, **options: object) -> str | None:
    found = gallery.identify(vector, SearchOptions(top_k=1, **options)).candidates
    return found[0].identity.id if found else None


def test_every_thread_reads_its_own_writes(gallery: Gallery) -> None:
    vectors = random_vectors(400, DIMENSION)

    def write_and_read(start: int) -> None:
        for i in range(start, start + 20):
            enroll(gallery, f"p{i}", vectors[i], face_id="f")
            assert first(gallery, vectors[i]) == f"p{i}"
            if i % 3 == 0:
                gallery.delete_face(f"p{i}", "f")
                assert first(gallery, vectors[i]) != f"p{i}"
            elif i % 3 == 1:
                gallery.delete_identity(f"p{i}")
                assert first(gallery, vectors[i]) != f"p{i}"

    assert not failures(run_together([lambda s=s: write_and_read(s) for s in range(0, 400, 20)]))
    assert gallery.counters.face_count == sum(i % 3 == 2 for i in range(400))


@pytest.mark.usefixtures("early")
def test_nothing_deleted_is_found_and_nothing_else_is_lost(tmp_path: Path) -> None:
    gallery, vectors = written(tmp_path / "gallery", 3000)
    assert gallery.wait_until_settled(60)
    assert gallery.stats().engine.state is EngineState.COMPACT
    gone: set[int] = set()
    done = threading.Event()

    def delete(start: int) -> None:
        for i in range(start, 1200, 3):
            gallery.delete_identity(f"p{i}")
            gone.add(i)

    def delete_all() -> None:
        try:
            assert not failures(run_together([lambda s=s: delete(s) for s in range(3)]))
        finally:
            done.set()

    def search(seed: int) -> int:
        random = np.random.default_rng(seed)
        searches = 0
        while not done.is_set() or searches < 100:
            i = int(random.integers(3000))
            known_gone = set(gone)
            options = SearchOptions(
                top_k=20,
                exact=searches % 7 == 0,
                filter=["", "labels.parity=0", "NOT labels.parity=1"][searches % 3],
            )
            found = gallery.identify(vectors[i], options).candidates
            assert len(found) == 20
            names = {int(candidate.identity.id[1:]) for candidate in found}
            assert not names & known_gone
            if i >= 1200 and not (options.filter and i % 2):
                assert found[0].identity.id == f"p{i}"
            searches += 1
        return searches

    results = run_together([delete_all, *[lambda s=s: search(s) for s in range(3)]])
    assert not failures(results)
    assert gallery.wait_until_settled(60)
    engine = gallery.stats().engine
    assert engine.tombstone_count <= 50
    assert engine.indexed_face_count == 1800 + engine.tombstone_count
    gallery.close()


@pytest.mark.usefixtures("early")
def test_a_growing_gallery_answers_right_through_every_state(gallery: Gallery) -> None:
    vectors = random_vectors(5000, DIMENSION)
    probes = mates(vectors, 0.9)
    enrolled = itertools.count()
    highest = [-1] * 8
    states = set()
    done = threading.Event()

    def grow(lane: int) -> None:
        for i in range(lane, len(vectors), len(highest)):
            enroll(gallery, f"p{i}", vectors[i])
            highest[lane] = i
            next(enrolled)

    def grow_all() -> None:
        try:
            lanes = [lambda lane=lane: grow(lane) for lane in range(len(highest))]
            assert not failures(run_together(lanes))
        finally:
            done.set()

    def search(seed: int) -> None:
        random = np.random.default_rng(seed)
        while not done.is_set():
            lane = int(random.integers(len(highest)))
            if highest[lane] < 0:
                continue
            # Half of the probes are for what has just been enrolled.
            steps = highest[lane] // len(highest)
            step = int(random.integers(steps + 1)) if random.integers(2) else steps
            i = lane + step * len(highest)
            assert first(gallery, probes[i]) == f"p{i}"
            states.add(gallery.stats().engine.state)

    assert not failures(run_together([grow_all, *[lambda s=s: search(s) for s in range(2)]]))
    assert {EngineState.EXACT, EngineState.COMPACT} <= states
    assert gallery.wait_until_settled(60)
    engine = gallery.stats().engine
    assert engine.indexed_face_count == len(vectors)
    assert engine.segment_count >= 3
    # Trained on about a thousand, and again when there were four times as many.
    assert engine.index_generation >= 2
    for i in range(0, len(vectors), 50):
        assert first(gallery, probes[i]) == f"p{i}"


@pytest.mark.usefixtures("early")
def test_the_codes_are_built_again_after_a_restart(tmp_path: Path) -> None:
    gallery, vectors = written(tmp_path / "gallery", 2000)
    for i in range(100):
        gallery.delete_identity(f"p{i}")
    gallery.close()
    gallery = Gallery(tmp_path / "gallery")
    # Right from the first moment, whatever the state.
    assert first(gallery, vectors[1500]) == "p1500"
    assert first(gallery, vectors[5]) != "p5"
    assert gallery.wait_until_settled(60)
    engine = gallery.stats().engine
    assert engine.state is EngineState.COMPACT
    assert engine.tombstone_count <= 50
    assert engine.indexed_face_count == 1900 + engine.tombstone_count
    assert first(gallery, vectors[1500]) == "p1500"
    assert first(gallery, vectors[5]) != "p5"
    gallery.close()


@pytest.mark.usefixtures("early")
def test_a_gallery_may_be_closed_while_its_codes_are_built(tmp_path: Path) -> None:
    for pause in (0.0, 0.005, 0.05):
        path = tmp_path / str(pause)
        gallery, vectors = written(path, 2000)
        time.sleep(pause)
        gallery.close()
        gallery = Gallery(path)
        assert first(gallery, vectors[7]) == "p7"
        gallery.close()


@pytest.mark.usefixtures("early")
def test_emptying_a_compact_gallery_leaves_it_searchable(tmp_path: Path) -> None:
    gallery, vectors = written(tmp_path / "gallery", 1500)
    assert gallery.wait_until_settled(60)
    chunks = [range(start, 1500, 30) for start in range(30)]
    tasks = [lambda c=c: [gallery.delete_identity(f"p{i}") for i in c] for c in chunks]
    assert not failures(run_together(tasks))
    assert gallery.identify(vectors[0], SearchOptions(top_k=10)).candidates == ()
    assert gallery.wait_until_settled(60)
    assert gallery.identify(vectors[0], SearchOptions(top_k=10)).candidates == ()
    enroll(gallery, "new", vectors[3])
    assert first(gallery, vectors[3]) == "new"
    gallery.close()


def test_relabelling_is_seen_by_the_next_filtered_search(gallery: Gallery) -> None:
    vectors = random_vectors(10, DIMENSION)
    for i in range(10):
        gallery.create_identity(f"p{i}", NewIdentity(labels={"site": "north"}))
        enroll(gallery, f"p{i}", vectors[i])
    assert first(gallery, vectors[3], filter="labels.site=north") == "p3"
    gallery.update_identity("p3", IdentityPatch(labels={"site": "south"}))
    assert first(gallery, vectors[3], filter="labels.site=north") != "p3"
    assert first(gallery, vectors[3], filter="labels.site=south") == "p3"
    gallery.delete_identity("p3")
    assert first(gallery, vectors[3], filter="labels.site=south") is None


def test_a_passed_deadline_ends_the_search(gallery: Gallery) -> None:
    vector = random_vectors(1, DIMENSION)[0]
    enroll(gallery, "p", vector)
    with pytest.raises(DeadlineExceededError):
        gallery.identify(vector, SearchOptions(deadline=time.monotonic() - 1))
    assert first(gallery, vector, deadline=time.monotonic() + 600) == "p"


@pytest.mark.parametrize("top_k", [0, -1, 1001])
def test_top_k_has_limits(gallery: Gallery, top_k: int) -> None:
    with pytest.raises(InvalidArgumentError):
        gallery.identify(random_vectors(1, DIMENSION)[0], SearchOptions(top_k=top_k))


def test_three_hundred_threads_at_once(gallery: Gallery) -> None:
    vectors = random_vectors(300, DIMENSION)

    def work(i: int) -> None:
        enroll(gallery, f"p{i}", vectors[i])
        assert first(gallery, vectors[i]) == f"p{i}"

    assert not failures(run_together([lambda i=i: work(i) for i in range(300)]))
    assert gallery.counters.face_count == 300


def cluster(gallery: Gallery, name: str = "run", **options: object) -> list[set[str]]:
    settings = {"progress": lambda done, stage: None, **options}
    plan = ClusterPlan(filter=str(settings.pop("filter_text", "")), threshold=0.5)
    record = cluster_gallery(gallery, name, plan, **settings)
    groups = []
    for rank in range(record.cluster_count + record.single_count):
        ordinals = np.frombuffer(gallery.clusterings.cluster(name, rank).ordinals, "<i8").tolist()
        groups.append({identity_id for _, identity_id, _ in gallery.locate(ordinals)})
    return groups


def test_clusters_are_people(gallery: Gallery) -> None:
    centres = random_vectors(5, DIMENSION, seed=3)
    for i in range(20):
        enroll(gallery, f"c{i % 5}-{i}", mates(centres[i % 5 : i % 5 + 1], 0.95, seed=i)[0])
    groups = cluster(gallery)
    assert sorted(len(group) for group in groups) == [4] * 5
    for group in groups:
        assert len({name.split("-")[0] for name in group}) == 1


def test_clustering_nothing_and_one(gallery: Gallery) -> None:
    assert cluster(gallery, "none") == []
    enroll(gallery, "ada", random_vectors(1, DIMENSION)[0])
    assert cluster(gallery, "one") == [{"ada"}]
    assert cluster(gallery, "filtered", filter_text="labels.a=b") == []


def test_clustering_refuses_a_large_gallery_before_it_reads_it(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CLUSTER_FACES_MAX", 1)
    for i, vector in enumerate(random_vectors(2, DIMENSION)):
        enroll(gallery, f"p{i}", vector)
    monkeypatch.setattr(gallery, "vectors", None)
    with pytest.raises(GalleryTooLargeError):
        cluster(gallery)


def test_a_cancelled_clustering_keeps_nothing(gallery: Gallery) -> None:
    enroll(gallery, "ada", random_vectors(1, DIMENSION)[0])

    def cancel(done: float, stage: str) -> None:
        if done > 0:
            raise CancelledError("enough")

    generation = gallery.counters.generation
    with pytest.raises(CancelledError):
        cluster(gallery, progress=cancel)
    assert gallery.counters.generation == generation


def test_clustering_while_faces_are_deleted(gallery: Gallery) -> None:
    vectors = random_vectors(200, DIMENSION)
    run_together([lambda i=i: enroll(gallery, f"p{i}", vectors[i]) for i in range(200)])
    deleting = [lambda i=i: gallery.delete_identity(f"p{i}") for i in range(0, 200, 2)]
    results = run_together([*deleting, *[lambda r=r: cluster(gallery, f"r{r}") for r in range(4)]])
    assert not failures(results)
    kept = set().union(*cluster(gallery, "last"))
    assert kept == {f"p{i}" for i in range(1, 200, 2)}
