import contextlib
import threading
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from servers import make_config
from support import failures, random_vectors, run_together
from wire import DIMENSION, Api, Refusal, refusal_of, refused

from visagedb.v1 import (
    galleries_pb2,
    identities_pb2,
    search_pb2,
)
from visagedb_indexer.errors import (
    DataDirectoryLockedError,
    ModelNotAvailableError,
    UnavailableError,
)
from visagedb_indexer.gallery import Gallery
from visagedb_server.server import SERVICES, Server

VECTORS = random_vectors(200, DIMENSION)


def health_of(channel: grpc.Channel, service: str) -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    return health_pb2_grpc.HealthStub(channel).Check(request).status


def test_every_service_is_healthy(api: Api) -> None:
    for service in ("", *SERVICES):
        assert health_of(api.channel, service) == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError):
        health_of(api.channel, "unknown")


def test_reflection_knows_every_service(api: Api) -> None:
    database = ProtoReflectionDescriptorDatabase(api.channel)
    assert set(SERVICES) <= set(database.get_services())
    file = database.FindFileContainingSymbol("visagedb.v1.SearchService")
    assert file.package == "visagedb.v1"


def test_an_internal_error_tells_the_caller_nothing_of_it(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Gallery) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(Gallery, "stats", broken)
    with refused("INTERNAL", "INTERNAL") as refusal:
        api.galleries.GetGalleryStats(galleries_pb2.GetGalleryStatsRequest(name="galleries/people"))
    assert "secret" not in refusal.message


def test_a_deadline_ends_the_call(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines = []
    identify = Gallery.identify_many

    def noted(self: Gallery, probes: object, options: object) -> object:
        deadlines.append(options.deadline)
        return identify(self, probes, options)

    monkeypatch.setattr(Gallery, "identify_many", noted)
    request = search_pb2.IdentifyRequest(gallery="galleries/people")
    request.probe.template.vector = VECTORS[0].tobytes()
    api.search.Identify(request, timeout=100)
    # gRPC sends a long timeout in whole seconds, rounded up.
    assert time.monotonic() < deadlines.pop() < time.monotonic() + 110
    api.search.Identify(request)
    assert deadlines.pop() is None
    go_on = threading.Event()
    monkeypatch.setattr(Gallery, "identify_many", lambda *_: go_on.wait(60))
    with pytest.raises(grpc.RpcError) as caught:
        api.search.Identify(request, timeout=0.2)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    go_on.set()


def test_a_second_server_on_the_same_data_or_port_is_refused(
    vector_server: Server, tmp_path: Path
) -> None:
    with pytest.raises(DataDirectoryLockedError):
        Server(make_config(tmp_path / "data"))
    other = make_config(tmp_path / "other", port=vector_server.port)
    for _ in range(2):
        # The second time shows that the first has given its data directory back.
        with pytest.raises(UnavailableError, match="is the port taken"):
            Server(other)


@pytest.mark.parametrize("model", ["unknown", "yunet"])
def test_a_default_model_that_makes_no_vectors_is_refused(tmp_path: Path, model: str) -> None:
    with pytest.raises(ModelNotAvailableError, match="known are sface"):
        Server(make_config(tmp_path / "data", default_model=model))


def test_only_the_owner_can_read_the_data(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    server = Server(make_config(tmp_path / "data"))
    server.start()
    api = Api(server.address)
    api.create_gallery()
    api.close()
    server.stop(grace=1)
    found = list((tmp_path / "data").rglob("data.mdb"))
    assert len(found) == 2
    for path in found:
        assert [p.stat().st_mode & 0o077 for p in (path, path.parent)] == [0, 0]


def test_data_is_there_after_a_restart(tmp_path: Path) -> None:
    server = Server(make_config(tmp_path / "data"))
    server.start()
    api = Api(server.address)
    api.create_gallery(display_name="x")
    api.enroll("ada", VECTORS[0], face_id="f")
    before = api.gallery()
    api.close()
    server.stop(grace=1)
    server = Server(make_config(tmp_path / "data"))
    server.start()
    api = Api(server.address)
    assert api.gallery() == before
    assert api.best(VECTORS[0]) == "ada"
    api.close()
    server.stop(grace=1)


def test_a_stop_lets_running_calls_finish_and_refuses_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(make_config(tmp_path / "data"))
    server.start()
    api = Api(server.address)
    api.create_gallery()
    inside, go_on = threading.Event(), threading.Event()
    enroll = Gallery.enroll

    def held_back(self: Gallery, *arguments: object) -> object:
        inside.set()
        assert go_on.wait(60)
        return enroll(self, *arguments)

    monkeypatch.setattr(Gallery, "enroll", held_back)

    def stop() -> None:
        assert inside.wait(60)
        stopping = threading.Thread(target=server.stop, kwargs={"grace": 60})
        stopping.start()
        probe = grpc.insecure_channel(server.address)
        with contextlib.suppress(grpc.RpcError):
            while True:
                health_of(probe, "")
        probe.close()
        go_on.set()
        stopping.join()

    answer, stopped = run_together([lambda: api.enroll("ada", VECTORS[0]), stop])
    assert stopped is None
    assert answer.outcome == identities_pb2.ENROLL_OUTCOME_ENROLLED
    api.close()


def typed(results: list[object]) -> list[Refusal]:
    return [refusal_of(error) for error in failures(results)]


def test_deleting_a_gallery_under_load_ends_calls_with_typed_errors(api: Api) -> None:
    for i in range(30):
        api.enroll(f"p{i}", VECTORS[i])
    started = threading.Event()

    def enroll(lane: int) -> None:
        for i in range(10_000):
            api.enroll(f"q{lane}-{i}", VECTORS[(lane + i) % 200])
            started.set()

    def identify(lane: int) -> None:
        for i in range(100_000):
            api.identify(VECTORS[(lane + i) % 200], top_k=5)

    def stats() -> None:
        for _ in range(100_000):
            api.galleries.GetGalleryStats(
                galleries_pb2.GetGalleryStatsRequest(name="galleries/people")
            )

    def delete() -> None:
        assert started.wait(60)
        api.galleries.DeleteGallery(galleries_pb2.DeleteGalleryRequest(name="galleries/people"))

    lanes = [lambda lane=lane: enroll(lane) for lane in range(4)]
    lanes += [lambda lane=lane: identify(lane) for lane in range(4)]
    results = run_together([*lanes, stats, delete])
    assert results[-1] is None
    refusals = typed(results)
    assert len(refusals) == 9
    assert {refusal.reason for refusal in refusals} <= {"GALLERY_CLOSED", "GALLERY_NOT_FOUND"}
    api.create_gallery()
    assert api.gallery().face_count == 0


def test_galleries_come_and_go_at_once(api: Api) -> None:
    reasons: set[str] = set()

    def live(lane: int) -> None:
        for i in range(5):
            name = f"g{(lane + i) % 3}"
            try:
                api.create_gallery(name)
                api.enroll("ada", VECTORS[lane], gallery=name)
                api.best(VECTORS[lane], gallery=name)
                api.galleries.DeleteGallery(
                    galleries_pb2.DeleteGalleryRequest(name=f"galleries/{name}")
                )
            except grpc.RpcError as error:
                reasons.add(refusal_of(error).reason)

    assert not failures(run_together([lambda lane=lane: live(lane) for lane in range(6)]))
    assert reasons <= {"GALLERY_EXISTS", "GALLERY_NOT_FOUND", "GALLERY_CLOSED"}


def test_more_requests_than_are_served_are_refused_early(tmp_path: Path) -> None:
    server = Server(make_config(tmp_path / "data", threads=2, requests_max=4))
    server.start()
    api = Api(server.address)
    api.create_gallery()
    tasks = [lambda i=i: api.enroll(f"p{i}", VECTORS[i]) for i in range(100)]
    results = run_together(tasks)
    codes = {error.code() for error in failures(results)}
    assert codes <= {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert api.gallery().face_count == 100 - len(failures(results))
    api.close()
    server.stop(grace=1)
