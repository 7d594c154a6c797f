"""One table: for every method, who may call it, and how the galleries of a request are found.

A method without a rule is refused, and a test fails. Another test looks at the fields of every
request: each text in it is a name that its rule reads, or is listed as something else.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from google.protobuf.message import Message

from visagedb_indexer.errors import InvalidNameError
from visagedb_server.access.roles import Permission

_READ, _ENROL, _EXPORT = Permission.READ, Permission.ENROL, Permission.EXPORT
_ADMINISTER, _AUDIT = Permission.ADMINISTER, Permission.AUDIT


class Scope(Enum):
    """What a method works on."""

    GALLERIES = auto()
    """The galleries that the request names, one at least."""
    OPTIONAL = auto()
    """The galleries that the request names, or none, where it needs nothing that is stored."""
    OPERATION = auto()
    """The gallery of a long-running operation."""
    OWN = auto()
    """What belongs to the caller: the answer shows its galleries only."""
    SERVER = auto()
    """The whole server: a key that was given single galleries may not."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call a method.

    Attributes:
        needs: The permission; None for anybody with a valid key.
        names: Fields with resource names, as paths through the request; all of a repeated field
            count, and of a stream each item.
        ids: Fields with plain ids of galleries.
        scope: What the method works on.
        exports: Whether a request takes templates out, which needs that permission as well.
        public: Whether even callers without a key may.
    """

    needs: Permission | None
    names: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    scope: Scope = Scope.GALLERIES
    exports: Callable[[Any], bool] | None = None
    public: bool = False

    def galleries(self, request: Message) -> set[str]:
        """Ids of all galleries that a request names.

        Raises:
            InvalidNameError: One of the names is not that of something in a gallery.
        """
        found = {gallery_of(name) for path in self.names for name in _texts(request, path)}
        return found.union(*(_texts(request, path) for path in self.ids))


def gallery_of(name: str) -> str:
    """Id of the gallery that a resource name begins with, read as the methods themselves do.

    Raises:
        InvalidNameError: It begins with none.
    """
    parts = name.split("/")
    if len(parts) < 2 or parts[0] != "galleries" or not parts[1]:
        raise InvalidNameError(f"{name[:300]!r} is not a name in a gallery", {"field": "name"})
    return parts[1]


def _texts(message: Any, path: str) -> Iterator[str]:
    """The texts at a path that are not empty."""
    field, _, rest = path.partition(".")
    value = getattr(message, field)
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, Message):
        if message.HasField(field):
            yield from _texts(value, rest)
    else:
        for one in value:
            yield from [one] if isinstance(one, str) else _texts(one, rest)


def _with_template(request: Any) -> bool:
    return bool(request.include_template)


_GALLERIES: Final = {
    "CreateGallery": Rule(_ADMINISTER, ids=("gallery_id",)),
    "GetGallery": Rule(_READ, ("name",)),
    "ListGalleries": Rule(_READ, scope=Scope.OWN),
    "UpdateGallery": Rule(_ADMINISTER, ("gallery.name",)),
    "DeleteGallery": Rule(_ADMINISTER, ("name",)),
    "GetGalleryStats": Rule(_READ, ("name",)),
    "CalibrateGallery": Rule(_ENROL, ("name",)),
    "GetCalibration": Rule(_READ, ("name",)),
    "VerifyGalleryIntegrity": Rule(_ADMINISTER, ("name",)),
    "SnapshotGallery": Rule(_ADMINISTER, ("name",)),
}

_IDENTITIES: Final = {
    "CreateIdentity": Rule(_ENROL, ("parent",)),
    "GetIdentity": Rule(_READ, ("name",)),
    "ListIdentities": Rule(_READ, ("parent",)),
    "UpdateIdentity": Rule(_ENROL, ("identity.name",)),
    "DeleteIdentity": Rule(_ENROL, ("name",)),
    "EnrollFace": Rule(_ENROL, ("identity",)),
    "StreamEnrollFaces": Rule(_ENROL, ("request.identity",)),
    "GetFace": Rule(_READ, ("name",), exports=_with_template),
    "ListFaces": Rule(_READ, ("parent",), exports=_with_template),
    "DeleteFace": Rule(_ENROL, ("name",)),
    "EnrollLooseFaces": Rule(_ENROL, ("gallery",)),
    "MoveFaces": Rule(_ENROL, ("faces", "destination")),
    "MergeIdentities": Rule(_ENROL, ("destination", "sources")),
    "SplitIdentity": Rule(_ENROL, ("source", "faces")),
    "ListLineage": Rule(_READ, ("parent",)),
    "UndoChange": Rule(_ENROL, ("name",)),
}

_SEARCH: Final = {
    "Identify": Rule(_READ, ("gallery", "probe.face")),
    "StreamIdentify": Rule(_READ, ("request.gallery", "request.probe.face")),
    "FindFaces": Rule(_READ, ("gallery", "probe.face")),
    "Verify": Rule(_READ, ("gallery", "probe.face", "other.face", "identity")),
    "DetectFaces": Rule(_READ, scope=Scope.OPTIONAL),
    "EmbedFaces": Rule(_READ, ("gallery",), scope=Scope.OPTIONAL),
}

_CLUSTERS: Final = {
    "Cluster": Rule(_ENROL, ("gallery", "base")),
    "GetClustering": Rule(_READ, ("name",)),
    "ListClusterings": Rule(_READ, ("parent",)),
    "DeleteClustering": Rule(_ENROL, ("name",)),
    "ListClusters": Rule(_READ, ("parent",)),
    "ListClusterMembers": Rule(_READ, ("parent",)),
    "AssignCluster": Rule(_ENROL, ("cluster", "excluded_faces")),
    "JoinClusters": Rule(_ENROL, ("clusters",)),
    "SplitCluster": Rule(_ENROL, ("cluster", "faces")),
    "UndoClusterEdit": Rule(_ENROL, ("clustering",)),
    "FindDuplicates": Rule(_ENROL, ("gallery",)),
}

_GALLERY_AUDITS: Final = {
    "AuditGallery": Rule(_ENROL, ("gallery",)),
    "GetGalleryAudit": Rule(_READ, ("name",)),
    "ListGalleryAuditFindings": Rule(_READ, ("parent",)),
}

_ACCESS: Final = {
    "CreateApiKey": Rule(_ADMINISTER, scope=Scope.SERVER),
    "ListApiKeys": Rule(_AUDIT, scope=Scope.SERVER),
    "RevokeApiKey": Rule(_ADMINISTER, scope=Scope.SERVER),
    "GetCaller": Rule(None, scope=Scope.OWN),
}

_OPERATIONS: Final = {
    "ListOperations": Rule(_READ, scope=Scope.OWN),
    "GetOperation": Rule(_READ, scope=Scope.OPERATION),
    "WaitOperation": Rule(_READ, scope=Scope.OPERATION),
    "CancelOperation": Rule(_ENROL, scope=Scope.OPERATION),
    "DeleteOperation": Rule(_ENROL, scope=Scope.OPERATION),
}

# A probe of a load balancer has no key, and learns nothing but whether the server serves.
_HEALTH: Final = {method: Rule(None, scope=Scope.OWN, public=True) for method in ("Check", "Watch")}
_REFLECTION: Final = {"ServerReflectionInfo": Rule(None, scope=Scope.OWN)}

_SERVICES: Final[Mapping[str, Mapping[str, Rule]]] = {
    "visagedb.v1.GalleryService": _GALLERIES,
    "visagedb.v1.IdentityService": _IDENTITIES,
    "visagedb.v1.SearchService": _SEARCH,
    "visagedb.v1.ClusterService": _CLUSTERS,
    "visagedb.v1.GalleryAuditService": _GALLERY_AUDITS,
    "visagedb.v1.AccessService": _ACCESS,
    "google.longrunning.Operations": _OPERATIONS,
    "grpc.health.v1.Health": _HEALTH,
    "grpc.reflection.v1alpha.ServerReflection": _REFLECTION,
}

RULES: Final[Mapping[str, Rule]] = {
    f"/{service}/{method}": rule
    for service, methods in _SERVICES.items()
    for method, rule in methods.items()
}
"""The rules by the path of the method, ``/package.Service/Method``."""
