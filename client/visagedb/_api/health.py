"""Whether the server is ready."""

from typing import Final

from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from visagedb._call import Call, call
from visagedb._values import HealthStatus

_STATUSES: Final = {1: HealthStatus.SERVING, 2: HealthStatus.NOT_SERVING}


def health(*, timeout: float | None = None) -> Call[HealthStatus]:
    """What the server says of itself through the standard gRPC health service.

    Raises:
        ServerUnreachableError: Nobody answers at the address.
    """
    # The health service's messages have one field each, which on the wire are these
    # well-known wrappers; so the light client needs no further package for them.
    return call(
        "/grpc.health.v1.Health/Check",
        StringValue(),
        Int32Value,
        lambda answer: _STATUSES.get(answer.value, HealthStatus.UNKNOWN),
        timeout,
    )
