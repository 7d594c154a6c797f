"""Changes of who some faces belong to, from protobuf to frozen values."""

from typing import Final

from visagedb import _convert as convert
from visagedb._lineage import Change, ChangeKind, LineageEntry, LineageSource
from visagedb._moments import moment
from visagedb.v1 import clusters_pb2, identities_pb2

_KINDS: Final = {
    identities_pb2.CHANGE_KIND_MOVE: ChangeKind.MOVE,
    identities_pb2.CHANGE_KIND_MERGE: ChangeKind.MERGE,
    identities_pb2.CHANGE_KIND_SPLIT: ChangeKind.SPLIT,
    identities_pb2.CHANGE_KIND_UNDO: ChangeKind.UNDO,
}


def entry(message: identities_pb2.LineageEntry) -> LineageEntry:
    """One change."""
    return LineageEntry(
        name=message.name,
        kind=_KINDS.get(message.kind, ChangeKind.UNKNOWN),
        create_time=moment(message.create_time),
        destination=message.destination,
        founded=message.founded,
        sources=tuple(
            LineageSource(source.identity, source.face_count, source.ended)
            for source in message.sources
        ),
        face_count=message.face_count,
        undone=message.undone,
        undoes=message.undoes,
    )


def moved(message: identities_pb2.MoveFacesResponse) -> Change:
    """The answer to a move."""
    return Change(
        identity=None,
        faces=tuple(convert.face(face) for face in message.faces),
        face_count=len(message.faces),
        lineage=entry(message.lineage) if message.HasField("lineage") else None,
    )


def merged(
    message: identities_pb2.MergeIdentitiesResponse | identities_pb2.SplitIdentityResponse,
) -> Change:
    """The answer to a merge or a split."""
    return Change(
        identity=convert.identity(message.identity),
        faces=(),
        face_count=message.lineage.face_count,
        lineage=entry(message.lineage) if message.HasField("lineage") else None,
    )


def assigned(message: clusters_pb2.AssignClusterResponse) -> Change:
    """The answer to a cluster's becoming an identity."""
    return Change(
        identity=convert.identity(message.identity),
        faces=(),
        face_count=message.moved_face_count,
        lineage=entry(message.lineage) if message.HasField("lineage") else None,
    )
