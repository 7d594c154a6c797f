"""The blocking client."""

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from types import GenericAlias, TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import grpc
from numpy.typing import ArrayLike, NDArray

from visagedb import _bulk as bulk
from visagedb import _vectors as vectors_api
from visagedb._answers import ProbeResult
from visagedb._api import access as access_api
from visagedb._api import audit_log as audit_log_api
from visagedb._api import audits as audits_api
from visagedb._api import backups as backups_api
from visagedb._api import calibrations as calibrations_api
from visagedb._api import changes as changes_api
from visagedb._api import clusters as clusters_api
from visagedb._api import erasures as erasures_api
from visagedb._api import faces as faces_api
from visagedb._api import galleries as galleries_api
from visagedb._api import health as health_api
from visagedb._api import identities as identities_api
from visagedb._api import imports as imports_api
from visagedb._api import quarantine as quarantine_api
from visagedb._api import search as search_api
from visagedb._api import streams as streams_api
from visagedb._call import Call, Pages, Started, Stream
from visagedb._channel import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_SECONDS
from visagedb._connections import BlockingConnection
from visagedb._methods import as_method
from visagedb._operation import Operation
from visagedb._security import Tls, security
from visagedb._values import EnrollMode, FaceSelection

P = ParamSpec("P")
T = TypeVar("T")


def _method(function: Callable[P, Call[T]]) -> Callable[Concatenate["Client", P], T]:
    def run(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._connection.run(function(*args, **kwargs))

    return as_method(run, function, lambda answer: answer)


def _listing(
    function: Callable[P, Pages[T]],
) -> Callable[Concatenate["Client", P], Iterator[T]]:
    def run(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        # Wrong arguments are reported by the call itself, not by the first iteration.
        return self._iterate(function(*args, **kwargs))

    return as_method(run, function, lambda answer: GenericAlias(Iterator, (answer,)))


def _starting(
    function: Callable[P, Started[T]],
) -> Callable[Concatenate["Client", P], Operation[T]]:
    def run(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Operation[T]:
        return Operation(self, self._connection.run(function(*args, **kwargs).call))

    return as_method(run, function, lambda answer: GenericAlias(Operation, (answer,)))


def _streaming(
    function: Callable[P, Stream[T]],
) -> Callable[Concatenate["Client", P], Iterator[T]]:
    def run(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        # Wrong arguments are reported by the call itself, not by the first iteration.
        return self._connection.stream(function(*args, **kwargs))

    return as_method(run, function, lambda answer: GenericAlias(Iterator, (answer,)))


class Client:
    """A connection to a VisageDB server.

        with visagedb.Client() as client:
            client.create_gallery("staff")
            client.enroll("staff", "alice", image=Path("alice.jpg"))
            print(client.identify("staff", image=Path("door.jpg")).match)

    Ids are plain (``staff``, ``alice``); results carry resource names in `name`. Methods
    raise `VisageError` and its subclasses. A client may be used by many threads. Calls
    that are safe to repeat are repeated when the connection fails.

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
        self._connection = BlockingConnection(
            address, timeout=timeout, security=security(address, api_key, tls, credentials)
        )

    @property
    def address(self) -> str:
        """Where the client connects to."""
        return self._connection.address

    def close(self) -> None:
        """Closes the connection; calls under way fail."""
        self._connection.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<visagedb.Client {self.address}>"

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
    verify_integrity = _starting(backups_api.verify_integrity)
    snapshot_gallery = _starting(backups_api.snapshot_gallery)
    create_backup = _starting(backups_api.create_backup)
    list_backups = _listing(backups_api.list_backups)
    restore_gallery = _starting(backups_api.restore_gallery)
    compact_gallery = _starting(erasures_api.compact_gallery)
    get_erasure = _method(erasures_api.get_erasure)
    list_erasures = _listing(erasures_api.list_erasures)
    get_retention = _method(erasures_api.get_retention)
    confirm_clock = _method(erasures_api.confirm_clock)
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
    import_faces = _starting(imports_api.import_faces)
    get_import = _method(imports_api.get_import)
    list_imports = _listing(imports_api.list_imports)
    import_failures = _listing(imports_api.import_failures)
    pause_import = _method(imports_api.pause_import)
    resume_import = _method(imports_api.resume_import)
    export_faces = _starting(imports_api.export_faces)

    get_operation = _method(clusters_api.get_operation)
    list_operations = _listing(clusters_api.list_operations)
    cancel_operation = _method(clusters_api.cancel_operation)

    def identify_many(
        self,
        gallery: str,
        probes: Iterable[streams_api.ProbeItem] | AsyncIterable[streams_api.ProbeItem],
        **options: Any,
    ) -> list[ProbeResult]:
        """Searches a gallery for many probes; a result for each, in their order.

        Args:
            gallery: Id of the gallery.
            probes: As for `stream_identify`.
            options: As for `stream_identify`.
        """
        results = self.stream_identify(gallery, probes, **options)
        return sorted(results, key=lambda result: result.place)

    def enroll_many(
        self,
        gallery: str,
        items: Iterable[bulk.EnrollItem] | AsyncIterable[bulk.EnrollItem],
        *,
        concurrency: int = bulk.DEFAULT_CONCURRENCY,
        progress: bulk.ProgressCallback | None = None,
        model: str = "",
        face_selection: FaceSelection | str | None = None,
        create: bool = True,
        mode: EnrollMode | str = EnrollMode.INSERT,
        patience: float = bulk.DEFAULT_PATIENCE_SECONDS,
        timeout: float | None = None,
        waiting: bulk.WaitingCallback | None = None,
    ) -> Iterator[bulk.EnrollResult]:
        """Enrols many faces over one stream and yields an outcome for each, in any order.

        Items are taken, and their files read, only when it is their turn, so memory is
        bounded by `concurrency` images. A failed item does not stop the others. When the
        server is overloaded, items wait and try again. When the connection breaks, a new one
        is made, and what has no outcome is sent again: nothing is lost or enrolled twice.

        For vectors `enroll_vectors` is much faster.

        Args:
            gallery: Id of the gallery.
            items: The faces; a generator is fine. It is read in a thread of its own.
            concurrency: How many are in flight together.
            progress: Called after every outcome.
            model: What made the vectors, for items that have vectors.
            face_selection: Which face of each image; by default it must show exactly one.
            create: Create identities that are not there.
            mode: What to do with what is there already.
            patience: Seconds for which is tried again what may succeed later.
            timeout: Seconds without a sign of the server after which the connection counts as
                broken; None for two minutes.
            waiting: Called with the reason when the connection is gone and is tried again.

        Raises:
            ServerUnreachableError: The server went away for longer than `patience`.
            OverloadedError: It served as many streams as it may for as long.
        """
        options = bulk.BulkOptions(gallery, model, face_selection, create, mode)
        return self._connection.deliver(
            bulk.items_shipment(options, items, concurrency, patience, timeout, progress, waiting)
        )

    def enroll_batches(
        self,
        gallery: str,
        batches: Iterable[vectors_api.VectorBatch] | AsyncIterable[vectors_api.VectorBatch],
        *,
        in_flight: int = vectors_api.BATCHES_IN_FLIGHT_DEFAULT,
        progress: bulk.ProgressCallback | None = None,
        **options: Any,
    ) -> Iterator[vectors_api.VectorResult]:
        """Enrols batches of vectors and yields a result for each, in any order.

        For data that does not fit into memory, or comes bit by bit; see `enroll_vectors`.

        Args:
            gallery: Id of the gallery.
            batches: Of up to 16,384 rows and 16 MiB; a generator is fine, and is read in a
                thread of its own.
            in_flight: How many batches are under way; bounds the memory.
            progress: Called after every batch.
            options: `mode`, `create`, `model`, `patience` and `timeout`, as for `enroll_many`.
        """
        return self._connection.deliver(
            vectors_api.batches_shipment(
                gallery, batches, in_flight=in_flight, progress=progress, **options
            )
        )

    def enroll_vectors(
        self,
        gallery: str,
        identities: Sequence[str] | NDArray[Any],
        vectors: ArrayLike,
        *,
        face_ids: Sequence[str] | None = None,
        sources: Sequence[str] | None = None,
        display_names: Sequence[str] | None = None,
        labels: Mapping[str, Sequence[str] | str] | None = None,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
        batch_rows: int | None = None,
        in_flight: int = vectors_api.BATCHES_IN_FLIGHT_DEFAULT,
        progress: bulk.ProgressCallback | None = None,
        **options: Any,
    ) -> vectors_api.VectorResult:
        """Enrols the rows of a matrix, many in each commit.

            done = client.enroll_vectors("staff", ids, matrix, labels={"site": "north"})
            assert done.ok, done.errors

        Durable and searchable when it returns. A refused row does not stop the others. A broken
        connection is made again, and what has no outcome sent again; nothing is enrolled twice.

        Args:
            gallery: Id of the gallery.
            identities: Id of each row's identity; created if there is none.
            vectors: Shape (n, dimension), numbers; an array in a file (`numpy.memmap`) will do.
            face_ids: The caller's own ids for the faces.
            sources: The caller's own references, for example file names.
            display_names: Of identities that are created, or with the mode `upsert` of any.
            labels: Likewise: for each key a value for each row, or one for all.
            metadata: Likewise: what can be written as JSON.
            batch_rows: Rows of one commit; None for what makes about a megabyte.
            in_flight: How many batches are under way.
            progress: Called after every batch.
            options: `mode`, `create`, `model`, `patience` and `timeout`, as for `enroll_many`.

        Returns:
            An outcome for each row, and why some were refused.

        Raises:
            InvalidVectorError: The vectors are no matrix of numbers.
            ValueError: The columns differ in length.
            ServerUnreachableError: The server went away for longer than `patience`.
        """
        whole = vectors_api.VectorBatch(
            identities, vectors, face_ids, sources, display_names, labels, metadata
        )
        batches = vectors_api.slices(whole, batch_rows)
        results = self.enroll_batches(
            gallery, batches, in_flight=in_flight, progress=progress, **options
        )
        return vectors_api.joined(results)

    def _iterate(self, pages: Pages[T]) -> Iterator[T]:
        token = ""
        while True:
            page = self._connection.run(pages.page(token))
            yield from page.items
            if not page.next_token:
                return
            token = page.next_token
