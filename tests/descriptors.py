"""Every method that a server has, from the descriptors of the services it registers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from visagedb_server.server import SERVICES

ALL_SERVICES: Final = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)


@dataclass(frozen=True, slots=True)
class Method:
    """One method of one service."""

    path: str
    descriptor: MethodDescriptor

    @property
    def request_type(self) -> type[Message]:
        return message_factory.GetMessageClass(self.descriptor.input_type)

    @property
    def response_type(self) -> type[Message]:
        return message_factory.GetMessageClass(self.descriptor.output_type)

    def texts(self) -> Iterator[str]:
        """Paths of all text fields of the request, however deep."""
        yield from _texts(self.descriptor.input_type, ())


def _texts(message: Any, above: tuple[Any, ...]) -> Iterator[str]:
    for field in message.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            yield field.name
        inner = field.message_type
        if inner is None or inner in above or inner.file.package.startswith("google.protobuf"):
            continue
        yield from (f"{field.name}.{rest}" for rest in _texts(inner, (*above, message)))


def all_methods() -> list[Method]:
    pool = descriptor_pool.Default()
    return [
        Method(f"/{service}/{method.name}", method)
        for service in ALL_SERVICES
        for method in pool.FindServiceByName(service).methods
    ]
