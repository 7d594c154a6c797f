"""From errors to gRPC: the one table, and the only place that makes a status."""

from typing import Final, NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from visagedb_indexer import errors
from visagedb_server.access.errors import PermissionDeniedError, UnauthenticatedError

DOMAIN: Final = "visagedb"
_MESSAGE_BYTES_MAX: Final = 1000
"""Errors travel in trailers, where gRPC allows 8 KiB; there the message is found three times."""

RETRY_KEY: Final = "retry_delay_ms"
"""Metadata of an error that says when to try again."""

CODES: Final[dict[type[errors.IndexerError], int]] = {
    errors.InvalidArgumentError: code_pb2.INVALID_ARGUMENT,
    errors.NotFoundError: code_pb2.NOT_FOUND,
    errors.AlreadyExistsError: code_pb2.ALREADY_EXISTS,
    errors.EtagMismatchError: code_pb2.ABORTED,
    errors.FailedPreconditionError: code_pb2.FAILED_PRECONDITION,
    errors.ModelError: code_pb2.FAILED_PRECONDITION,
    errors.ExhaustedError: code_pb2.RESOURCE_EXHAUSTED,
    errors.UnavailableError: code_pb2.UNAVAILABLE,
    errors.DeadlineExceededError: code_pb2.DEADLINE_EXCEEDED,
    errors.CancelledError: code_pb2.CANCELLED,
    errors.StorageCorruptError: code_pb2.DATA_LOSS,
    errors.NotSupportedError: code_pb2.UNIMPLEMENTED,
    UnauthenticatedError: code_pb2.UNAUTHENTICATED,
    PermissionDeniedError: code_pb2.PERMISSION_DENIED,
    errors.IndexerError: code_pb2.INTERNAL,
}


def code_of(error: errors.IndexerError) -> int:
    """The google.rpc.Code of an error: that of its nearest base in the table."""
    return next(CODES[base] for base in type(error).__mro__ if base in CODES)


def status_of(error: errors.IndexerError) -> status_pb2.Status:
    """An error as google.rpc.Status.

    With ErrorInfo; for a field at fault also BadRequest, and RetryInfo where it is known when
    another attempt may succeed.
    """
    message = error.message
    if len(message.encode()) > _MESSAGE_BYTES_MAX:
        message = message.encode()[:_MESSAGE_BYTES_MAX].decode(errors="ignore") + "..."
    status = status_pb2.Status(code=code_of(error), message=message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    status.details.append(_packed(info))
    if "field" in error.metadata:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.metadata["field"], description=message
        )
        status.details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    if RETRY_KEY in error.metadata:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(int(error.metadata[RETRY_KEY]))
        status.details.append(_packed(retry))
    return status


def abort(context: grpc.ServicerContext, error: errors.IndexerError) -> NoReturn:
    """Ends a call with an error."""
    context.abort_with_status(rpc_status.to_status(status_of(error)))
    raise AssertionError("abort returned")


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
