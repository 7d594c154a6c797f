"""All that has to be true of a gallery's database, in one list."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from visagedb_indexer.errors import StorageCorruptError
from visagedb_indexer.integrity import codes, columns, counts, records
from visagedb_indexer.integrity.facts import Facts
from visagedb_indexer.integrity.indexes import INDEXES
from visagedb_indexer.integrity.values import Finding, Kind, Tally
from visagedb_indexer.store import schema
from visagedb_indexer.store.pages import DATA_FILE, PageFile

Check: TypeAlias = Callable[[Facts], Tally]
Repair: TypeAlias = Callable[[Facts], int]


@dataclass(frozen=True, slots=True)
class Invariant:
    """Something that has to be true.

    Attributes:
        name: For messages.
        statement: What, as a sentence.
        kind: Whether it can be made true again.
        covers: The sub-databases it speaks of.
        check: Finds where it is not true.
        repair: Makes what is derived anew; returns how many entries it changed.
    """

    name: str
    statement: str
    kind: Kind
    covers: tuple[schema.SubDatabase, ...]
    check: Check
    repair: Repair | None = None


def _settings(facts: Facts) -> Iterator[Finding]:
    stored = facts.tables.get(schema.META, schema.FORMAT_KEY)
    if stored != schema.u32(schema.FORMAT_VERSION):
        yield Finding("the format version cannot be read")
    if facts.gallery is None:
        yield Finding("the gallery's settings cannot be read; restore a backup")


def check_pages(facts: Facts) -> Iterator[Finding]:
    """Walks over the file's pages without LMDB."""
    path = facts.store.environment.path / DATA_FILE
    try:
        with PageFile(path, facts.tables.transaction) as file:
            file.check_pages(lambda: facts.tick(0))
    except StorageCorruptError as error:
        yield Finding(error.message)


def _walk(check: Callable[[Facts], Iterator[Finding]]) -> Check:
    return lambda facts: Tally.of(check(facts))


PAGES: Final = Invariant(
    "pages",
    "every page of the file that is in use is there and is what it should be",
    Kind.PRIMARY,
    (),
    _walk(check_pages),
)
"""First of all: LMDB trusts its pages."""

INVARIANTS: Final = (
    PAGES,
    Invariant(
        "settings",
        "the gallery's settings can be read",
        Kind.PRIMARY,
        (schema.META,),
        _walk(_settings),
    ),
    Invariant(
        "identities",
        records.IDENTITIES.statement,
        Kind.PRIMARY,
        (schema.IDENTITIES,),
        _walk(records.IDENTITIES.check),
    ),
    Invariant(
        "faces",
        "every face can be read, belongs to one identity or is loose, and has a vector",
        Kind.PRIMARY,
        (schema.FACES, schema.IDENTITIES, schema.VECTORS),
        _walk(records.FACES.check),
    ),
    Invariant(
        "vectors",
        "the vector of every face is what was written and has unit length",
        Kind.PRIMARY,
        (schema.VECTORS, schema.VECTOR_CHECKSUMS, schema.FACES),
        lambda facts: facts.once(columns.check_vectors).damaged,
    ),
    Invariant(
        "counters",
        "the gallery's counters are those of what is in it",
        Kind.DERIVED,
        (schema.META, schema.IDENTITIES, schema.FACES, schema.LINEAGE),
        _walk(counts.check_counters),
        counts.repair_counters,
    ),
    Invariant(
        "vector_checksums",
        "every face has a checksum of its vector, and nothing else has one",
        Kind.DERIVED,
        (schema.VECTOR_CHECKSUMS, schema.FACES),
        lambda facts: facts.once(columns.check_vectors).checksums,
        columns.repair_checksums,
    ),
    Invariant(
        "erased_vectors",
        "what was deleted has left no vector",
        Kind.DERIVED,
        (schema.VECTORS, schema.FACES),
        lambda facts: facts.once(columns.check_vectors).left,
        columns.repair_erased,
    ),
    Invariant(
        "owners",
        "every ordinal has the owner that its face says",
        Kind.DERIVED,
        (schema.OWNERS, schema.FACES),
        _walk(columns.check_owners),
        columns.repair_owners,
    ),
    *(
        Invariant(
            index.database.name.decode(),
            index.statement,
            Kind.DERIVED,
            (index.database,),
            _walk(index.check),
            index.repair,
        )
        for index in INDEXES
    ),
    Invariant(
        "face_counts",
        "every identity knows how many faces it has",
        Kind.DERIVED,
        (schema.IDENTITIES, schema.FACES),
        _walk(counts.check_face_counts),
        counts.repair_face_counts,
    ),
    *(
        Invariant(
            table.database.name.decode(),
            table.statement,
            Kind.PRIMARY,
            (table.database,),
            _walk(table.check),
        )
        for table in records.RESULTS
    ),
    Invariant(
        "codes",
        "the snapshot of the codes is whole, and has the code of every face it should have",
        Kind.DERIVED,
        (schema.FACES, schema.VECTORS),
        _walk(codes.check_codes),
    ),
)
"""In the order of checking, and of repairing: an index is made from what stands above it."""
