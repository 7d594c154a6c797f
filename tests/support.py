"""What the tests of the indexer and the server share: vectors, galleries, an oracle."""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import Enrollment, NewFace, NewIdentity
from visagedb_indexer.store import FaceRecord, GalleryRecord, GalleryStore, IdentityRecord
from visagedb_indexer.values import ModelIdentity, Vector

TIE = 1e-5


def unit(vectors: NDArray[np.floating[Any]]) -> Vector:
    """Rows brought to unit length."""
    wide = vectors.astype(np.float64)
    return (wide / np.linalg.norm(wide, axis=-1, keepdims=True)).astype(np.float32)


def random_vectors(count: int, dimension: int, seed: int = 1) -> Vector:
    """Random directions, shape (count, dimension)."""
    random = np.random.default_rng(seed)
    return unit(random.standard_normal((count, dimension)))


def mates(vectors: Vector, cosine: float, seed: int = 2) -> Vector:
    """For each vector another one at this cosine."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal(vectors.shape)
    noise -= np.sum(noise * vectors, axis=1, keepdims=True) * vectors
    return unit(cosine * vectors + np.sqrt(1 - cosine**2) * unit(noise))


class ArraySource:
    """Stored vectors that are an array."""

    def __init__(self, vectors: Vector) -> None:
        self._vectors = vectors

    @contextmanager
    def read(self) -> Iterator["ArraySource"]:
        yield self

    def vectors(self, ordinals: NDArray[np.int64]) -> Vector:
        return self._vectors[ordinals]

    def vector_blocks(self, start: int = 0) -> Iterator[tuple[int, Vector]]:
        for first in range(start // 1024 * 1024, len(self._vectors), 1024):
            yield first, self._vectors[first : first + 1024]


def gallery_record(gallery_id: str = "people", dimension: int = 16) -> GalleryRecord:
    return GalleryRecord(
        id=gallery_id,
        uid=f"uid-{gallery_id}",
        model=ModelIdentity("test", "1", dimension),
        create_time_us=1,
        update_time_us=1,
    )


def new_face(
    identity_id: str, vector: Vector, *, create: bool = True, content: bytes = b"", **fields: Any
) -> NewFace:
    """A face whose content, unless given, is its vector."""
    return NewFace(
        identity_id=identity_id,
        vector=vector,
        content_sha256=hashlib.sha256(content or vector.tobytes()).digest(),
        new_identity=NewIdentity() if create else None,
        **fields,
    )


def enroll(gallery: Gallery, identity_id: str, vector: Vector, **fields: Any) -> Enrollment:
    return gallery.enroll(new_face(identity_id, vector, **fields))


def identity_record(identity_id: str, labels: Mapping[str, str] | None = None) -> IdentityRecord:
    return IdentityRecord(
        id=identity_id,
        uid=identity_id,
        number=-1,
        create_time_us=1,
        update_time_us=1,
        labels=dict(labels or {}),
    )


def face_record(face_id: str) -> FaceRecord:
    content = hashlib.sha256(face_id.encode()).digest()
    return FaceRecord(id=face_id, ordinal=-1, content_sha256=content, create_time_us=1)


def write_gallery(
    path: Path,
    owners: Sequence[int],
    vectors: Vector,
    labels: Callable[[int], Mapping[str, str]] = lambda _: {},
) -> None:
    """Writes a gallery in one commit: face i, ``f{i}``, belongs to identity ``p{owners[i]}``."""
    store = GalleryStore(path, gallery_record(dimension=vectors.shape[1]))
    with store.write() as txn:
        people: dict[int, IdentityRecord] = {}
        for ordinal, owner in enumerate(owners):
            if owner not in people:
                people[owner] = txn.add_identity(identity_record(f"p{owner}", labels(owner)))
            people[owner], _ = txn.add_face(
                people[owner], face_record(f"f{ordinal}"), vectors[ordinal]
            )
    store.close()


def expected_ranking(
    owners: Sequence[int], vectors: Vector, probe: Vector, passing: set[int] | None = None
) -> list[tuple[str, float]]:
    """What a search has to find: identity and score, best first, by plain arithmetic."""
    best: dict[int, float] = {}
    scores = vectors.astype(np.float64) @ unit(probe).astype(np.float64)
    for owner, score in zip(owners, scores.tolist(), strict=True):
        if (passing is None or owner in passing) and score > best.get(owner, -2.0):
            best[owner] = score
    ranking = sorted(best.items(), key=lambda item: -item[1])
    return [(f"p{owner}", score) for owner, score in ranking]


def assert_same_ranking(
    found: Sequence[tuple[str, float]], expected: Sequence[tuple[str, float]]
) -> None:
    """Equal up to the order of ties; `expected` may go on where `found` was cut."""
    assert len({name for name, _ in found}) == len(found), "an identity came twice"
    np.testing.assert_allclose(
        [score for _, score in found], [score for _, score in expected[: len(found)]], atol=TIE
    )
    of = dict(expected)
    for name, score in found:
        assert abs(of[name] - score) <= TIE, f"{name} has score {of[name]}, not {score}"


def run_together(tasks: Iterable[Callable[[], Any]]) -> list[Any]:
    """Runs tasks in a thread each, let go at the same moment; their results or errors."""
    jobs = list(tasks)
    gate = threading.Barrier(len(jobs))

    def run(task: Callable[[], Any]) -> Any:
        gate.wait()
        try:
            return task()
        except Exception as error:  # noqa: BLE001
            return error

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def failures(results: Iterable[Any]) -> list[Exception]:
    return [result for result in results if isinstance(result, Exception)]
