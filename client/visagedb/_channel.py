"""How the client connects: address, channel options, retries."""

import json
from typing import Final

from visagedb.v1 import (
    access_pb2,
    audit_log_pb2,
    clusters_pb2,
    galleries_pb2,
    identities_pb2,
    search_pb2,
)

DEFAULT_ADDRESS: Final = "127.0.0.1:50700"
DEFAULT_TIMEOUT_SECONDS: Final = 30.0
MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024
KEEPALIVE_MS: Final = 330_000
"""Servers close connections that ping more often than every five minutes."""
KEEPALIVE_TIMEOUT_MS: Final = 20_000
RECONNECT_BACKOFF_MS_MIN: Final = 100
RECONNECT_BACKOFF_MS_MAX: Final = 5_000

_LOOPBACK: Final = ("127.", "localhost", "[::1]", "unix:")

_RETRY_POLICY: Final = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2.0,
    "retryableStatusCodes": ["UNAVAILABLE"],
}

# A method is repeated when its request changes nothing, or carries a request_id.
# Updates and deletions have neither: a repeat after a lost answer would report an
# etag mismatch or a missing resource, although all went well.
_IDEMPOTENT: Final = (
    (
        galleries_pb2,
        "GalleryService",
        ("CreateGallery", "GetGallery", "ListGalleries", "GetGalleryStats"),
    ),
    (
        identities_pb2,
        "IdentityService",
        (
            "CreateIdentity",
            "GetIdentity",
            "ListIdentities",
            "EnrollFace",
            "GetFace",
            "ListFaces",
        ),
    ),
    (search_pb2, "SearchService", ("Identify", "Verify", "DetectFaces", "EmbedFaces")),
    (
        clusters_pb2,
        "ClusterService",
        ("Cluster", "GetClustering", "ListClusters", "ListClusterMembers"),
    ),
    (access_pb2, "AccessService", ("GetCaller", "ListApiKeys", "RevokeApiKey")),
    (audit_log_pb2, "AuditLogService", ("ListAuditEntries", "VerifyAuditLog")),
)
_IDEMPOTENT_OPERATIONS: Final = ("GetOperation", "ListOperations", "CancelOperation")


def service_config() -> str:
    """The retry policy in gRPC's own format (JSON)."""
    names = [
        {"service": module.DESCRIPTOR.services_by_name[service].full_name, "method": method}
        for module, service, methods in _IDEMPOTENT
        for method in methods
    ]
    names += [
        {"service": "google.longrunning.Operations", "method": method}
        for method in _IDEMPOTENT_OPERATIONS
    ]
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": _RETRY_POLICY}]})


def is_loopback(address: str) -> bool:
    """Whether an address is on this machine."""
    return address.startswith(_LOOPBACK)


def channel_options(address: str) -> list[tuple[str, int | str]]:
    """Options for a channel to the address."""
    options: list[tuple[str, int | str]] = [
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_BACKOFF_MS_MIN),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_BACKOFF_MS_MAX),
        # Each client has its own connection, so that closing one says what it means.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 1),
        # The default of 256 KiB would switch retries off for larger images.
        ("grpc.per_rpc_retry_buffer_size", MESSAGE_BYTES_MAX),
        ("grpc.service_config", service_config()),
    ]
    if is_loopback(address):
        options.append(("grpc.enable_http_proxy", 0))
    return options
