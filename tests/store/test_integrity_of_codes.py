"""The snapshot of the codes is compared with its digests, the faces and the vectors."""

from pathlib import Path

import numpy as np
import pytest
from support import random_vectors, write_gallery

from visagedb_indexer.gallery import Gallery
from visagedb_indexer.integrity import repair_store, verify_store
from visagedb_indexer.store import GalleryStore

FACES = 10_400


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery that is large enough for codes."""
    path = tmp_path_factory.mktemp("codes") / "g"
    write_gallery(path, (np.arange(FACES) // 4).tolist(), random_vectors(FACES, 16))
    return path


def build(path: Path) -> None:
    gallery = Gallery(path)
    assert gallery.wait_until_settled(120)
    gallery.close()


def test_every_flipped_file_is_found_and_made_anew(path: Path) -> None:
    build(path)
    names = sorted(file.name for file in (path / "codes").iterdir())
    assert len(names) >= 3
    store = GalleryStore(path)
    try:
        assert verify_store(store).ok
        for name in names:
            file = path / "codes" / name
            whole = file.read_bytes()
            for damage in (whole[:-1], whole[:100] + b"!" + whole[101:], b""):
                file.write_bytes(damage)
                assert [one.invariant for one in verify_store(store).broken] == ["codes"]
            file.write_bytes(whole)
        assert verify_store(store).ok
        (path / "codes" / names[0]).write_bytes(b"")
        report = repair_store(store)
        assert report.ok
        assert any(repair.startswith("codes") for repair in report.repairs)
        assert not (path / "codes").exists()
    finally:
        store.close()
    build(path)
    store = GalleryStore(path)
    assert (path / "codes").exists()
    assert verify_store(store).ok
    store.close()
