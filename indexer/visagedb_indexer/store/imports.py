"""Imports in a gallery's database: where each stands, and what it could not enrol.

The record of an import is its checkpoint. It changes in the same transaction that enrols the
entries it speaks of, so that after a crash none is lost and none comes twice.
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field, replace

from visagedb_indexer import limits
from visagedb_indexer.errors import ImportNotFoundError
from visagedb_indexer.store import schema
from visagedb_indexer.store.environment import Environment, LmdbTransaction
from visagedb_indexer.store.records import decode, encode
from visagedb_indexer.values import ImportState, SourceFormat


@dataclass(frozen=True, slots=True)
class ImportRecord:
    """One import.

    Attributes:
        id: That of its operation.
        path: Of the source.
        source_mark: What the source looked like at the beginning; empty if it may change.
        position: Where in the source to go on, in the source's own words; empty for its
            beginning.
        first_number: Identities with smaller numbers were there before it began.
        entry_count: Entries of the source; 0 while unknown.
        done_count: Entries done with.
        ignored_count: Files that are no entries.
        outcomes: By `EnrollOutcome`, the number of entries.
        identity_created_count: Identities that are new.
        failures: By reason, the number of entries.
        failures_kept: How many of them are kept.
        paused: Whether it is held.
        resumptions: How often it was begun again since its last progress.
        state: `RUNNING` until it has ended.
        end_time_us: When that was; 0 before.
        error_reason: Why it failed; empty otherwise.
        error_message: The same for a person.
    """

    id: str
    create_time_us: int
    path: str
    format: SourceFormat
    source_mark: str = ""
    position: str = ""
    first_number: int = 0
    entry_count: int = 0
    done_count: int = 0
    ignored_count: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    identity_created_count: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    failures_kept: int = 0
    paused: bool = False
    resumptions: int = 0
    state: ImportState = ImportState.RUNNING
    end_time_us: int = 0
    error_reason: str = ""
    error_message: str = ""

    @property
    def failed_count(self) -> int:
        """Entries that could not be enrolled."""
        return sum(self.failures.values())


@dataclass(frozen=True, slots=True)
class ImportFailure:
    """An entry that could not be enrolled, and why."""

    entry: str
    identity_id: str
    reason: str
    message: str


class ImportReader:
    """Reads imports in one transaction."""

    def __init__(self, environment: Environment, txn: LmdbTransaction) -> None:
        self._txn = txn
        self._db = environment.handle

    def find(self, import_id: str) -> ImportRecord | None:
        """An import by id, or None."""
        data = self._txn.get(import_id.encode(), db=self._db(schema.IMPORTS))
        return None if data is None else decode(data, ImportRecord)

    def get(self, import_id: str) -> ImportRecord:
        """An import by id.

        Raises:
            ImportNotFoundError: There is none.
        """
        record = self.find(import_id)
        if record is None:
            raise ImportNotFoundError(f"there is no import {import_id!r}", {"import": import_id})
        return record

    def all(self) -> list[ImportRecord]:
        """All imports, oldest first: their ids begin with the time."""
        with self._txn.cursor(db=self._db(schema.IMPORTS)) as cursor:
            return [decode(data, ImportRecord) for _, data in cursor.iternext()]

    def failures(self, import_id: str, start: int = 0) -> Iterator[tuple[int, ImportFailure]]:
        """Number and record of the failures from a number on."""
        prefix = schema.cluster_key(import_id, 0)[:-4]
        with self._txn.cursor(db=self._db(schema.IMPORT_FAILURES)) as cursor:
            found = cursor.set_range(schema.cluster_key(import_id, start))
            while found:
                key, data = cursor.item()
                if key[: len(prefix)] != prefix:
                    return
                yield schema.read_u32(bytes(key[-4:])), decode(data, ImportFailure)
                found = cursor.next()


class ImportWriter(ImportReader):
    """Writes imports in one write transaction."""

    def put(self, record: ImportRecord, failures: Iterable[ImportFailure] = ()) -> ImportRecord:
        """Keeps an import as it stands, with the failures that are new.

        Returns:
            The record, with how many failures are kept: not more than there is room for.
        """
        kept = record.failures_kept
        for failure in failures:
            if kept >= limits.IMPORT_FAILURES_KEPT_MAX:
                break
            key = schema.cluster_key(record.id, kept)
            self._txn.put(key, encode(failure), db=self._db(schema.IMPORT_FAILURES))
            kept += 1
        record = replace(record, failures_kept=kept)
        self._txn.put(record.id.encode(), encode(record), db=self._db(schema.IMPORTS))
        return record

    def forget_people(self, gone: Container[str]) -> None:
        """Forgets the failures that speak of some identities, by id."""
        failures = self._db(schema.IMPORT_FAILURES)
        with self._txn.cursor(db=failures) as cursor:
            keys = [
                bytes(key)
                for key, data in cursor.iternext()
                if decode(data, ImportFailure).identity_id in gone
            ]
        for key in keys:
            self._txn.delete(key, db=failures)

    def forget(self, most: int) -> None:
        """Forgets the oldest finished imports beyond a number."""
        for record in self.all()[:-most]:
            if record.state is not ImportState.RUNNING:
                self._remove(record)

    def _remove(self, record: ImportRecord) -> None:
        self._txn.delete(record.id.encode(), db=self._db(schema.IMPORTS))
        for number in range(record.failures_kept):
            self._txn.delete(
                schema.cluster_key(record.id, number), db=self._db(schema.IMPORT_FAILURES)
            )
