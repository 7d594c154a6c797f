"""The channel of a client, and how it runs calls and streams."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from visagedb._call import Call, Stream
from visagedb._channel import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_SECONDS, channel_options
from visagedb._delivering import PATH as ENROLL_PATH
from visagedb._delivering import AsyncDelivery, BlockingDelivery, Shipment
from visagedb._retry import Retries
from visagedb._security import Security
from visagedb._streaming import AsyncStream, BlockingStream
from visagedb._translate import error_from_rpc
from visagedb.v1.identities_pb2 import StreamEnrollFacesResponse

T = TypeVar("T")


class BlockingConnection:
    """Runs calls on a channel."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout: float | None = DEFAULT_TIMEOUT_SECONDS,
        security: Security,
    ) -> None:
        self.address = address
        self.timeout = timeout
        self._security = security
        credentials, options = security.credentials, channel_options(address)
        self._channel = (
            grpc.insecure_channel(address, options=options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options=options)
        )
        self._callables: dict[str, Callable[..., Any]] = {}
        self._closed = False

    def run(self, call: Call[T]) -> T:
        if self._closed:
            raise RuntimeError("this client is closed")
        method = self._callables.get(call.path)
        if method is None:
            method = self._security.signed(
                self._channel.unary_unary(
                    call.path,
                    request_serializer=type(call.request).SerializeToString,
                    response_deserializer=call.response_type.FromString,
                )
            )
            self._callables[call.path] = method
        retries = Retries(self.timeout if call.timeout is None else call.timeout)
        while True:
            try:
                return call.convert(method(call.request, timeout=retries.remaining))
            except grpc.RpcError as error:
                typed = error_from_rpc(error, self.address)
                pause = retries.pause(typed)
                if pause is None:
                    raise typed from error
            time.sleep(pause)

    def stream(self, stream: Stream[T]) -> Iterator[T]:
        method = self._stream_method(stream.path, stream.response_type)
        return BlockingStream(stream, self.address).run(method)

    def deliver(self, shipment: Shipment[T]) -> Iterator[T]:
        method = self._stream_method(ENROLL_PATH, StreamEnrollFacesResponse)
        return BlockingDelivery(shipment, self.address).run(method)

    def _stream_method(self, path: str, response_type: type[Message]) -> Callable[..., Any]:
        if self._closed:
            raise RuntimeError("this client is closed")
        method: Callable[..., Any] = self._channel.stream_stream(
            path,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=response_type.FromString,
        )
        return self._security.signed(method)

    def close(self) -> None:
        self._closed = True
        self._channel.close()


class AsyncConnection:
    """Runs calls on a channel, for asyncio."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout: float | None = DEFAULT_TIMEOUT_SECONDS,
        security: Security,
    ) -> None:
        self.address = address
        self.timeout = timeout
        self._security = security
        credentials, options = security.credentials, channel_options(address)
        self._channel = (
            grpc.aio.insecure_channel(address, options=options)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, options=options)
        )
        self._callables: dict[str, Callable[..., Any]] = {}
        self._closed = False

    async def run(self, call: Call[T]) -> T:
        if self._closed:
            raise RuntimeError("this client is closed")
        method = self._callables.get(call.path)
        if method is None:
            method = self._security.signed(
                self._channel.unary_unary(
                    call.path,
                    request_serializer=type(call.request).SerializeToString,
                    response_deserializer=call.response_type.FromString,
                )
            )
            self._callables[call.path] = method
        retries = Retries(self.timeout if call.timeout is None else call.timeout)
        while True:
            try:
                return call.convert(await method(call.request, timeout=retries.remaining))
            except grpc.RpcError as error:
                typed = error_from_rpc(error, self.address)
                pause = retries.pause(typed)
                if pause is None:
                    raise typed from error
            await asyncio.sleep(pause)

    def stream(self, stream: Stream[T]) -> AsyncIterator[T]:
        method = self._stream_method(stream.path, stream.response_type)
        return AsyncStream(stream, self.address).run(method)

    def deliver(self, shipment: Shipment[T]) -> AsyncIterator[T]:
        method = self._stream_method(ENROLL_PATH, StreamEnrollFacesResponse)
        return AsyncDelivery(shipment, self.address).run(method)

    def _stream_method(self, path: str, response_type: type[Message]) -> Callable[..., Any]:
        if self._closed:
            raise RuntimeError("this client is closed")
        method: Callable[..., Any] = self._channel.stream_stream(
            path,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=response_type.FromString,
        )
        return self._security.signed(method)

    async def close(self) -> None:
        self._closed = True
        await self._channel.close()
