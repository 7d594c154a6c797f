"""Sub-databases that follow from others: what must be in them, and nothing else.

Each is declared by the entries that the primary records imply. A check walks the records and
looks the entries up; the index itself is walked only if it has more than those.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Final, TypeAlias

from visagedb_indexer.integrity.facts import Facts
from visagedb_indexer.integrity.values import Finding
from visagedb_indexer.store import (
    LOOSE_NUMBER,
    ErasureRecord,
    FaceRecord,
    IdentityRecord,
    LineageRecord,
    QuarantineRecord,
    schema,
)
from visagedb_indexer.store.records import RequestRecord
from visagedb_indexer.store.schema import SubDatabase

_NUMBER: Final = 4
_SHA256: Final = 32


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry that a record implies.

    Attributes:
        key: In the index.
        value: Likewise.
        number: Of the identity it stands for; -1 for none.
        ordinal: Of the face; -1 for none.
    """

    key: bytes
    value: bytes
    number: int = -1
    ordinal: int = -1


Entries: TypeAlias = Callable[[Facts], Iterator[Entry]]
Explains: TypeAlias = Callable[[Facts, bytes, bytes], bool]


@dataclass(frozen=True, slots=True)
class Index:
    """A sub-database that follows from others.

    Attributes:
        database: Which.
        statement: What should be true of it.
        entries: What the records imply.
        explained: Whether some record implies an entry that was found.
    """

    database: SubDatabase
    statement: str
    entries: Entries
    explained: Explains

    def check(self, facts: Facts) -> Iterator[Finding]:
        """What is missing, and what should not be there."""
        name = self.database.name.decode()
        in_place = 0
        for entry in self.entries(facts):
            found = facts.tables.get(self.database, entry.key)
            if found == entry.value:
                in_place += 1
            elif found is None:
                yield facts.about(f"{name} lacks an entry", entry.number, entry.ordinal)
            else:
                yield facts.about(f"{name} points elsewhere", entry.number, entry.ordinal)
        if in_place < facts.tables.count(self.database):
            yield from self._strays(facts)

    def _strays(self, facts: Facts) -> Iterator[Finding]:
        name = self.database.name.decode()
        for key, value in facts.items(self.database):
            if not self.explained(facts, key, value):
                yield Finding(f"{name} has an entry {key[:64]!r} that stands for nothing")

    def repair(self, facts: Facts) -> int:
        """Removes what should not be there and adds what is missing; how many it changed."""
        strays = [
            key
            for key, value in facts.items(self.database)
            if not self.explained(facts, key, value)
        ]
        for key in strays:
            facts.tables.delete(self.database, key)
        # Entries are collected first: a cursor must not walk over what is being written.
        wrong = [
            entry
            for entry in self.entries(facts)
            if facts.tables.get(self.database, entry.key) != entry.value
        ]
        for entry in wrong:
            facts.tables.put(self.database, entry.key, entry.value)
        return len({*strays, *(entry.key for entry in wrong)})


def _identity_ids(facts: Facts) -> Iterator[Entry]:
    for record in facts.identities():
        yield Entry(record.id.encode(), schema.u32(record.number), record.number)


def _is_identity_id(facts: Facts, key: bytes, value: bytes) -> bool:
    record = facts.one(schema.IDENTITIES, value, IdentityRecord)
    if record is None:
        return facts.unreadable(schema.IDENTITIES, value)
    return record.id.encode() == key


def _labels(facts: Facts) -> Iterator[Entry]:
    for record in facts.identities():
        for label, value in record.labels.items():
            yield Entry(schema.label_key(label, value, record.number), b"", record.number)


def _is_label(facts: Facts, key: bytes, value: bytes) -> bool:
    number, (label, _, rest) = key[-_NUMBER:], key[:-_NUMBER].partition(b"\0")
    record = facts.one(schema.IDENTITIES, number, IdentityRecord)
    if record is None:
        return facts.unreadable(schema.IDENTITIES, number)
    if value or not rest.endswith(b"\0"):
        return False
    named = record.labels.get(label.decode(errors="replace"))
    return named is not None and named.encode() + b"\0" == rest


def _face_ids(facts: Facts) -> Iterator[Entry]:
    for number, face in facts.faces():
        key = schema.u32(number) + face.id.encode()
        yield Entry(key, schema.u64(face.ordinal), number, face.ordinal)


def _is_face_id(facts: Facts, key: bytes, value: bytes) -> bool:
    face = facts.one(schema.FACES, key[:_NUMBER] + value, FaceRecord)
    if face is None:
        return facts.unreadable(schema.FACES, key[:_NUMBER] + value)
    return face.id.encode() == key[_NUMBER:]


def _contents(facts: Facts) -> Iterator[Entry]:
    for number, faces in groupby(facts.faces(), key=itemgetter(0)):
        if number == LOOSE_NUMBER:
            return
        ordinals: dict[bytes, list[int]] = {}
        for _, face in faces:
            ordinals.setdefault(face.content_sha256, []).append(face.ordinal)
        for sha256, same in ordinals.items():
            yield Entry(schema.u32(number) + sha256, schema.u64s(same), number, same[0])


def _is_content(facts: Facts, key: bytes, value: bytes) -> bool:
    for place in range(0, len(value), 8):
        face_key = key[:_NUMBER] + value[place : place + 8]
        face = facts.one(schema.FACES, face_key, FaceRecord)
        if face is None and not facts.unreadable(schema.FACES, face_key):
            return False
        if face is not None and face.content_sha256 != key[_NUMBER:]:
            return False
    return True


def _loose_contents(facts: Facts) -> Iterator[Entry]:
    # Whether a face that has an identity now was enrolled loose is known from here alone.
    for number, face in facts.faces(LOOSE_NUMBER):
        key = face.content_sha256 + schema.u64(face.ordinal)
        yield Entry(key, b"", number, face.ordinal)


def _is_loose_content(facts: Facts, key: bytes, value: bytes) -> bool:
    ordinal = int.from_bytes(key[_SHA256:], "big")
    if value or len(key) != _SHA256 + 8 or ordinal >= facts.capacity:
        return False
    number = int(facts.owners[ordinal])
    if number < 0:
        return False
    place = schema.face_key(number, ordinal)
    face = facts.one(schema.FACES, place, FaceRecord)
    if face is None:
        return facts.unreadable(schema.FACES, place)
    return face.content_sha256 == key[:_SHA256]


def _lineage_of(facts: Facts) -> Iterator[Entry]:
    for key, record in facts.readable(schema.LINEAGE, LineageRecord):
        for number in _touched(record):
            yield Entry(schema.u32(number) + key, b"")


def _touched(record: LineageRecord) -> set[int]:
    return {record.to_number, *(source.number for source in record.sources)} - {LOOSE_NUMBER}


def _is_lineage_of(facts: Facts, key: bytes, value: bytes) -> bool:
    record = facts.one(schema.LINEAGE, key[_NUMBER:], LineageRecord)
    if record is None:
        return facts.unreadable(schema.LINEAGE, key[_NUMBER:])
    number = int.from_bytes(key[:_NUMBER], "big")
    return not value and number in _touched(record)


def _request_times(facts: Facts) -> Iterator[Entry]:
    for key, record in facts.readable(schema.REQUESTS, RequestRecord):
        yield Entry(schema.u64(record.time_us) + key, b"")


def _is_request_time(facts: Facts, key: bytes, value: bytes) -> bool:
    # An id that was used again has an older entry too, until that one's day is over.
    record = facts.one(schema.REQUESTS, key[8:], RequestRecord)
    if record is None:
        return facts.unreadable(schema.REQUESTS, key[8:])
    return not value and int.from_bytes(key[:8], "big") <= record.time_us


def _quarantine_contents(facts: Facts) -> Iterator[Entry]:
    for _, record in facts.readable(schema.QUARANTINE, QuarantineRecord):
        yield Entry(
            schema.quarantine_content_key(
                record.identity_id, record.face.content_sha256, record.number
            ),
            b"",
        )


def _is_quarantine_content(facts: Facts, key: bytes, value: bytes) -> bool:
    record = facts.one(schema.QUARANTINE, key[-8:], QuarantineRecord)
    if record is None:
        return facts.unreadable(schema.QUARANTINE, key[-8:])
    content = record.face.content_sha256
    return not value and key == schema.quarantine_content_key(
        record.identity_id, content, record.number
    )


def _expiries(facts: Facts) -> Iterator[Entry]:
    for record in facts.identities():
        if record.expire_time_us is not None:
            key = schema.expiry_key(record.expire_time_us, record.number)
            yield Entry(key, b"", record.number)


def _is_expiry(facts: Facts, key: bytes, value: bytes) -> bool:
    number = key[-_NUMBER:]
    record = facts.one(schema.IDENTITIES, number, IdentityRecord)
    if record is None:
        return facts.unreadable(schema.IDENTITIES, number)
    expiry = record.expire_time_us
    return not value and expiry is not None and key == schema.expiry_key(expiry, record.number)


def _pending_erasures(facts: Facts) -> Iterator[Entry]:
    for key, record in facts.readable(schema.ERASURES, ErasureRecord):
        if not record.complete_time_us:
            yield Entry(key, b"")


def _is_pending_erasure(facts: Facts, key: bytes, value: bytes) -> bool:
    record = facts.one(schema.ERASURES, key, ErasureRecord)
    if record is None:
        return facts.unreadable(schema.ERASURES, key)
    return not value and not record.complete_time_us


INDEXES: Final = (
    Index(
        schema.IDENTITY_IDS,
        "every identity is found by its id, and every id belongs to an identity",
        _identity_ids,
        _is_identity_id,
    ),
    Index(
        schema.LABELS,
        "every label of every identity is found, and nothing but those",
        _labels,
        _is_label,
    ),
    Index(
        schema.FACE_IDS,
        "every face is found by its id, and every id belongs to a face",
        _face_ids,
        _is_face_id,
    ),
    Index(
        schema.CONTENTS,
        "a content leads to a face of its identity that was made from it",
        _contents,
        _is_content,
    ),
    Index(
        schema.LOOSE_CONTENTS,
        "every loose face is found by its content, and every such content has its face",
        _loose_contents,
        _is_loose_content,
    ),
    Index(
        schema.LINEAGE_OF,
        "every change of who faces belong to is found by the identities it touches",
        _lineage_of,
        _is_lineage_of,
    ),
    Index(
        schema.REQUEST_TIMES,
        "every kept answer is forgotten in time",
        _request_times,
        _is_request_time,
    ),
    Index(
        schema.QUARANTINE_CONTENTS,
        "every face in quarantine is found by its identity and content",
        _quarantine_contents,
        _is_quarantine_content,
    ),
    Index(
        schema.EXPIRIES,
        "every identity that expires is found by its time",
        _expiries,
        _is_expiry,
    ),
    Index(
        schema.ERASURES_PENDING,
        "every receipt that is pending is found, and no other",
        _pending_erasures,
        _is_pending_erasure,
    ),
)
