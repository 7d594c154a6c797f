"""Options of the server's connections, which have to fit those of the clients."""

from visagedb_server import limits


def channel_options() -> list[tuple[str, int]]:
    """Options of gRPC, in its own names."""
    return [
        ("grpc.max_receive_message_length", limits.MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", limits.MESSAGE_BYTES_MAX),
        # Two servers on one port would answer for each other.
        ("grpc.so_reuseport", 0),
        # What waits to be looked at: beyond, gRPC drops calls without saying why.
        ("grpc.server.max_pending_requests", limits.PENDING_CALLS_MAX),
        ("grpc.server.max_pending_requests_hard_limit", 2 * limits.PENDING_CALLS_MAX),
        # A client that has vanished is noticed, and one that asks too often is sent away.
        ("grpc.keepalive_time_ms", int(1000 * limits.KEEPALIVE_SECONDS)),
        ("grpc.keepalive_timeout_ms", int(1000 * limits.KEEPALIVE_TIMEOUT_SECONDS)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", int(1000 * limits.PING_SECONDS_MIN)),
    ]
