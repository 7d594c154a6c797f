"""One server: the constructor serves production and tests alike (port 0)."""

from contextlib import ExitStack
from typing import Final

import grpc
import structlog
from google.longrunning import operations_pb2, operations_pb2_grpc
from grpc_health.v1 import health, health_pb2_grpc
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
from visagedb_server import limits as server_limits
from visagedb_server.access import Gate
from visagedb_server.access.keys import ApiKeys
from visagedb_server.access.tls import ReloadingCertificates
from visagedb_server.admission import Lanes, Rates
from visagedb_server.audit_log.recorder import Recorder
from visagedb_server.audit_log.writer import open_log
from visagedb_server.calls import CallInterceptor
from visagedb_server.channel import channel_options
from visagedb_server.config import ServerConfig
from visagedb_server.errors import code_of
from visagedb_server.extraction import Extractor
from visagedb_server.observability import Endpoint, Metrics, Readiness, ServerState
from visagedb_server.observability.tracing import Tracer
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
        self._parts = ExitStack()
        try:
            self._open(config)
        except BaseException:
            self._parts.close()
            raise

    def _open(self, config: ServerConfig) -> None:
        opened = self._parts
        self._health = health.HealthServicer(experimental_non_blocking=True)
        self._readiness = Readiness(self._health, SERVICES)
        self._metrics = Metrics(Tracer() if config.tracing else None)
        opened.callback(self._metrics.close)
        self._endpoint = self._open_endpoint(config)
        # The cards are read once the data directory is ours.
        self._database = Database(config.data, lambda model: self.extractor.thresholds(model))
        opened.callback(self._database.close)
        self.keys = ApiKeys(self._database.catalogue)
        self._check_keys()
        self._certificates = (
            None if config.certificates is None else ReloadingCertificates(config.certificates)
        )
        self.audit_log = open_log(config.data, config.audit_key)
        opened.callback(self.audit_log.close)
        self._lanes = Lanes(config.threads, config.requests_max)
        opened.callback(self._lanes.close)
        self.extractor = Extractor(config)
        opened.callback(self.extractor.close)
        self._operations = Operations(self._database.catalogue)
        opened.callback(self._operations.close)
        self._state = ServerState(self._database, self.extractor, self._operations, self._lanes)
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
        opened.callback(lambda: self._erasures.retention.stop())
        self._grpc = self._build()
        self.port = self._listen()

    def _open_endpoint(self, config: ServerConfig) -> Endpoint | None:
        """The metrics and probes, which answer while the galleries are opened."""
        if not config.metrics:
            return None
        endpoint = Endpoint(
            config.metrics_host,
            config.chosen_metrics_port,
            self._metrics.exposition,
            self._readiness.faults,
            self._readiness.obstacles,
        )
        self._parts.callback(endpoint.close)
        return endpoint

    def _check_keys(self) -> None:
        if self._config.keys_required and not self.keys.usable_admin:
            raise FailedPreconditionError(
                "keys are needed, and there is no valid admin key yet; make the first with "
                f"visagedb keys create --data {self._config.data} --role admin"
            )

    def _build(self) -> grpc.Server:
        config = self._config
        rates = Rates(config.calls_per_second)
        server = grpc.server(
            self._lanes.work.pool,
            interceptors=[
                CallInterceptor(self._gate, self._recorder, self._lanes, rates, self._metrics)
            ],
            maximum_concurrent_rpcs=server_limits.CALLS_MAX,
            options=channel_options(),
        )
        database, extractor = self._database, self.extractor
        backups = BackupFolder(config.backup_root) if config.backup_root else None
        upkeep = Upkeep(database, self._operations, backups)
        galleries_pb2_grpc.add_GalleryServiceServicer_to_server(
            GalleryService(database, extractor, self._operations, upkeep), server
        )
        backups_pb2_grpc.add_BackupServiceServicer_to_server(BackupService(upkeep), server)
        identities_pb2_grpc.add_IdentityServiceServicer_to_server(
            IdentityService(database, extractor, limits.STREAMS_MAX), server
        )
        search_pb2_grpc.add_SearchServiceServicer_to_server(
            SearchService(database, extractor, limits.STREAMS_MAX), server
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
            OperationsService(self._operations, limits.OPERATION_WAITERS_MAX), server
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
            raise UnavailableError(
                f"cannot listen on {self._config.bind_address}; is the port taken?"
            ) from error

    @property
    def catalogue(self) -> Catalogue:
        """Of the data directory."""
        return self._database.catalogue

    @property
    def metrics_address(self) -> str:
        """Where metrics and probes are served; empty when they are not."""
        if self._endpoint is None:
            return ""
        host = self._config.metrics_host
        return f"[{host}]:{self._endpoint.port}" if ":" in host else f"{host}:{self._endpoint.port}"

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
        self._metrics.watch(self._state, self._readiness.ready)
        self._readiness.watch(self._state)
        self._parts.callback(self._readiness.close)
        _LOG.info(
            "listening",
            address=self.address,
            metrics=self.metrics_address,
            data=str(self._config.data),
        )
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
        self._readiness.drain()
        self._health.enter_graceful_shutdown()
        seconds = self._config.drain_seconds if grace is None else grace
        self._grpc.stop(seconds).wait()
        self._parts.close()
        _LOG.info("stopped")
