"""The check of the audit log of a data directory on this machine."""

from pathlib import Path

from visagedb import AuditLogFinding, AuditLogVerification
from visagedb_indexer.errors import IndexerError
from visagedb_server.audit_log.folder import Folder
from visagedb_server.audit_log.verifying import verify


def local_audit(data: Path, key_file: Path | None, head: str) -> AuditLogVerification:
    """Follows the whole chain; a server may be writing it.

    Raises:
        OSError: There is no log, or its key cannot be read, or `head` is no head.
    """
    try:
        found = verify(Folder(data / "audit", key_file), head)
    except (IndexerError, ValueError) as error:
        # The command line knows the client's errors and those of files.
        raise OSError(str(error)) from error
    return AuditLogVerification(
        found.entry_count,
        found.first_sequence,
        str(found.head),
        tuple(AuditLogFinding(one.file, one.sequence, one.problem) for one in found.findings),
    )
