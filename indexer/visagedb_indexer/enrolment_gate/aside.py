"""Setting a face aside."""

from collections.abc import Sequence

from visagedb_indexer import limits
from visagedb_indexer.errors import LimitExceededError
from visagedb_indexer.gate_values import GateFinding
from visagedb_indexer.store import FaceRecord, IdentityRecord, QuarantineRecord, Transaction
from visagedb_indexer.values import Vector


def set_aside(
    txn: Transaction,
    identity_id: str,
    face: FaceRecord,
    vector: Vector,
    findings: Sequence[GateFinding],
    founding: IdentityRecord | None = None,
    mode: str = "",
) -> QuarantineRecord:
    """Puts a face into quarantine; one that is there already stays as it is.

    Args:
        txn: The commit.
        identity_id: Whose it was to be; empty for a loose face.
        face: As it would be enrolled.
        vector: Unit length, shape (dimension,).
        findings: Why.
        founding: The identity that accepting the face creates; None if it has to be there.
        mode: The enrolment's mode.

    Raises:
        LimitExceededError: The quarantine is full.
    """
    for number in txn.quarantine.of_identity(identity_id, face.content_sha256):
        known = txn.quarantine.get(number)
        # A photograph may show several faces.
        if known.face.box == face.box:
            return known
    if txn.quarantine.count() >= limits.QUARANTINE_FACES_MAX:
        raise LimitExceededError(
            f"{limits.QUARANTINE_FACES_MAX} faces are in quarantine, the most; accept or drop some",
            {"limit": str(limits.QUARANTINE_FACES_MAX)},
        )
    number = txn.next_quarantine()
    record = QuarantineRecord(number, identity_id, face, tuple(findings), founding, mode)
    txn.quarantine.put(record, vector)
    return record
