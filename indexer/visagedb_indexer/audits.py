"""Audits of a gallery's labels, kept beside the faces they speak of."""

from collections.abc import Sequence

from visagedb_indexer import limits
from visagedb_indexer.commands import Effects, RunCommand
from visagedb_indexer.store import AuditRecord, FindingRecord, GalleryStore, Transaction


class Audits:
    """The audits of one gallery.

    Args:
        store: The gallery's database.
        run: The gallery's writer.
    """

    def __init__(self, store: GalleryStore, run: RunCommand) -> None:
        self._store = store
        self._run = run

    def keep(self, record: AuditRecord, findings: Sequence[FindingRecord]) -> None:
        """Keeps an audit, and forgets the oldest of too many."""

        def command(txn: Transaction) -> Effects[None]:
            txn.audits.put(record, findings, limits.AUDITS_KEPT_MAX)
            return Effects(None)

        self._run(command)

    def get(self, audit_id: str) -> AuditRecord:
        """An audit.

        Raises:
            NotFoundError: There is none of this id.
        """
        with self._store.read() as view:
            return view.audits.get(audit_id)

    def all(self) -> list[AuditRecord]:
        """All audits, oldest first."""
        with self._store.read() as view:
            return view.audits.all()

    def findings(
        self, audit_id: str, start: int = 0, most: int | None = None
    ) -> list[tuple[int, FindingRecord]]:
        """Rank and record of up to `most` findings from a rank on.

        Raises:
            NotFoundError: There is no such audit.
        """
        with self._store.read() as view:
            view.audits.get(audit_id)
            found = view.audits.findings(audit_id, start)
            if most is None:
                return list(found)
            return [one for _, one in zip(range(most), found, strict=False)]
