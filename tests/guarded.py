"""Servers that need keys, and calls with keys."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from visagedb_indexer.database import Database
from visagedb_indexer.store import OperationRecord
from visagedb_server.access.keys import ApiKeys
from visagedb_server.access.roles import Role
from visagedb_server.server import Server


def first_admin_key(data: Path) -> str:
    """Makes the first key as the command line does, before the server starts."""
    database = Database(data)
    _, text = ApiKeys(database.catalogue).create(Role.ADMIN, None)
    database.close()
    return text


@dataclass
class Guarded:
    """A server that needs keys, with its first key."""

    server: Server
    admin: str

    def key(self, role: Role | str, *galleries: str, **fields: Any) -> str:
        """Text of a new key for some galleries; for all if none is named."""
        return self.server.keys.create(Role(role), galleries or None, **fields)[1]

    def put_operation(self, operation_id: str, gallery: str) -> str:
        """Adds a finished operation about a gallery; returns its name."""
        record = OperationRecord(operation_id, "test", 1, done=True, gallery=gallery)
        self.server.catalogue.put_operation(record)
        return f"operations/{operation_id}"


def raw_call(channel: grpc.Channel, path: str, method: Any, request: Any, key: str | None) -> Any:
    """The first answer of a method of any kind, called with a key; raises grpc.RpcError."""
    kind = ("stream" if method.descriptor.client_streaming else "unary") + (
        "_stream" if method.descriptor.server_streaming else "_unary"
    )
    multi: Callable[..., Any] = getattr(channel, kind)(
        path,
        request_serializer=method.request_type.SerializeToString,
        response_deserializer=method.response_type.FromString,
    )
    argument = iter([request]) if method.descriptor.client_streaming else request
    metadata = None if key is None else (("authorization", f"Bearer {key}"),)
    answer = multi(argument, metadata=metadata, timeout=20)
    if not method.descriptor.server_streaming:
        return answer
    try:
        return next(iter(answer), None)
    finally:
        answer.cancel()
