"""Every way in which the sub-databases can disagree is found, and says what it is about."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import enroll, gallery_record, random_vectors

from visagedb_indexer.errors import StorageCorruptError
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import GalleryPatch, NewIdentity
from visagedb_indexer.gate_values import GateAction, IdentityCheck
from visagedb_indexer.integrity import Report, repair_store, verify_store
from visagedb_indexer.integrity.invariants import INVARIANTS
from visagedb_indexer.loose_faces import NewLooseFaces
from visagedb_indexer.moves import Destination
from visagedb_indexer.store import GalleryStore, schema
from visagedb_indexer.store.schema import SubDatabase

VECTORS = random_vectors(40, 16)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery with people, labels, a loose face, deletions, a merge and kept answers."""
    path = tmp_path_factory.mktemp("sound") / "g"
    gallery = Gallery(path, create=gallery_record())
    for i in range(30):
        enroll(gallery, f"p{i % 10}", VECTORS[i], face_id=f"f{i}", request_id=f"r{i}")
    gallery.create_identity("empty", NewIdentity(labels={"site": "north", "role": "guest"}))
    for content in (b"a", b"b"):
        gallery.loose.enroll(NewLooseFaces([VECTORS[30 + content[0] - 97]], content.ljust(32)))
    loose = gallery.faces("")[0][0]
    gallery.moves.move([("", loose.id)], Destination("p1"), request_id="moved")
    gallery.moves.merge(["p2"], "p3")
    gallery.delete_identity("p4")
    gallery.delete_face("p5", "f5")
    check = IdentityCheck(GateAction.QUARANTINE, threshold=0.9)
    gallery.update(GalleryPatch(duplicate_check=check))
    for i in range(3):
        enroll(gallery, f"again{i}", VECTORS[i])
    gallery.quarantine.drop(1)
    gallery.close()
    return path


@pytest.fixture
def store(sound: Path, tmp_path: Path) -> Iterator[GalleryStore]:
    store = GalleryStore(shutil.copytree(sound, tmp_path / "g"))
    yield store
    store.close()


def broken(report: Report) -> set[str]:
    return {result.invariant for result in report.broken}


def change(store: GalleryStore, database: SubDatabase, key: bytes, value: bytes | None) -> None:
    """Puts other bytes under a key; None removes it."""
    with store.write() as txn:
        if value is None:
            txn.tables.delete(database, key)
        else:
            txn.tables.put(database, key, value)


def entry(store: GalleryStore, database: SubDatabase, place: int) -> tuple[bytes, bytes]:
    with store.read() as view:
        return list(view.tables.items(database))[place]


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x20]) + data[place + 1 :]


def test_a_gallery_with_a_history_is_sound(store: GalleryStore) -> None:
    report = verify_store(store)
    assert report.ok, report.broken
    assert report.gallery == "people"
    assert [result.invariant for result in report.results] == [one.name for one in INVARIANTS]


def test_every_sub_database_is_covered() -> None:
    covered = {database.name for invariant in INVARIANTS for database in invariant.covers}
    assert covered == {database.name for database in schema.GALLERY_DATABASES}


@pytest.mark.parametrize(
    ("database", "invariant"),
    [
        (schema.IDENTITIES, "identities"),
        (schema.FACES, "faces"),
        (schema.VECTORS, "vectors"),
        (schema.VECTOR_CHECKSUMS, "vectors"),
        (schema.OWNERS, "owners"),
        (schema.IDENTITY_IDS, "identity_ids"),
        (schema.FACE_IDS, "face_ids"),
        (schema.CONTENTS, "contents"),
        (schema.REQUESTS, "requests"),
        (schema.LINEAGE, "lineage"),
        (schema.QUARANTINE, "quarantine"),
        (schema.QUARANTINE_VECTORS, "quarantine_vectors"),
    ],
    ids=lambda one: one if isinstance(one, str) else one.name.decode(),
)
def test_a_flipped_bit_in_a_value_is_found(
    store: GalleryStore, database: SubDatabase, invariant: str
) -> None:
    key, data = entry(store, database, 0)
    for place in range(0, min(len(data), 64), 7):
        change(store, database, key, flipped(data, place))
        found = broken(verify_store(store))
        # Or a checksum that belongs to no face.
        assert invariant in found or found == {"vector_checksums"}, place
    change(store, database, key, data)
    assert verify_store(store).ok


@pytest.mark.parametrize(
    ("database", "invariant"),
    [
        (schema.IDENTITY_IDS, "identity_ids"),
        (schema.LABELS, "labels"),
        (schema.FACE_IDS, "face_ids"),
        (schema.CONTENTS, "contents"),
        (schema.LOOSE_CONTENTS, "loose_contents"),
        (schema.LINEAGE_OF, "lineage_of"),
        (schema.REQUEST_TIMES, "request_times"),
        (schema.IDENTITIES, "identities"),
        (schema.FACES, "faces"),
        (schema.LINEAGE, "lineage"),
    ],
    ids=lambda one: one if isinstance(one, str) else one.name.decode(),
)
def test_a_flipped_bit_in_a_key_is_found(
    store: GalleryStore, database: SubDatabase, invariant: str
) -> None:
    key, data = entry(store, database, 1)
    for place in range(0, len(key), 3):
        other = flipped(key, place)
        change(store, database, key, None)
        change(store, database, other, data)
        assert invariant in broken(verify_store(store)), place
        change(store, database, other, None)
        change(store, database, key, data)
    assert verify_store(store).ok


@pytest.mark.parametrize(
    ("database", "invariant"),
    [
        (schema.IDENTITIES, "face_ids"),
        (schema.FACES, "face_counts"),
        (schema.VECTORS, "vectors"),
        (schema.VECTOR_CHECKSUMS, "vector_checksums"),
        (schema.OWNERS, "owners"),
        (schema.IDENTITY_IDS, "identity_ids"),
        (schema.LABELS, "labels"),
        (schema.FACE_IDS, "face_ids"),
        (schema.LINEAGE, "lineage_of"),
        (schema.LINEAGE_OF, "lineage_of"),
        (schema.REQUESTS, "request_times"),
        (schema.REQUEST_TIMES, "request_times"),
    ],
    ids=lambda one: one if isinstance(one, str) else one.name.decode(),
)
def test_an_entry_that_is_lost_is_found(
    store: GalleryStore, database: SubDatabase, invariant: str
) -> None:
    key, _ = entry(store, database, 0)
    change(store, database, key, None)
    found = broken(verify_store(store))
    assert invariant in found or (database is schema.IDENTITIES and "faces" in found), found


def test_a_damaged_face_is_named(store: GalleryStore) -> None:
    with store.read() as view:
        ordinal = view.face_by_id("p7", "f17").ordinal
    key, data = entry(store, schema.VECTORS, 0)
    row = store.opened.vector_column.row_bytes
    zeroed = data[: ordinal * row] + bytes(row) + data[(ordinal + 1) * row :]
    change(store, schema.VECTORS, key, zeroed)
    [result] = verify_store(store).broken
    [finding] = result.findings
    assert (finding.identity, finding.face, finding.ordinal) == ("p7", "f17", ordinal)
    assert "zero" in finding.message


def test_what_was_deleted_must_not_be_there(store: GalleryStore) -> None:
    key, data = entry(store, schema.VECTORS, 0)
    with store.read() as view:
        gone = [o for o in range(view.counters().next_ordinal) if view.owner(o) < 0]
    row = store.opened.vector_column.row_bytes
    place = gone[0] * row
    change(store, schema.VECTORS, key, data[:place] + b"\1" + data[place + 1 :])
    assert broken(verify_store(store)) == {"erased_vectors"}


def test_lost_counters_are_found(store: GalleryStore) -> None:
    data = entry(store, schema.META, 0)[1]
    change(store, schema.META, schema.COUNTERS_KEY, flipped(data, 3))
    assert broken(verify_store(store)) == {"counters"}


def test_findings_are_counted_and_bounded(store: GalleryStore) -> None:
    with store.write() as txn:
        for i in range(300):
            txn.tables.put(schema.IDENTITY_IDS, f"stray{i}".encode(), schema.u32(1))
    [result] = verify_store(store).broken
    assert result.broken_count == 300
    assert len(result.findings) == 100


DERIVED = [
    schema.OWNERS,
    schema.IDENTITY_IDS,
    schema.LABELS,
    schema.FACE_IDS,
    schema.CONTENTS,
    schema.LOOSE_CONTENTS,
    schema.LINEAGE_OF,
    schema.REQUEST_TIMES,
    schema.VECTOR_CHECKSUMS,
]


def content(store: GalleryStore) -> dict[str, dict[bytes, bytes]]:
    """Everything in the database."""
    with store.read() as view:
        return {
            database.name.decode(): dict(view.tables.items(database))
            for database in schema.GALLERY_DATABASES
        }


@pytest.mark.parametrize("database", DERIVED, ids=lambda one: one.name.decode())
def test_what_is_derived_is_made_anew_exactly(store: GalleryStore, database: SubDatabase) -> None:
    before = content(store)
    kept = {k: v for k, v in before["loose_contents"].items() if database is schema.LOOSE_CONTENTS}
    with store.write() as txn:
        for key in list(txn.tables.keys(database)):
            txn.tables.delete(database, key)
    assert not verify_store(store).ok
    report = repair_store(store)
    assert report.ok, report.broken
    assert report.repairs
    assert report.dropped == ()
    after = content(store)
    # That a face which has an identity now was enrolled loose is known from nowhere else.
    assert kept.keys() >= after["loose_contents"].keys() if kept else after == before
    assert repair_store(store).repairs == ()


@pytest.mark.parametrize("database", DERIVED[:5], ids=lambda one: one.name.decode())
def test_every_entry_that_is_flipped_is_repaired(
    store: GalleryStore, database: SubDatabase
) -> None:
    before = content(store)
    for place in range(len(before[database.name.decode()])):
        key, data = entry(store, database, place)
        if data:
            change(store, database, key, flipped(data, 0))
        else:
            change(store, database, key, None)
            change(store, database, flipped(key, len(key) - 1), data)
        assert not verify_store(store).ok
        assert repair_store(store).ok
    assert content(store) == before


def test_lost_counters_are_counted_again(store: GalleryStore) -> None:
    with store.read() as view:
        before = view.counters()
    change(store, schema.META, schema.COUNTERS_KEY, b"nothing")
    assert repair_store(store).ok
    with store.read() as view:
        after = view.counters()
    assert after.face_count == before.face_count
    assert after.identity_count == before.identity_count
    assert after.next_ordinal >= before.next_ordinal
    assert after.next_number >= before.next_number


def test_what_was_deleted_is_overwritten(store: GalleryStore) -> None:
    before = content(store)
    key, data = entry(store, schema.VECTORS, 0)
    row = store.opened.vector_column.row_bytes
    with store.read() as view:
        gone = [o for o in range(view.counters().next_ordinal) if view.owner(o) < 0]
    change(store, schema.VECTORS, key, data[: gone[0] * row] + b"\1" + data[gone[0] * row + 1 :])
    assert repair_store(store).ok
    assert content(store) == before


def test_damaged_primaries_stay_unless_they_may_be_dropped(store: GalleryStore) -> None:
    with store.read() as view:
        identity, face = view.identity("p6"), view.face_by_id("p7", "f17")
        number = view.identity("p7").number
    for database, key in (
        (schema.IDENTITIES, schema.u32(identity.number)),
        (schema.FACES, schema.face_key(number, face.ordinal)),
    ):
        with store.read() as view:
            data = view.tables.get(database, key)
        assert data is not None
        change(store, database, key, flipped(data, 20))
    before = content(store)
    report = repair_store(store)
    assert broken(report) == {"identities", "faces"}
    assert content(store) == before
    report = repair_store(store, drop_damaged=True)
    assert report.ok, report.broken
    dropped = {(finding.identity, finding.face) for finding in report.dropped}
    assert dropped == {("p6", ""), ("p6", "f6"), ("p6", "f16"), ("p6", "f26"), ("p7", "f17")}
    with store.read() as view:
        assert view.find_identity("p6") is None
        assert view.identity("p7").face_count == 2


def test_a_damaged_vector_is_dropped_with_its_face_only_when_allowed(store: GalleryStore) -> None:
    key, data = entry(store, schema.VECTORS, 0)
    change(store, schema.VECTORS, key, flipped(data, 1))
    assert broken(repair_store(store)) == {"vectors"}
    report = repair_store(store, drop_damaged=True)
    assert report.ok
    assert [(one.identity, one.face) for one in report.dropped] == [("p0", "f0")]


def test_no_page_is_trusted(sound: Path, tmp_path: Path) -> None:
    """A file that is cut short or overwritten anywhere is refused or found; nothing crashes."""
    whole = (sound / "data.mdb").read_bytes()
    folder = tmp_path / "g"
    folder.mkdir()
    found = 0
    for cut in range(1, len(whole), 9973):
        (folder / "data.mdb").write_bytes(whole[:cut])
        found += _is_refused_or_broken(folder)
    assert found >= len(range(1, len(whole), 9973)) - 2
    for page in range(2, len(whole) // 4096):
        for what in (bytes(4096), b"\xff" * 4096, whole[4096:8192]):
            (folder / "data.mdb").write_bytes(
                whole[: page * 4096] + what + whole[(page + 1) * 4096 :]
            )
            _is_refused_or_broken(folder)


def _is_refused_or_broken(folder: Path) -> bool:
    (folder / "lock.mdb").unlink(missing_ok=True)
    try:
        store = GalleryStore(folder)
    except StorageCorruptError:
        return True
    try:
        return not verify_store(store).ok
    finally:
        store.close()
