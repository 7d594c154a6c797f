"""Rows are read by address while commits move the blocks."""

import threading
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from visagedb_indexer.errors import UnavailableError
from visagedb_indexer.store import FaceRecord, GalleryRecord, GalleryStore, IdentityRecord
from visagedb_indexer.store.blocks import ColumnReader
from visagedb_indexer.values import ModelIdentity

DIMENSION = 96
COMMITS = 150
ROWS_PER_COMMIT = 40


def row_of(ordinal: int) -> np.ndarray:
    return np.full(DIMENSION, ordinal + 1, dtype=np.float32)


def test_a_commit_stands_although_its_blocks_cannot_be_read_back(tmp_path: Path) -> None:
    model = ModelIdentity("test", "1", DIMENSION)
    store = GalleryStore(tmp_path, GalleryRecord("g", "g", model, 0, 0))
    rows = store.opened.vector_rows
    with store.write() as txn:
        identity = txn.add_identity(IdentityRecord("i", "i", -1, 0, 0))
        identity, _ = txn.add_face(identity, FaceRecord("a", -1, b"a", 0), row_of(0))
    with store.read() as view:
        assert (view.vectors(np.array([0])) == row_of(0)).all()

    def refuse() -> AbstractContextManager[ColumnReader]:
        raise UnavailableError("too many reads at once")

    opened, rows._open = rows._open, refuse
    with store.write() as txn:
        txn.add_face(identity, FaceRecord("b", -1, b"b", 0), row_of(1))
    rows._open = opened
    with store.read() as view:
        assert (view.vectors(np.array([0, 1])) == np.stack([row_of(0), row_of(1)])).all()
    store.close()


def test_gathering_beside_commits_never_sees_a_reused_page(tmp_path: Path) -> None:
    model = ModelIdentity("test", "1", DIMENSION)
    store = GalleryStore(tmp_path, GalleryRecord("g", "g", model, 0, 0))
    with store.write() as txn:
        identity = txn.add_identity(IdentityRecord("i", "i", -1, 0, 0))
    acknowledged = 0
    done = threading.Event()
    wrong: list[str] = []

    def gather(seed: int) -> None:
        random = np.random.default_rng(seed)
        while not done.is_set():
            count = acknowledged
            if not count:
                continue
            ordinals = random.integers(count, size=100)
            with store.read() as view:
                rows = view.vectors(ordinals)
            expected = np.stack([row_of(ordinal) for ordinal in ordinals])
            # A row that was deleted meanwhile is zero; anything else is another page's bytes.
            good = (rows == expected).all(axis=1) | (rows == 0).all(axis=1)
            if not good.all():
                wrong.append(f"{ordinals[~good][:3]}: {rows[~good][:3, :2]}")
                return

    readers = [threading.Thread(target=gather, args=(seed,)) for seed in range(3)]
    for reader in readers:
        reader.start()
    random = np.random.default_rng(9)
    faces: list[FaceRecord] = []
    for _ in range(COMMITS):
        with store.write() as txn:
            for _ in range(ROWS_PER_COMMIT):
                ordinal = len(faces)
                name = f"{ordinal:032d}"
                record = FaceRecord(name, -1, name.encode(), 0)
                identity, record = txn.add_face(identity, record, row_of(ordinal))
                faces.append(record)
            # Deleting rewrites old blocks, which frees and reuses pages all over the file.
            for index in random.integers(len(faces), size=3):
                if txn.face(identity.number, faces[index].ordinal) is not None:
                    txn.remove_face(identity, faces[index])
        acknowledged = len(faces)
    done.set()
    for reader in readers:
        reader.join()
    store.close()
    assert not wrong, wrong
