"""The lineage in the database: order, limits, and what an erasure leaves of it."""

from pathlib import Path

import pytest
from support import enroll, gallery_record, identity_record, random_vectors

from visagedb_indexer import limits
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.moves import Destination
from visagedb_indexer.store import GalleryStore, LineageRecord, LineageSource

DIMENSION = 16


def entry(number: int, to: int, source: int, *, merged: bool = False) -> LineageRecord:
    ended = identity_record(f"p{source}") if merged else None
    sources = (LineageSource(source, f"p{source}", b"", ended),)
    kind = "merge" if merged else "move"
    return LineageRecord(
        number, kind, 1, to, f"p{to}", founded=False, sources=sources, face_count=0
    )


def test_entries_are_listed_newest_first_and_from_any_place(tmp_path: Path) -> None:
    store = GalleryStore(tmp_path, gallery_record())
    with store.write() as txn:
        for number in range(300):
            txn.lineage.put(entry(number, to=number % 3, source=3))
    with store.read() as view:
        assert [one.number for one in view.lineage.newest()] == list(range(299, -1, -1))
        assert [one.number for one in view.lineage.newest(before=257)][:2] == [256, 255]
        assert [one.number for one in view.lineage.newest(before=1000)][0] == 299  # noqa: RUF015
        assert list(view.lineage.newest(before=0)) == []
        assert [one.number for one in view.lineage.newest_of(1)][:2] == [298, 295]
        assert [one.number for one in view.lineage.newest_of(1, before=298)][:1] == [295]
        assert list(view.lineage.newest_of(9)) == []
    store.close()


def test_an_erased_identity_takes_those_along_that_became_part_of_it(tmp_path: Path) -> None:
    store = GalleryStore(tmp_path, gallery_record())
    with store.write() as txn:
        txn.lineage.put(entry(0, to=2, source=3, merged=True))
        txn.lineage.put(entry(1, to=1, source=2, merged=True))
        txn.lineage.put(entry(2, to=5, source=1))
        txn.lineage.put(entry(3, to=5, source=6))
        txn.lineage.erase(1)
    with store.read() as view:
        assert [one.number for one in view.lineage.newest()] == [3]
        assert view.lineage.numbers_of(5) == [3]
        assert view.lineage.numbers_of(2) == view.lineage.numbers_of(3) == []
    store.close()


def test_the_oldest_entries_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LINEAGE_ENTRIES_MAX", 3)
    gallery = Gallery(tmp_path / "g", gallery_record())
    for name, vector in zip("ab", random_vectors(2, DIMENSION), strict=True):
        enroll(gallery, name, vector, face_id=f"f{name}")
    for turn in range(8):
        owner, other = ("a", "b") if turn % 2 == 0 else ("b", "a")
        gallery.moves.move([(owner, "fa")], Destination(other))
    assert [one.number for one in gallery.moves.lineage()] == [7, 6, 5]
    gallery.close()


def test_an_older_database_opens_and_takes_loose_faces(tmp_path: Path) -> None:
    """One without the sub-databases that loose faces and the lineage need."""
    import lmdb

    gallery = Gallery(tmp_path / "g", gallery_record())
    vectors = random_vectors(2, DIMENSION)
    enroll(gallery, "ada", vectors[0], face_id="f")
    gallery.close()
    environment = lmdb.open(str(tmp_path / "g"), max_dbs=64, map_size=1 << 30)
    for name in (b"loose_contents", b"lineage", b"lineage_of", b"cluster_edits"):
        with environment.begin(write=True) as txn:
            txn.drop(environment.open_db(name, txn=txn), delete=True)
    environment.close()
    gallery = Gallery(tmp_path / "g")
    assert gallery.counters.loose_face_count == 0
    gallery.moves.move([("ada", "f")], Destination(""))
    assert gallery.counters.loose_face_count == 1
    assert [face.id for face, _ in gallery.faces("")] == ["f"]
    gallery.close()
