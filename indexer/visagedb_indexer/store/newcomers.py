"""New identities with their faces, many at once: what bulk enrolment mostly consists of.

Written as columns. Keys ascend, so each sub-database is filled page by page, and no record is
read or written twice. What is stored is what `Transaction.add_identity` and `add_face` store.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.failpoints import reached
from visagedb_indexer.store import schema
from visagedb_indexer.store.environment import Handle, LmdbTransaction
from visagedb_indexer.store.records import encode_all
from visagedb_indexer.store.schema import SubDatabase
from visagedb_indexer.values import Vector

FindHandle = Callable[[SubDatabase], Handle]


@dataclass(frozen=True, slots=True, eq=False)
class Newcomers:
    """Identities that the gallery does not know, and their first faces, as columns.

    Attributes:
        identity_ids: Each once.
        said: For each identity the fields of its record that the caller gave; empty when
            nothing was said of any.
        owners: For each face its identity's place among the ids, ascending; shape (n,).
        face_ids: For each face; an empty one is made.
        digests: For each face the SHA-256 of its content; no identity has one twice.
        sources: For each face.
        vectors: Of unit length; shape (n, dimension), float32.
        checksums: Of the vectors; shape (n,), uint32.
    """

    identity_ids: Sequence[str]
    said: Sequence[Mapping[str, Any]]
    owners: NDArray[np.int64]
    face_ids: Sequence[str]
    digests: Sequence[bytes]
    sources: Sequence[str]
    vectors: Vector
    checksums: NDArray[np.uint32]


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """What the structures in memory have to know of newcomers.

    Attributes:
        first_ordinal: Of the first face; the others follow.
        owners: Identity number of each face; shape (n,), int32.
        first_number: Of the first identity; the others follow.
        identity_count: How many identities.
        labels: Numbers of the new identities by label key and value.
    """

    first_ordinal: int
    owners: NDArray[np.int32]
    first_number: int
    identity_count: int
    labels: Mapping[tuple[str, str], Sequence[int]]


class _IdentityFields(msgspec.Struct, omit_defaults=True):
    """An `IdentityRecord` as it is encoded: defaults need not be stored."""

    id: str
    uid: str
    number: int
    create_time_us: int
    update_time_us: int
    display_name: str = ""
    labels: dict[str, str] = {}
    metadata: dict[str, Any] = {}
    expire_time_us: int | None = None
    face_count: int = 0


class _FaceFields(msgspec.Struct, omit_defaults=True):
    """A `FaceRecord` of a face that came as a vector, as it is encoded."""

    id: str
    ordinal: int
    content_sha256: bytes
    create_time_us: int
    source: str = ""


def put_newcomers(
    txn: LmdbTransaction,
    handle: FindHandle,
    new: Newcomers,
    first: tuple[int, int],
    time_us: int,
) -> Arrivals:
    """Writes records and keys of newcomers; the columns are the transaction's business.

    Args:
        txn: The write transaction.
        handle: Finds the handle of a sub-database.
        new: What to write.
        first: Number of the first identity, ordinal of the first face.
        time_us: When, in microseconds since 1970.
    """
    first_number, first_ordinal = first
    numbers = list(range(first_number, first_number + len(new.identity_ids)))
    number_keys = _packed(np.arange(first_number, first_number + len(numbers)), ">u4")
    ordinals = np.arange(first_ordinal, first_ordinal + len(new.digests))
    owners = new.owners + first_number

    identities = zip(number_keys, _identity_records(new, numbers, time_us), strict=True)
    _fill(txn, handle(schema.IDENTITIES), identities)
    encoded = [identity_id.encode() for identity_id in new.identity_ids]
    _fill(txn, handle(schema.IDENTITY_IDS), sorted(zip(encoded, number_keys, strict=True)))

    reached("newcomers.before_faces")
    face_ids = _completed(new.face_ids)
    face_keys = np.empty(len(ordinals), dtype=[("number", ">u4"), ("ordinal", ">u8")])
    face_keys["number"], face_keys["ordinal"] = owners, ordinals
    records = _face_records(new, face_ids, ordinals, time_us)
    _fill(txn, handle(schema.FACES), zip(face_keys.view("V12").tolist(), records, strict=True))

    owner_keys = _packed(owners, ">u4")
    ordinal_values = _packed(ordinals, ">u8")
    ids = [key + face_id.encode() for key, face_id in zip(owner_keys, face_ids, strict=True)]
    contents = [key + digest for key, digest in zip(owner_keys, new.digests, strict=True)]
    _fill(txn, handle(schema.FACE_IDS), sorted(zip(ids, ordinal_values, strict=True)))
    _fill(txn, handle(schema.CONTENTS), sorted(zip(contents, ordinal_values, strict=True)))

    reached("newcomers.before_labels")
    labels = _by_label(new, numbers)
    keys = [schema.label_key(*label, number) for label, some in labels.items() for number in some]
    _fill(txn, handle(schema.LABELS), zip(sorted(keys), repeat(b"")))
    expiries = _expiry_keys(new, numbers)
    _fill(txn, handle(schema.EXPIRIES), zip(expiries, repeat(b"")))
    return Arrivals(first_ordinal, owners.astype(np.int32), first_number, len(numbers), labels)


def _expiry_keys(new: Newcomers, numbers: Sequence[int]) -> list[bytes]:
    said = zip(new.said, numbers, strict=False)
    times = ((fields.get("expire_time_us"), number) for fields, number in said)
    return sorted(schema.expiry_key(time, number) for time, number in times if time is not None)


def _fill(txn: LmdbTransaction, handle: Handle, items: Iterable[tuple[bytes, bytes]]) -> None:
    """Puts items in the order of their keys."""
    given = list(items)
    with txn.cursor(db=handle) as cursor:
        # What comes after all that is there needs no search for its place.
        last = given and cursor.last() and bytes(cursor.key()) >= given[0][0]
        cursor.putmulti(given, append=not last)


def _packed(values: NDArray[np.int64], form: str) -> list[bytes]:
    """Each value as big-endian bytes."""
    packed = values.astype(form)
    return packed.view(f"V{packed.itemsize}").tolist()  # type: ignore[no-any-return]


def _hex_ids(count: int) -> list[str]:
    """Random ids, 128 bits each, at the price of one call to the system."""
    text = os.urandom(16 * count).hex()
    return [text[start : start + 32] for start in range(0, 32 * count, 32)]


def _completed(face_ids: Sequence[str]) -> Sequence[str]:
    made = _hex_ids(len(face_ids))
    if not any(face_ids):
        return made
    return [given or own for given, own in zip(face_ids, made, strict=True)]


def _identity_records(new: Newcomers, numbers: Sequence[int], time_us: int) -> list[bytes]:
    counts = np.bincount(new.owners, minlength=len(numbers)).tolist()
    said: Iterable[Mapping[str, Any]] = new.said or repeat({}, len(numbers))
    rows = zip(new.identity_ids, _hex_ids(len(numbers)), numbers, counts, said, strict=True)
    return encode_all(
        _IdentityFields(i, uid, number, time_us, time_us, face_count=count, **fields)
        for i, uid, number, count, fields in rows
    )


def _face_records(
    new: Newcomers, face_ids: Sequence[str], ordinals: NDArray[np.int64], time_us: int
) -> list[bytes]:
    rows = zip(face_ids, ordinals.tolist(), new.digests, new.sources, strict=True)
    return encode_all(
        _FaceFields(face_id, ordinal, digest, time_us, source)
        for face_id, ordinal, digest, source in rows
    )


def _by_label(new: Newcomers, numbers: Sequence[int]) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for number, said in zip(numbers, new.said, strict=False):
        for label in said.get("labels", {}).items():
            found.setdefault(label, []).append(number)
    return found
