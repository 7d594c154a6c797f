"""The one seam where gRPC's errors become the client's own."""

from typing import Final

import grpc
import grpc.aio
from google.longrunning import operations_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from visagedb._error_tables import ERROR_BY_CODE, ERROR_BY_REASON
from visagedb._errors import (
    FieldViolation,
    ServerUnreachableError,
    VisageError,
)

DOMAIN: Final = "visagedb"
DETAILS_KEY: Final = "grpc-status-details-bin"

__all__ = ["error_from_operation", "error_from_rpc", "error_from_status"]


def error_from_rpc(error: grpc.RpcError, address: str) -> VisageError:
    """The typed error of a failed call.

    Args:
        error: What grpc or grpc.aio raised.
        address: Where the client is connected to, for the message.
    """
    code, text = _code_and_text(error)
    status = _status(error)
    if status is not None:
        return error_from_status(status)
    if code == "UNAVAILABLE":
        # Without our details it was not the server that said so, but the transport.
        return ServerUnreachableError(
            f"no VisageDB server answers at {address}. Start one with: visagedb serve --data DIR",
            code=code,
            reason="SERVER_UNREACHABLE",
            metadata={"address": address, "details": text},
        )
    return ERROR_BY_CODE.get(code, VisageError)(text or code, code=code, reason=code)


def error_from_status(status: status_pb2.Status) -> VisageError:
    """The typed error of a google.rpc.Status with its details."""
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    retry_after: float | None = None
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(bad_request.DESCRIPTOR):
            detail.Unpack(bad_request)
        elif detail.Is(retry.DESCRIPTOR):
            detail.Unpack(retry)
            retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    code = code_pb2.Code.Name(status.code) if status.code in code_pb2.Code.values() else "UNKNOWN"
    ours = info.domain == DOMAIN
    fallback = ERROR_BY_CODE.get(code, VisageError)
    return (ERROR_BY_REASON.get(info.reason, fallback) if ours else fallback)(
        status.message or code,
        code=code,
        reason=info.reason if ours else code,
        metadata=dict(info.metadata),
        field_violations=[
            FieldViolation(v.field, v.description) for v in bad_request.field_violations
        ],
        retry_after=retry_after,
    )


def error_from_operation(operation: operations_pb2.Operation) -> VisageError | None:
    """Why an operation failed; None if it did not."""
    return error_from_status(operation.error) if operation.HasField("error") else None


def _code_and_text(error: grpc.RpcError) -> tuple[str, str]:
    # grpc.RpcError itself declares neither; both of its concrete forms have them.
    if isinstance(error, (grpc.Call, grpc.aio.AioRpcError)):
        return error.code().name, error.details() or ""
    return "UNKNOWN", str(error)


def _status(error: grpc.RpcError) -> status_pb2.Status | None:
    if not isinstance(error, (grpc.Call, grpc.aio.AioRpcError)):
        return None
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return None
