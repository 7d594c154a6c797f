"""One server: the constructor serves production and tests alike (port 0)."""

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import grpc
import structlog
from google.longrunning import operations_pb2, operations_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from visagedb.v1 import (
    access_pb2,
    access_pb2_grpc,
    audit_log_pb2,
    audit_log_pb2_grpc,
    backups_pb2,
    backups_pb2_grpc,
    clusters_pb2,
    clusters_pb2_grpc,
    erasures_pb2,
    erasures_pb2_grpc,
    galleries_pb2,
    galleries_pb2_grpc,
    gallery_audits_pb2,
    gallery_audits_pb2_grpc,
    identities_pb2,
    identities_pb2_grpc,
    imports_pb2,
    imports_pb2_grpc,
    quarantine_pb2,
    quarantine_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)
from visagedb_indexer import limits
from visagedb_indexer.backup import BackupFolder
from visagedb_indexer.compactions import CompactionPolicy
from visagedb_indexer.database import Database
from visagedb_indexer.errors import FailedPreconditionError, UnavailableError
from visagedb_indexer.store import Catalogue
from visagedb_server.access import Gate
from visagedb_server.access.keys import ApiKeys
from visagedb_server.access.tls import ReloadingCertificates
from visagedb_server.audit_log.recorder import Recorder
from visagedb_server.audit_log.writer import open_log
from visagedb_server.calls import CallInterceptor
from visagedb_server.config import ServerConfig
from visagedb_server.errors import code_of
from visagedb_server.extraction import Extractor
from visagedb_server.operations import Operations
from visagedb_server.services import (
    AccessService,
    AuditLogService,
    BackupService,
    ClusterService,
    ErasureService,
    GalleryAuditService,
    GalleryService,
    IdentityService,
    ImportService,
    OperationsService,
    QuarantineService,
    SearchService,
    Upkeep,
)

_LOG = structlog.get_logger("visagedb.server")
_MESSAGE_BYTES_MAX: Final = 2 * limits.IMAGE_BYTES_MAX + 4 * limits.MIB
"""Room for two of the largest images, as a comparison has, so that our limit answers first."""

SERVICES: Final = tuple(
    descriptor.full_name
    for descriptor in (
        galleries_pb2.DESCRIPTOR.services_by_name["GalleryService"],
        identities_pb2.DESCRIPTOR.services_by_name["IdentityService"],
        search_pb2.DESCRIPTOR.services_by_name["SearchService"],
        clusters_pb2.DESCRIPTOR.services_by_name["ClusterService"],
        gallery_audits_pb2.DESCRIPTOR.services_by_name["GalleryAuditService"],
        imports_pb2.DESCRIPTOR.services_by_name["ImportService"],
        backups_pb2.DESCRIPTOR.services_by_name["BackupService"],
        quarantine_pb2.DESCRIPTOR.services_by_name["QuarantineService"],
        access_pb2.DESCRIPTOR.services_by_name["AccessService"],
        audit_log_pb2.DESCRIPTOR.services_by_name["AuditLogService"],
        erasures_pb2.DESCRIPTOR.services_by_name["ErasureService"],
        operations_pb2.DESCRIPTOR.services_by_name["Operations"],
    )
)


class Server:
    """A running server; it owns its data directory and its embedding processes.

    Args:
        config: How to run.

    Raises:
        DataDirectoryLockedError: Another server owns the data directory.
        ModelError: A model card is refused.
        ModelNotAvailableError: The default model is not known.
        UnavailableError: The address cannot be listened on.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        # The cards are read once the data directory is ours.
        self._database = Database(config.data, lambda model: self.extractor.thresholds(model))
        try:
            self.keys = ApiKeys(self._database.catalogue)
            self._check_keys()
            self._certificates = (
                None if config.certificates is None else ReloadingCertificates(config.certificates)
            )
            self.audit_log = open_log(config.data, config.audit_key)
        except BaseException:
            self._database.close()
            raise
        try:
            self.extractor = Extractor(config)
        except BaseException:
            self.audit_log.close()
            self._database.close()
            raise
        self._operations = Operations(self._database.catalogue)
        self._gate = Gate(self.keys, self._operations.gallery_of, require_keys=config.keys_required)
        self._erasures = ErasureService(
            self._database,
            self._operations,
            CompactionPolicy(3600 * config.erasure_hours),
            overwrite=config.overwrite,
        )
        self._recorder = Recorder(self.audit_log, code_of)
        self._operations.on_finished = self._recorder.operation_finished
        self._erasures.retention.on_expired = self._recorder.expired
        self._health = health.HealthServicer(experimental_non_blocking=True)
        self._grpc = self._build()
        self.port = self._listen()

    def _check_keys(self) -> None:
        if self._config.keys_required and not self.keys.usable_admin:
            raise FailedPreconditionError(
                "keys are needed, and there is no valid admin key yet; make the first with "
                f"visagedb keys create --data {self._config.data} --role admin"
            )

    def _build(self) -> grpc.Server:
        config = self._config
        server = grpc.server(
            ThreadPoolExecutor(config.threads, thread_name_prefix="call"),
            interceptors=[CallInterceptor(self._gate, self._recorder)],
            maximum_concurrent_rpcs=config.requests_max,
            options=[
                ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
                ("grpc.max_send_message_length", _MESSAGE_BYTES_MAX),
                # Two servers on one port would answer for each other.
                ("grpc.so_reuseport", 0),
            ],
        )
        database, extractor = self._database, self.extractor
        backups = BackupFolder(config.backup_root) if config.backup_root else None
        upkeep = Upkeep(database, self._operations, backups)
        # Of each kind; streams hold threads of calls, and others want some too.
        streams_max = min(limits.STREAMS_MAX, max(1, config.threads // 4))
        galleries_pb2_grpc.add_GalleryServiceServicer_to_server(
            GalleryService(database, extractor, self._operations, upkeep), server
        )
        backups_pb2_grpc.add_BackupServiceServicer_to_server(BackupService(upkeep), server)
        identities_pb2_grpc.add_IdentityServiceServicer_to_server(
            IdentityService(database, extractor, streams_max), server
        )
        search_pb2_grpc.add_SearchServiceServicer_to_server(
            SearchService(
                database,
                extractor,
                streams_max,
            ),
            server,
        )
        clusters_pb2_grpc.add_ClusterServiceServicer_to_server(
            ClusterService(database, extractor, self._operations), server
        )
        gallery_audits_pb2_grpc.add_GalleryAuditServiceServicer_to_server(
            GalleryAuditService(database, self._operations), server
        )
        imports_pb2_grpc.add_ImportServiceServicer_to_server(
            ImportService(config, database, extractor, self._operations), server
        )
        quarantine_pb2_grpc.add_QuarantineServiceServicer_to_server(
            QuarantineService(database), server
        )
        erasures_pb2_grpc.add_ErasureServiceServicer_to_server(self._erasures, server)
        operations_pb2_grpc.add_OperationsServicer_to_server(
            OperationsService(
                self._operations, min(limits.OPERATION_WAITERS_MAX, max(1, config.threads // 2))
            ),
            server,
        )
        access_pb2_grpc.add_AccessServiceServicer_to_server(AccessService(self.keys), server)
        audit_log_pb2_grpc.add_AuditLogServiceServicer_to_server(
            AuditLogService(self.audit_log), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection(
            (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )
        return server

    def _listen(self) -> int:
        address = self._config.bind_address
        try:
            if self._certificates is None:
                return int(self._grpc.add_insecure_port(address))
            return int(self._grpc.add_secure_port(address, self._certificates.credentials))
        except RuntimeError as error:
            self._close_parts()
            raise UnavailableError(
                f"cannot listen on {self._config.bind_address}; is the port taken?"
            ) from error

    @property
    def catalogue(self) -> Catalogue:
        """Of the data directory."""
        return self._database.catalogue

    @property
    def address(self) -> str:
        """Where clients connect."""
        host = self._config.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def start(self) -> None:
        """Starts to answer, and goes on with operations that were cut short."""
        # Nobody whose time was over while the server was stopped is found any more.
        self._erasures.retention.start()
        self._operations.resume()
        self._grpc.start()
        for service in ("", *SERVICES):
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        _LOG.info("listening", address=self.address, data=str(self._config.data))
        self._warn()

    def _warn(self) -> None:
        if self._config.loopback:
            return
        lacking = []
        if self._certificates is None:
            lacking.append("everything that is sent can be read and changed on the way (no TLS)")
        if not self._gate.needs_keys:
            lacking.append("anybody who connects may do everything (no API keys)")
        for what in lacking:
            _LOG.warning(f"INSECURE: other machines reach this server, and {what}")

    def stop(self, grace: float | None = None) -> None:
        """Refuses new calls, lets running ones finish for `grace` seconds, closes everything.

        Args:
            grace: Seconds; None for the setting `drain_seconds`.
        """
        self._health.enter_graceful_shutdown()
        seconds = self._config.drain_seconds if grace is None else grace
        self._grpc.stop(seconds).wait()
        self._close_parts()
        _LOG.info("stopped")

    def _close_parts(self) -> None:
        self._erasures.retention.stop()
        self._operations.close()
        self.extractor.close()
        self.audit_log.close()
        self._database.close()
