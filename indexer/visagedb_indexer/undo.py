"""Undoing a change of who some faces belong to."""

from dataclasses import replace

import numpy as np

from visagedb_indexer import validation
from visagedb_indexer.clock import now_us
from visagedb_indexer.commands import Command, Effects, fingerprint_of
from visagedb_indexer.errors import NotUndoableError
from visagedb_indexer.loose_faces import OwnedFace
from visagedb_indexer.store import (
    LOOSE_NUMBER,
    IdentityRecord,
    LineageRecord,
    LineageSource,
    Transaction,
)
from visagedb_indexer.transfer import Moved, check_room, kept, number_of, recalled, recounted


def undo(number: int, request_id: str) -> Command[Moved]:
    """Sends the faces of a change, where it left them, back where they came from."""
    validation.check_request_id(request_id)
    fingerprint = fingerprint_of("undo", number)

    def command(txn: Transaction) -> Effects[Moved]:
        known = recalled(txn, request_id, fingerprint)
        if known is not None:
            return known
        entry = txn.lineage.get(number)
        target = _undoable_target(txn, entry)
        backs = [_Back(txn, entry, source) for source in entry.sources]
        if not any(back.faces or back.source.ended for back in backs):
            raise NotUndoableError("none of its faces is where the change left it")
        moved = [face for back in backs for face in back.go(txn, entry.to_number)]
        gone = _left(txn, entry, target, len(moved))
        record = replace(
            entry,
            number=txn.next_lineage(),
            kind="undo",
            time_us=now_us(),
            undoes=number,
            face_count=len(moved),
        )
        txn.lineage.mark_undone(entry)
        txn.lineage.put(record)
        effects = Effects(
            Moved(record, None, tuple(face for face, _ in moved)),
            created=tuple(back.restored for back in backs if back.restored is not None),
            deleted=gone,
            moved_faces=tuple((face.face.ordinal, to) for face, to in moved),
        )
        return kept(txn, effects, request_id, fingerprint)

    return command


def _undoable_target(txn: Transaction, entry: LineageRecord) -> IdentityRecord | None:
    if entry.kind == "undo":
        raise NotUndoableError("an undo cannot be undone; make the change again")
    if entry.undone:
        raise NotUndoableError("the change has been undone already")
    if entry.to_number == LOOSE_NUMBER:
        return None
    target = txn.identity_by_number(entry.to_number)
    if target is None:
        raise NotUndoableError(
            f"identity {entry.to_id!r} is gone; if it was merged, undo that first",
            {"identity": entry.to_id},
        )
    return target


class _Back:
    """The way back of one source's faces; looked at first, gone afterwards."""

    def __init__(self, txn: Transaction, entry: LineageRecord, source: LineageSource) -> None:
        self.source = source
        self.restored: IdentityRecord | None = None
        ordinals = np.frombuffer(source.ordinals, "<i8").tolist()
        here = [o for o in ordinals if txn.owner(o) == entry.to_number]
        found = [txn.face(entry.to_number, ordinal) for ordinal in here]
        self.faces = [face for face in found if face is not None]
        self.identity = self._identity(txn)

    def _identity(self, txn: Transaction) -> IdentityRecord | None:
        source = self.source
        if source.number == LOOSE_NUMBER:
            return None
        if source.ended is not None:
            if txn.find_identity(source.id) is not None:
                raise NotUndoableError(
                    f"the id {source.id!r} belongs to another identity now",
                    {"identity": source.id},
                )
            return replace(source.ended, face_count=0)
        identity = txn.identity_by_number(source.number)
        if identity is None:
            raise NotUndoableError(
                f"identity {source.id!r} is gone; if it was merged, undo that first",
                {"identity": source.id},
            )
        return identity

    def go(self, txn: Transaction, start: int) -> list[tuple[OwnedFace, int]]:
        """Moves the faces; returns each with the number of the identity it has now."""
        if self.identity is not None:
            back = recounted(self.identity, len(self.faces))
            check_room(self.identity, len(self.faces))
            if self.source.ended is not None:
                self.restored = back
                txn.restore_identity(back)
            else:
                txn.put_identity(back)
        number = number_of(self.identity)
        moved = [txn.move_face(face, start, number) for face in self.faces]
        return [(OwnedFace(self.source.id, face), number) for face in moved]


def _left(
    txn: Transaction, entry: LineageRecord, target: IdentityRecord | None, count: int
) -> tuple[IdentityRecord, ...]:
    """What becomes of the identity that had the faces; returns it if it is gone."""
    if target is None:
        return ()
    left = recounted(target, -count)
    if entry.to_created and not left.face_count and _is_as_created(target, entry.to_created):
        txn.remove_identity(left)
        return (target,)
    txn.put_identity(left)
    return ()


def _is_as_created(identity: IdentityRecord, created: IdentityRecord) -> bool:
    """Whether nobody has given the identity other fields of its own since."""
    own = ("display_name", "labels", "metadata", "expire_time_us")
    return all(getattr(identity, name) == getattr(created, name) for name in own)
