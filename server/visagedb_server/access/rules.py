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


class Audit(Enum):
    """How calls of a method are written into the audit log. Refusals always are."""

    NONE = auto()
    LATER = auto()
    """By the background writer, within a second."""
    BEFORE_ANSWER = auto()
    """The entry is on disk before the caller is answered."""


_AUDIT_BY_DEFAULT: Final = {
    None: Audit.NONE,
    Permission.READ: Audit.NONE,
    Permission.ENROL: Audit.LATER,
    Permission.EXPORT: Audit.BEFORE_ANSWER,
    Permission.ADMINISTER: Audit.BEFORE_ANSWER,
    Permission.AUDIT: Audit.LATER,
}


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
        audit: How calls are written into the audit log; None for what the permission says.
        each_item: Whether each item of a stream has an entry of its own, not many together.
    """

    needs: Permission | None
    names: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    scope: Scope = Scope.GALLERIES
    exports: Callable[[Any], bool] | None = None
    public: bool = False
    audit: Audit | None = None
    each_item: bool = False

    def audit_of(self, request: Any) -> Audit:
        """How a call with this request is written into the audit log."""
        audit = _AUDIT_BY_DEFAULT[self.needs] if self.audit is None else self.audit
        if audit is Audit.NONE and self.exports is not None and self.exports(request):
            return Audit.LATER
        return audit

    def galleries(self, request: Message) -> set[str]:
        """Ids of all galleries that a request names.

        Raises:
            InvalidNameError: One of the names is not that of something in a gallery.
        """
        found = {gallery_of(name) for path in self.names for name in texts(request, path)}
        return found.union(*(texts(request, path) for path in self.ids))


def gallery_of(name: str) -> str:
    """Id of the gallery that a resource name begins with, read as the methods themselves do.

    Raises:
        InvalidNameError: It begins with none.
    """
    parts = name.split("/")
    if len(parts) < 2 or parts[0] != "galleries" or not parts[1]:
        raise InvalidNameError(f"{name[:300]!r} is not a name in a gallery", {"field": "name"})
    return parts[1]


def texts(message: Any, path: str) -> Iterator[str]:
    """The texts at a path that are not empty."""
    field, _, rest = path.partition(".")
    value = getattr(message, field)
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, Message):
        if message.HasField(field):
            yield from texts(value, rest)
    else:
        for one in value:
            yield from [one] if isinstance(one, str) else texts(one, rest)


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
    "DeleteIdentity": Rule(_ENROL, ("name",), audit=Audit.BEFORE_ANSWER),
    "EnrollFace": Rule(_ENROL, ("identity",)),
    "StreamEnrollFaces": Rule(_ENROL, ("request.identity", "loose.gallery", "templates.gallery")),
    "GetFace": Rule(_READ, ("name",), exports=_with_template),
    "ListFaces": Rule(_READ, ("parent",), exports=_with_template),
    "DeleteFace": Rule(_ENROL, ("name",), audit=Audit.BEFORE_ANSWER),
    "EnrollLooseFaces": Rule(_ENROL, ("gallery",)),
    "MoveFaces": Rule(_ENROL, ("faces", "destination")),
    "MergeIdentities": Rule(_ENROL, ("destination", "sources")),
    "SplitIdentity": Rule(_ENROL, ("source", "faces")),
    "ListLineage": Rule(_READ, ("parent",)),
    "UndoChange": Rule(_ENROL, ("name",)),
}

_SEARCH: Final = {
    "Identify": Rule(_READ, ("gallery", "probe.face"), audit=Audit.LATER),
    "StreamIdentify": Rule(
        _READ, ("request.gallery", "request.probe.face"), audit=Audit.LATER, each_item=True
    ),
    "FindFaces": Rule(_READ, ("gallery", "probe.face"), audit=Audit.LATER),
    "Verify": Rule(_READ, ("gallery", "probe.face", "other.face", "identity"), audit=Audit.LATER),
    "DetectFaces": Rule(_READ, scope=Scope.OPTIONAL),
    "EmbedFaces": Rule(_READ, ("gallery",), scope=Scope.OPTIONAL, audit=Audit.LATER),
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

_BACKUPS: Final = {
    "CreateBackup": Rule(_ADMINISTER, scope=Scope.SERVER),
    "ListBackups": Rule(_ADMINISTER, scope=Scope.SERVER),
    "RestoreGallery": Rule(
        _ADMINISTER, ids=("gallery_id", "source_gallery_id"), scope=Scope.SERVER
    ),
}

_QUARANTINE: Final = {
    "ListQuarantinedFaces": Rule(_READ, ("parent",), exports=_with_template),
    "AcceptQuarantinedFace": Rule(_ENROL, ("name", "identity")),
    "DropQuarantinedFace": Rule(_ENROL, ("name",), audit=Audit.BEFORE_ANSWER),
}

_ACCESS: Final = {
    "CreateApiKey": Rule(_ADMINISTER, scope=Scope.SERVER),
    "ListApiKeys": Rule(_AUDIT, scope=Scope.SERVER),
    "RevokeApiKey": Rule(_ADMINISTER, scope=Scope.SERVER),
    "GetCaller": Rule(None, scope=Scope.OWN),
}

_AUDIT_LOG: Final = {
    "ListAuditEntries": Rule(_AUDIT, scope=Scope.OWN),
    "VerifyAuditLog": Rule(_AUDIT, scope=Scope.SERVER),
}

_ERASURES: Final = {
    "CompactGallery": Rule(_ADMINISTER, ("name",)),
    "GetErasure": Rule(_READ, ("name",)),
    "ListErasures": Rule(_READ, ("parent",)),
    "GetRetention": Rule(_READ, ("name",)),
    "ConfirmClock": Rule(_ADMINISTER, scope=Scope.SERVER),
}

_IMPORTS: Final = {
    "ImportFaces": Rule(_ENROL, ("gallery",)),
    "GetImport": Rule(_READ, ("name",)),
    "ListImports": Rule(_READ, ("parent",)),
    "ListImportFailures": Rule(_READ, ("parent",)),
    "PauseImport": Rule(_ENROL, ("name",)),
    "ResumeImport": Rule(_ENROL, ("name",)),
    "ExportFaces": Rule(_EXPORT, ("gallery",)),
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
    "visagedb.v1.BackupService": _BACKUPS,
    "visagedb.v1.QuarantineService": _QUARANTINE,
    "visagedb.v1.AccessService": _ACCESS,
    "visagedb.v1.AuditLogService": _AUDIT_LOG,
    "visagedb.v1.ErasureService": _ERASURES,
    "visagedb.v1.ImportService": _IMPORTS,
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
