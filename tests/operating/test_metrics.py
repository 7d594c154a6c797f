import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from servers import make_config
from support import random_vectors
from wire import DIMENSION, Api, refused

from visagedb_indexer.store import GroupCommit
from visagedb_server import limits
from visagedb_server.observability.names import DECLARED, PROCESS_METRICS, Kind
from visagedb_server.server import Server

VECTORS = random_vectors(20, DIMENSION)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def api(vector_server: Server) -> Iterator[Api]:
    api = Api(vector_server.address)
    api.create_gallery()
    yield api
    api.close()


def get(server: Server, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{server.metrics_address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def scrape(server: Server) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    status, text = get(server, "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(server: Server, name: str, **labels: str) -> float:
    return scrape(server).get((f"visagedb_{name}", tuple(sorted(labels.items()))), 0.0)


def test_calls_are_counted_by_method_and_code(vector_server: Server, api: Api) -> None:
    api.enroll("ada", VECTORS[0])
    api.identify(VECTORS[0])
    with refused("NOT_FOUND", "IDENTITY_NOT_FOUND"):
        api.identity("nobody")
    service = "/visagedb.v1."
    enrol, get_one = f"{service}IdentityService/EnrollFace", f"{service}IdentityService/GetIdentity"
    assert value(vector_server, "calls_total", method=enrol, code="OK") == 1
    assert value(vector_server, "calls_total", method=get_one, code="NOT_FOUND") == 1
    assert value(vector_server, "call_seconds_count", method=enrol) == 1
    for stage in ("commit", "commit_sync", "search", "search_scan", "admission_wait"):
        assert value(vector_server, "stage_seconds_count", stage=stage) >= 1, stage
    assert value(vector_server, "commit_commands_count") >= 1
    assert value(vector_server, "searches_gathered_sum") >= 1


def test_galleries_are_measured(vector_server: Server, api: Api) -> None:
    for i in range(3):
        api.enroll(f"p{i}", VECTORS[i])
    assert value(vector_server, "galleries") == 1
    assert value(vector_server, "gallery_faces", gallery="people") == 3
    assert value(vector_server, "gallery_identities", gallery="people") == 3
    assert value(vector_server, "gallery_store_used_bytes", gallery="people") > 0
    assert value(vector_server, "gallery_readers", gallery="people") > 0
    assert value(vector_server, "ready") == 1


def test_what_is_scraped_is_declared_and_documented(vector_server: Server, api: Api) -> None:
    api.enroll("ada", VECTORS[0])
    api.identify(VECTORS[0])
    _, text = get(vector_server, "/metrics")
    kinds = {
        family.name.removeprefix("visagedb_"): family.type
        for family in text_string_to_metric_families(text)
        if family.name.startswith("visagedb_")
    }
    declared = {one.name: one.kind.value for one in DECLARED}
    assert kinds.items() <= declared.items()
    unseen = {name for name in declared if name not in kinds}
    assert all(
        name.startswith(("worker", "gallery_mate_loss", "gallery_snapshot")) for name in unseen
    ), unseen


def test_many_galleries_make_no_more_series(
    vector_server: Server, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GALLERIES_LABELLED_MAX", 2)
    for name, count in (("large", 3), ("small", 1), ("tiny", 1)):
        api.create_gallery(name)
        for i in range(count):
            api.enroll(f"p{i}", VECTORS[i], gallery=name)
    found = {
        dict(labels)["gallery"]: sample
        for (name, labels), sample in scrape(vector_server).items()
        if name == "visagedb_gallery_faces"
    }
    assert found["large"] == 3
    assert found["other"] == 1
    assert len(found) == 3


def test_a_server_is_alive_and_ready(vector_server: Server) -> None:
    assert get(vector_server, "/livez") == (200, "ok\n")
    assert get(vector_server, "/readyz") == (200, "ok\n")
    assert get(vector_server, "/")[0] == 404


def test_a_stopped_writer_makes_a_server_not_alive(
    vector_server: Server, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GroupCommit, "failed", True, raising=False)
    monkeypatch.delattr(vector_server._database.gallery("people").writer, "failed")
    assert get(vector_server, "/livez") == (503, "the writer of gallery people has stopped\n")
    assert get(vector_server, "/readyz")[0] == 503


def test_a_watched_server_says_when_it_goes(tmp_path: Path) -> None:
    server = Server(make_config(tmp_path / "data"))
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("liveness", "readiness"):
            assert stub.Check(health_pb2.HealthCheckRequest(service=service)).status == SERVING
        watched = stub.Watch(health_pb2.HealthCheckRequest(service="readiness"))
        assert next(watched).status == SERVING
        server.stop(grace=5)
        assert next(watched).status == NOT_SERVING


def test_probes_can_be_switched_off(tmp_path: Path) -> None:
    server = Server(make_config(tmp_path / "data", metrics=False))
    server.start()
    assert server.metrics_address == ""
    server.stop(grace=1)


def test_the_dashboard_and_the_guide_name_metrics_that_exist() -> None:
    root = Path(__file__).resolve().parents[2]
    known = set(PROCESS_METRICS)
    for one in DECLARED:
        known.add(one.full_name)
        if one.kind is Kind.HISTOGRAM:
            known |= {f"{one.full_name}_{part}" for part in ("bucket", "sum", "count")}
    dashboard = json.loads((root / "deploy" / "grafana-dashboard.json").read_text())
    expressions = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())
    ]
    assert expressions
    named = {word for one in expressions for word in _metric_names(one)}
    assert named <= known, named - known
    guide = (root / "docs" / "guides" / "operating.md").read_text()
    for one in DECLARED:
        assert f"| `{one.full_name}` |" in guide, one.full_name
        assert one.help in guide, one.full_name


def _metric_names(expression: str) -> set[str]:
    words = "".join(c if c.isalnum() or c == "_" else " " for c in expression).split()
    return {word for word in words if word.startswith(("visagedb_", "process_"))}
