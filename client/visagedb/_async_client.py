"""The asynchronous client: the methods of `Client`, to be awaited."""

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from types import GenericAlias, TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import grpc
import grpc.aio

from visagedb import _bulk as bulk
from visagedb._answers import ProbeResult
from visagedb._api import access as access_api
from visagedb._api import audit_log as audit_log_api
from visagedb._api import audits as audits_api
from visagedb._api import calibrations as calibrations_api
from visagedb._api import changes as changes_api
from visagedb._api import clusters as clusters_api
from visagedb._api import faces as faces_api
from visagedb._api import galleries as galleries_api
from visagedb._api import health as health_api
from visagedb._api import identities as identities_api
from visagedb._api import quarantine as quarantine_api
from visagedb._api import search as search_api
from visagedb._api import streams as streams_api
from visagedb._call import Call, Pages, Started, Stream
from visagedb._channel import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_SECONDS, channel_options
from visagedb._errors import ServerUnreachableError, VisageError
from visagedb._methods import as_method
from visagedb._operation import AsyncOperation
from visagedb._security import Security, Tls, security
from visagedb._streaming import AsyncStream
from visagedb._translate import error_from_rpc
from visagedb._values import FaceSelection

P = ParamSpec("P")
T = TypeVar("T")


class _Connection:
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
        timeout = self.timeout if call.timeout is None else call.timeout
        try:
            answer = await method(call.request, timeout=timeout)
        except grpc.RpcError as error:
            raise error_from_rpc(error, self.address) from error
        return call.convert(answer)

    def stream(self, stream: Stream[T]) -> AsyncIterator[T]:
        if self._closed:
            raise RuntimeError("this client is closed")
        method: Callable[..., Any] = self._channel.stream_stream(
            stream.path,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=stream.response_type.FromString,
        )
        return AsyncStream(stream, self.address).run(self._security.signed(method))

    async def close(self) -> None:
        self._closed = True
        await self._channel.close()


async def _build(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Makes the call; in a thread if a file has to be read for it."""
    if any(isinstance(value, os.PathLike) for value in (*args, *kwargs.values())):
        return await asyncio.to_thread(function, *args, **kwargs)
    return function(*args, **kwargs)


def _method(
    function: Callable[P, Call[T]],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, T]]:
    async def run(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._connection.run(await _build(function, *args, **kwargs))

    return as_method(run, function, lambda answer: answer)


def _listing(
    function: Callable[P, Pages[T]],
) -> Callable[Concatenate["AsyncClient", P], AsyncIterator[T]]:
    def run(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        # Wrong arguments are reported by the call itself, not by the first iteration.
        return self._iterate(function(*args, **kwargs))

    return as_method(run, function, lambda answer: GenericAlias(AsyncIterator, (answer,)))


def _starting(
    function: Callable[P, Started[T]],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, AsyncOperation[T]]]:
    async def run(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> AsyncOperation[T]:
        return AsyncOperation(self, await self._connection.run(function(*args, **kwargs).call))

    return as_method(run, function, lambda answer: GenericAlias(AsyncOperation, (answer,)))


def _streaming(
    function: Callable[P, Stream[T]],
) -> Callable[Concatenate["AsyncClient", P], AsyncIterator[T]]:
    def run(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        # Wrong arguments are reported by the call itself, not by the first iteration.
        return self._connection.stream(function(*args, **kwargs))

    return as_method(run, function, lambda answer: GenericAlias(AsyncIterator, (answer,)))


class AsyncClient:
    """A connection to a VisageDB server, for asyncio.

        async with visagedb.AsyncClient() as client:
            await client.enroll("staff", "alice", image=Path("alice.jpg"))
            result = await client.identify("staff", image=Path("door.jpg"))

    Every method of `Client` is here under the same name with the same arguments. Those
    that return an answer are awaited, listings are read with ``async for``.

    Args:
        address: ``host:port`` or ``unix:path``.
        timeout: Seconds for each call unless the call says otherwise; None for no limit.
        api_key: What the server knows this client by; None for that of the environment,
            VISAGEDB_API_KEY.
        tls: How to encrypt; True for certificates of the public authorities. None for what
            the environment says (VISAGEDB_CA, VISAGEDB_CLIENT_CERT, VISAGEDB_CLIENT_KEY).
        credentials: Transport credentials of gRPC, instead of `tls`.

    Raises:
        InvalidArgumentError: The key would travel unencrypted to another machine; `tls=False`
            allows that.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout: float | None = DEFAULT_TIMEOUT_SECONDS,
        api_key: str | None = None,
        tls: Tls | bool | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._connection = _Connection(
            address, timeout=timeout, security=security(address, api_key, tls, credentials)
        )

    @property
    def address(self) -> str:
        """Where the client connects to."""
        return self._connection.address

    async def close(self) -> None:
        """Closes the connection; calls under way fail."""
        await self._connection.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<visagedb.AsyncClient {self.address}>"

    health = _method(health_api.health)
    get_caller = _method(access_api.get_caller)
    create_api_key = _method(access_api.create_api_key)
    list_api_keys = _listing(access_api.list_api_keys)
    revoke_api_key = _method(access_api.revoke_api_key)
    list_audit_entries = _listing(audit_log_api.list_audit_entries)
    verify_audit_log = _method(audit_log_api.verify_audit_log)

    create_gallery = _method(galleries_api.create_gallery)
    get_gallery = _method(galleries_api.get_gallery)
    list_galleries = _listing(galleries_api.list_galleries)
    update_gallery = _method(galleries_api.update_gallery)
    delete_gallery = _method(galleries_api.delete_gallery)
    gallery_stats = _method(galleries_api.gallery_stats)
    audit_gallery = _starting(audits_api.audit_gallery)
    get_gallery_audit = _method(audits_api.get_gallery_audit)
    gallery_findings = _listing(audits_api.gallery_findings)
    calibrate = _starting(calibrations_api.calibrate)
    get_calibration = _method(calibrations_api.get_calibration)

    create_identity = _method(identities_api.create_identity)
    get_identity = _method(identities_api.get_identity)
    list_identities = _listing(identities_api.list_identities)
    update_identity = _method(identities_api.update_identity)
    delete_identity = _method(identities_api.delete_identity)

    enroll = _method(faces_api.enroll)
    get_face = _method(faces_api.get_face)
    list_faces = _listing(faces_api.list_faces)
    delete_face = _method(faces_api.delete_face)
    enroll_loose = _method(faces_api.enroll_loose)

    list_quarantined_faces = _listing(quarantine_api.list_quarantined_faces)
    accept_quarantined_face = _method(quarantine_api.accept_quarantined_face)
    drop_quarantined_face = _method(quarantine_api.drop_quarantined_face)

    move_faces = _method(changes_api.move_faces)
    merge_identities = _method(changes_api.merge_identities)
    split_identity = _method(changes_api.split_identity)
    list_lineage = _listing(changes_api.list_lineage)
    undo_change = _method(changes_api.undo_change)

    identify = _method(search_api.identify)
    stream_identify = _streaming(streams_api.stream_identify)
    find_faces = _method(search_api.find_faces)
    verify = _method(search_api.verify)
    detect = _method(search_api.detect)
    embed = _method(search_api.embed)

    cluster = _starting(clusters_api.cluster)
    get_clustering = _method(clusters_api.get_clustering)
    clusters = _listing(clusters_api.clusters)
    cluster_members = _listing(clusters_api.cluster_members)
    list_clusterings = _listing(clusters_api.list_clusterings)
    delete_clustering = _method(clusters_api.delete_clustering)
    assign_cluster = _method(clusters_api.assign_cluster)
    join_clusters = _method(clusters_api.join_clusters)
    split_cluster = _method(clusters_api.split_cluster)
    undo_cluster_edit = _method(clusters_api.undo_cluster_edit)
    get_operation = _method(clusters_api.get_operation)
    list_operations = _listing(clusters_api.list_operations)
    cancel_operation = _method(clusters_api.cancel_operation)

    async def identify_many(
        self,
        gallery: str,
        probes: Iterable[streams_api.ProbeItem] | AsyncIterable[streams_api.ProbeItem],
        **options: Any,
    ) -> list[ProbeResult]:
        """Searches a gallery for many probes; a result for each, in their order.

        See `Client.identify_many`.
        """
        results = self.stream_identify(gallery, probes, **options)
        return sorted([one async for one in results], key=lambda result: result.place)

    def enroll_many(
        self,
        gallery: str,
        items: Iterable[bulk.EnrollItem],
        *,
        concurrency: int = bulk.DEFAULT_CONCURRENCY,
        progress: bulk.ProgressCallback | None = None,
        model: str = "",
        face_selection: FaceSelection | str | None = None,
        create: bool = True,
        patience: float = bulk.DEFAULT_PATIENCE_SECONDS,
        timeout: float | None = None,
    ) -> AsyncIterator[bulk.EnrollResult]:
        """Enrols many faces at once and yields an outcome for each, in any order.

        See `Client.enroll_many`.
        """
        bulk.check_concurrency(concurrency)
        options = bulk.BulkOptions(gallery, model, face_selection, create, patience, timeout)
        return self._enroll_many(options, iter(items), concurrency, bulk.Tally(progress))

    async def _enroll_many(
        self,
        options: bulk.BulkOptions,
        items: Iterator[bulk.EnrollItem],
        concurrency: int,
        tally: bulk.Tally,
    ) -> AsyncIterator[bulk.EnrollResult]:
        pending: set[asyncio.Task[bulk.EnrollResult]] = set()
        try:
            for item in items:
                pending.add(asyncio.create_task(self._enroll_item(options, item)))
                if len(pending) >= concurrency:
                    finished, pending = await _first_of(pending)
                    for task in finished:
                        yield tally.add(task.result())
            while pending:
                finished, pending = await _first_of(pending)
                for task in finished:
                    yield tally.add(task.result())
        finally:
            # Also reached when the caller stops iterating.
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _enroll_item(
        self, options: bulk.BulkOptions, item: bulk.EnrollItem
    ) -> bulk.EnrollResult:
        try:
            return bulk.result_of(item, await self._enroll_patiently(options, item))
        except ServerUnreachableError:
            raise
        except (VisageError, OSError, TypeError, ValueError) as error:
            return bulk.EnrollResult(item, None, error)

    async def _enroll_patiently(
        self, options: bulk.BulkOptions, item: bulk.EnrollItem
    ) -> bulk.Answer:
        call = await asyncio.to_thread(options.call, item)
        for delay in bulk.backoff_delays(options.patience):
            try:
                return await self._connection.run(call)
            except VisageError as error:
                if not bulk.is_transient(error):
                    raise
            await asyncio.sleep(delay)
        return await self._connection.run(call)

    async def _iterate(self, pages: Pages[T]) -> AsyncIterator[T]:
        token = ""
        while True:
            page = await self._connection.run(pages.page(token))
            for item in page.items:
                yield item
            if not page.next_token:
                return
            token = page.next_token


async def _first_of(
    pending: set[asyncio.Task[bulk.EnrollResult]],
) -> tuple[set[asyncio.Task[bulk.EnrollResult]], set[asyncio.Task[bulk.EnrollResult]]]:
    return await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
