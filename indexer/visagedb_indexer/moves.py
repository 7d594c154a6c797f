"""Who a face belongs to, changed: move, merge, split, and the undoing of each.

Each change is one commit, keeps a record of where the faces came from, and can be undone
while its faces are where it put them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from visagedb_indexer import validation
from visagedb_indexer.commands import (
    Command,
    Effects,
    RunCommand,
    check_etag,
    fingerprint_of,
    identity_record,
    no_identity,
)
from visagedb_indexer.errors import IdentityExistsError, InvalidArgumentError
from visagedb_indexer.gallery_values import NewIdentity
from visagedb_indexer.store import (
    LOOSE_NUMBER,
    FaceRecord,
    GalleryStore,
    IdentityRecord,
    LineageRecord,
    Transaction,
)
from visagedb_indexer.transfer import Group, Moved, kept, recalled, transfer
from visagedb_indexer.undo import undo as undo_command
from visagedb_indexer.values import FaceScope


@dataclass(frozen=True, slots=True)
class Destination:
    """Who is to receive faces.

    Attributes:
        identity_id: An identity; empty for none: the faces become loose.
        new_identity: How to create it if there is none; None refuses.
        etag: If set, must be its present one.
    """

    identity_id: str
    new_identity: NewIdentity | None = None
    etag: str = ""


class Moves:
    """The changes of one gallery.

    Args:
        store: The gallery's database.
        run: The gallery's writer.
    """

    def __init__(self, store: GalleryStore, run: RunCommand) -> None:
        self._store = store
        self._run = run

    def move(
        self, faces: Sequence[tuple[str, str]], destination: Destination, request_id: str = ""
    ) -> Moved:
        """Gives faces, by identity id (empty for loose ones) and face id, to one identity.

        A face whose id the destination has already gets a new id.

        Raises:
            FaceNotFoundError: There is no such face; likewise for identities.
            EtagMismatchError: The destination changed since the caller read it.
            LimitExceededError: The destination would have too many faces.
            RequestIdReusedError: The request id belonged to another request.
        """
        if not faces:
            raise InvalidArgumentError("no faces are given", {"field": "faces"})

        def chosen(txn: Transaction) -> list[int]:
            return [txn.face_by_id(*face).ordinal for face in faces]

        fingerprint = fingerprint_of("move", sorted(faces), destination)
        return self._run(_command("move", chosen, destination, request_id, fingerprint))

    def assign(
        self,
        ordinals: Sequence[int],
        destination: Destination,
        *,
        scope: FaceScope = FaceScope.LOOSE,
        request_id: str = "",
    ) -> Moved:
        """Gives faces by ordinal to one identity; deleted ones and those out of scope stay.

        Raises:
            IdentityNotFoundError: There is no such identity, and none may be created.
            EtagMismatchError: The destination changed since the caller read it.
            LimitExceededError: The destination would have too many faces.
            RequestIdReusedError: The request id belonged to another request.
        """

        def chosen(txn: Transaction) -> list[int]:
            owners = {ordinal: txn.owner(ordinal) for ordinal in ordinals}
            return [o for o, owner in owners.items() if _in_scope(owner, scope)]

        fingerprint = fingerprint_of("assign", sorted(ordinals), destination, scope)
        return self._run(_command("move", chosen, destination, request_id, fingerprint))

    def merge(
        self, sources: Sequence[str], destination_id: str, etag: str = "", request_id: str = ""
    ) -> Moved:
        """Makes identities part of another one, which keeps its name and labels.

        Raises:
            IdentityNotFoundError: There is no such identity.
            InvalidArgumentError: There are no sources, or the destination is among them.
            EtagMismatchError: The destination changed since the caller read it.
            LimitExceededError: It would have too many faces.
            RequestIdReusedError: The request id belonged to another request.
        """
        if not sources or destination_id in sources:
            raise InvalidArgumentError(
                "name one identity or more that become part of another one", {"field": "sources"}
            )
        fingerprint = fingerprint_of("merge", sorted(set(sources)), destination_id, etag)

        def command(txn: Transaction) -> Effects[Moved]:
            known = recalled(txn, request_id, fingerprint)
            if known is not None:
                return known
            target = txn.identity(destination_id)
            check_etag(etag, target.revision)
            ending = [txn.identity(one) for one in dict.fromkeys(sources)]
            groups = [Group(one, list(txn.faces(one.number)), ends=True) for one in ending]
            effects = transfer(txn, "merge", groups, target, founded=False)
            return kept(txn, effects, request_id, fingerprint)

        return self._run(command)

    def split(
        self,
        source_id: str,
        face_ids: Sequence[str],
        identity_id: str,
        new: NewIdentity,
        etag: str = "",
        request_id: str = "",
    ) -> Moved:
        """Founds a new identity from some, not all, of the faces of one.

        Raises:
            IdentityNotFoundError: There is no such identity.
            FaceNotFoundError: It has no such face.
            IdentityExistsError: There is one of the new id already.
            InvalidArgumentError: No face would leave, or all would.
            EtagMismatchError: The source changed since the caller read it.
            RequestIdReusedError: The request id belonged to another request.
        """
        if identity_id:
            validation.check_id(identity_id, "identity")
        fingerprint = fingerprint_of(
            "split", source_id, sorted(set(face_ids)), identity_id, new, etag
        )

        def command(txn: Transaction) -> Effects[Moved]:
            known = recalled(txn, request_id, fingerprint)
            if known is not None:
                return known
            source = txn.identity(source_id)
            check_etag(etag, source.revision)
            leaving = [txn.face_by_id(source_id, one) for one in dict.fromkeys(face_ids)]
            if not 0 < len(leaving) < source.face_count:
                raise InvalidArgumentError(
                    f"{len(leaving)} of {source.face_count} faces would leave; a split takes "
                    "some of them, not all",
                    {"field": "faces"},
                )
            if identity_id and txn.find_identity(identity_id) is not None:
                raise _exists(identity_id)
            target = txn.add_identity(identity_record(identity_id, new))
            groups = [Group(source, leaving)]
            effects = transfer(txn, "split", groups, target, founded=True)
            return kept(txn, effects, request_id, fingerprint)

        return self._run(command)

    def undo(self, number: int, request_id: str = "") -> Moved:
        """Undoes a change: its faces, where it left them, go back where they came from.

        Identities that a merge ended come back; an identity that the change founded goes
        if it is empty then and was not changed since.

        Raises:
            LineageNotFoundError: There is no such entry.
            NotUndoableError: It was undone, is itself an undo, or what it needs is gone.
            RequestIdReusedError: The request id belonged to another request.
        """
        return self._run(undo_command(number, request_id))

    def lineage(
        self, identity_id: str = "", before: int | None = None, most: int = 100
    ) -> list[LineageRecord]:
        """Up to `most` entries with numbers below `before`, newest first.

        Args:
            identity_id: Only those that touch this identity; empty for all.
            before: None begins with the newest.
            most: How many.

        Raises:
            IdentityNotFoundError: There is no such identity.
        """
        with self._store.read() as view:
            if identity_id:
                found = view.lineage.newest_of(view.identity(identity_id).number, before)
            else:
                found = view.lineage.newest(before)
            return [entry for _, entry in zip(range(most), found, strict=False)]

    def entry(self, number: int) -> LineageRecord:
        """One entry of the lineage.

        Raises:
            LineageNotFoundError: There is none of this number.
        """
        with self._store.read() as view:
            return view.lineage.get(number)


def _command(
    kind: str,
    chosen: Callable[[Transaction], list[int]],
    destination: Destination,
    request_id: str,
    fingerprint: bytes,
) -> Command[Moved]:
    validation.check_request_id(request_id)
    if destination.identity_id:
        validation.check_id(destination.identity_id, "identity")

    def command(txn: Transaction) -> Effects[Moved]:
        known = recalled(txn, request_id, fingerprint)
        if known is not None:
            return known
        ordinals = chosen(txn)
        target, founded = _target(txn, destination)
        number = LOOSE_NUMBER if target is None else target.number
        groups = _groups(txn, ordinals, number)
        effects = transfer(txn, kind, groups, target, founded=founded)
        return kept(txn, effects, request_id, fingerprint)

    return command


def _target(txn: Transaction, destination: Destination) -> tuple[IdentityRecord | None, bool]:
    """Who receives the faces, and whether it was created for that."""
    identity_id = destination.identity_id
    if not identity_id and destination.new_identity is None:
        return None, False
    target = txn.find_identity(identity_id) if identity_id else None
    if target is not None:
        check_etag(destination.etag, target.revision)
        return target, False
    if destination.new_identity is None:
        raise no_identity(identity_id)
    return txn.add_identity(identity_record(identity_id, destination.new_identity)), True


def _groups(txn: Transaction, ordinals: Iterable[int], target: int) -> list[Group]:
    """The faces by present owner, without those that are where they are to go."""
    by_owner: dict[int, list[FaceRecord]] = {}
    for ordinal in sorted(set(ordinals)):
        number = txn.owner(ordinal)
        face = txn.face(number, ordinal) if number >= 0 and number != target else None
        if face is not None:
            by_owner.setdefault(number, []).append(face)
    return [Group(txn.identity_by_number(number), faces) for number, faces in by_owner.items()]


def _exists(identity_id: str) -> IdentityExistsError:
    return IdentityExistsError(
        f"there is an identity {identity_id!r} already", {"identity": identity_id}
    )


def _in_scope(owner: int, scope: FaceScope) -> bool:
    loose = owner == LOOSE_NUMBER
    return owner >= 0 and (scope is FaceScope.ALL or loose == (scope is FaceScope.LOOSE))
