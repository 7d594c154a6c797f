"""The gRPC services: thin, each translates between the wire and the indexer."""

from visagedb_server.services.access import AccessService
from visagedb_server.services.audit_log import AuditLogService
from visagedb_server.services.backups import BackupService
from visagedb_server.services.clusters import ClusterService
from visagedb_server.services.erasures import ErasureService
from visagedb_server.services.galleries import GalleryService
from visagedb_server.services.gallery_audits import GalleryAuditService
from visagedb_server.services.identities import IdentityService
from visagedb_server.services.imports import ImportService
from visagedb_server.services.operations import OperationsService
from visagedb_server.services.quarantine import QuarantineService
from visagedb_server.services.search import SearchService
from visagedb_server.services.upkeep import Upkeep

__all__ = [
    "AccessService",
    "AuditLogService",
    "BackupService",
    "ClusterService",
    "ErasureService",
    "GalleryAuditService",
    "GalleryService",
    "IdentityService",
    "ImportService",
    "OperationsService",
    "QuarantineService",
    "SearchService",
    "Upkeep",
]
