"""Audits of a gallery's labels in its database."""

from collections.abc import Iterator, Sequence

from visagedb_indexer.errors import NotFoundError
from visagedb_indexer.store import schema
from visagedb_indexer.store.environment import Environment, LmdbTransaction
from visagedb_indexer.store.records import AuditRecord, FindingRecord, decode, encode


class AuditReader:
    """Reads audits in one transaction."""

    def __init__(self, environment: Environment, txn: LmdbTransaction) -> None:
        self._txn = txn
        self._db = environment.handle

    def get(self, audit_id: str) -> AuditRecord:
        """An audit by id.

        Raises:
            NotFoundError: There is none.
        """
        data = self._txn.get(audit_id.encode(), db=self._db(schema.AUDITS))
        if data is None:
            raise NotFoundError(f"there is no audit {audit_id!r}", {"audit": audit_id})
        return decode(data, AuditRecord)

    def all(self) -> list[AuditRecord]:
        """All audits, oldest first."""
        with self._txn.cursor(db=self._db(schema.AUDITS)) as cursor:
            records = [decode(data, AuditRecord) for _, data in cursor.iternext()]
        return sorted(records, key=lambda record: (record.create_time_us, record.id))

    def findings(self, audit_id: str, start: int = 0) -> Iterator[tuple[int, FindingRecord]]:
        """Rank and record of the findings from a rank on."""
        prefix = schema.cluster_key(audit_id, 0)[:-4]
        with self._txn.cursor(db=self._db(schema.FINDINGS)) as cursor:
            found = cursor.set_range(schema.cluster_key(audit_id, start))
            while found:
                key, data = cursor.item()
                if key[: len(prefix)] != prefix:
                    return
                yield schema.read_u32(bytes(key[-4:])), decode(data, FindingRecord)
                found = cursor.next()


class AuditWriter(AuditReader):
    """Writes audits in one write transaction."""

    def put(self, record: AuditRecord, findings: Sequence[FindingRecord], kept_most: int) -> None:
        """Keeps an audit, and forgets the oldest beyond a number."""
        self._txn.put(record.id.encode(), encode(record), db=self._db(schema.AUDITS))
        for rank, finding in enumerate(findings):
            key = schema.cluster_key(record.id, rank)
            self._txn.put(key, encode(finding), db=self._db(schema.FINDINGS))
        # Ids begin with a time; after the clock was set back the newest is not the last.
        others = [old.id for old in self.all() if old.id != record.id]
        for old_id in others[: max(0, len(others) - kept_most + 1)]:
            self._remove(old_id)

    def _remove(self, audit_id: str) -> None:
        self._txn.delete(audit_id.encode(), db=self._db(schema.AUDITS))
        for rank in [rank for rank, _ in self.findings(audit_id)]:
            self._txn.delete(schema.cluster_key(audit_id, rank), db=self._db(schema.FINDINGS))
