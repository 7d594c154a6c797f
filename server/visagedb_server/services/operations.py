"""google.longrunning.Operations."""

import threading
from typing import Final

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2

from visagedb_server import names, paging
from visagedb_server.access import current_caller
from visagedb_server.operations import Operations

_WAIT_SECONDS_MAX: Final = 60.0


class OperationsService(operations_pb2_grpc.OperationsServicer):  # type: ignore[misc]
    """Operations: list, get, wait, cancel, delete.

    Args:
        operations: Of the server.
        waiters: How many calls may wait at a time.
    """

    def __init__(self, operations: Operations, waiters: int) -> None:
        self._operations = operations
        self._waiters = threading.BoundedSemaphore(waiters)

    def ListOperations(  # noqa: N802
        self, request: operations_pb2.ListOperationsRequest, context: grpc.ServicerContext
    ) -> operations_pb2.ListOperationsResponse:
        """The operations of the caller's galleries, oldest first."""
        size = paging.page_size(request.page_size)
        after = names.operation_name(paging.read_token(request.page_token, "operations"))
        rest = [one for one in self._operations.list(current_caller().sees) if one.name > after]
        page, more = paging.cut_page(rest, size)
        return operations_pb2.ListOperationsResponse(
            operations=page,
            next_page_token=(
                paging.token_after(names.parse_operation(page[-1].name), "operations")
                if more
                else ""
            ),
        )

    def GetOperation(  # noqa: N802
        self, request: operations_pb2.GetOperationRequest, context: grpc.ServicerContext
    ) -> operations_pb2.Operation:
        """One operation as it stands."""
        return self._operations.get(names.parse_operation(request.name))

    def WaitOperation(  # noqa: N802
        self, request: operations_pb2.WaitOperationRequest, context: grpc.ServicerContext
    ) -> operations_pb2.Operation:
        """One operation once it is done, or after the timeout, at most a minute.

        Where enough calls wait already, it answers at once with the operation as it stands.
        """
        timeout = _WAIT_SECONDS_MAX
        if request.HasField("timeout"):
            timeout = min(timeout, request.timeout.seconds + request.timeout.nanos / 1e9)
        remaining = context.time_remaining()
        if remaining is not None:
            timeout = min(timeout, remaining)
        operation_id = names.parse_operation(request.name)
        if not self._waiters.acquire(blocking=False):
            return self._operations.get(operation_id)
        try:
            return self._operations.wait(operation_id, max(0.0, timeout))
        finally:
            self._waiters.release()

    def CancelOperation(  # noqa: N802
        self, request: operations_pb2.CancelOperationRequest, context: grpc.ServicerContext
    ) -> empty_pb2.Empty:
        """Asks an operation to stop."""
        self._operations.cancel(names.parse_operation(request.name))
        return empty_pb2.Empty()

    def DeleteOperation(  # noqa: N802
        self, request: operations_pb2.DeleteOperationRequest, context: grpc.ServicerContext
    ) -> empty_pb2.Empty:
        """Forgets an operation."""
        self._operations.delete(names.parse_operation(request.name))
        return empty_pb2.Empty()
