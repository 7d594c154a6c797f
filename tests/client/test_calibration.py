"""Calibrating with the client library and from the command line."""

import asyncio
import json
from collections.abc import Iterator

import numpy as np
import pytest
from calibration.populations import isotropic
from support import mates

import visagedb
from visagedb._cli._app import run
from visagedb_server.server import Server

PEOPLE, DIMENSION = 150, 32
VECTORS = isotropic(PEOPLE, DIMENSION, 1)


@pytest.fixture
def client(vector_server: Server) -> Iterator[visagedb.Client]:
    """A gallery ``crowd`` of 150 people on two sites, the last one enrolled twice."""
    with visagedb.Client(vector_server.address) as client:
        client.create_gallery("crowd", model="test", dimension=DIMENSION)
        vectors = VECTORS.copy()
        vectors[-1] = mates(VECTORS[:1], 0.97)[0]
        items = [
            visagedb.EnrollItem(f"p{number}", vector=vector, labels={"site": "ab"[number % 2]})
            for number, vector in enumerate(vectors)
        ]
        assert all(result.ok for result in client.enroll_many("crowd", items))
        yield client


def test_a_calibration_and_the_decisions_it_gives(client: visagedb.Client) -> None:
    with pytest.raises(visagedb.NotCalibratedError):
        client.identify("crowd", vector=VECTORS[0], max_false_positive_rate=0.01)
    with pytest.raises(visagedb.CalibrationNotFoundError):
        client.get_calibration("crowd")
    assert client.gallery_stats("crowd").calibration is None
    operation = client.calibrate("crowd", cohort_label="site")
    assert isinstance(operation, visagedb.Operation)
    found = operation.result(timeout=60)
    assert isinstance(found, visagedb.Calibration)
    assert (found.version, found.id, found.identity_count) == (1, "1", PEOPLE)
    assert found.create_time is not None
    assert [point.rate for point in found.false_match][:3] == [1e-2, 1e-3, 1e-4]
    assert found.pair_tail.shape < 0
    assert found.suspected_duplicates[0].score > 0.9
    assert found.cohorts is not None
    assert {cohort.value for cohort in found.cohorts.cohorts} == {"a", "b"}
    assert client.get_calibration("crowd") == client.get_calibration("crowd", 1) == found
    assert client.gallery_stats("crowd").calibration == found
    assert client.get_operation(operation.name).calibration == found

    answer = client.identify("crowd", vector=VECTORS[1], max_false_positive_rate=0.01)
    [one] = answer
    assert one.is_match
    assert one.basis.source is visagedb.ThresholdSource.CALIBRATION
    assert (one.basis.calibration_version, one.basis.max_false_positive_rate) == ("1", 0.01)
    assert one.false_positive_probability is not None
    assert one.false_positive_probability < 1e-3
    compared = client.verify(VECTORS[1], VECTORS[2], gallery="crowd", max_false_positive_rate=1e-3)
    assert not compared.is_match
    assert compared.false_match_probability is not None
    assert compared.false_match_probability > 1e-3
    assert compared.gallery_generation == answer.gallery_generation


def test_a_gallery_that_is_too_small_says_so(client: visagedb.Client) -> None:
    client.create_gallery("small", model="test", dimension=DIMENSION)
    with pytest.raises(visagedb.NotCalibratedError, match="at least 100"):
        client.calibrate("small").result(timeout=60)


def test_the_asynchronous_client_calibrates_too(client: visagedb.Client) -> None:
    async def calibrated() -> visagedb.Calibration:
        async with visagedb.AsyncClient(client.address) as other:
            operation = await other.calibrate("crowd")
            found = await operation.result(timeout=60)
            assert await other.get_calibration("crowd") == found
            return found

    assert asyncio.run(calibrated()).cohorts is None


def test_the_command_line_calibrates_and_shows(
    client: visagedb.Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISAGEDB_ADDRESS", client.address)
    monkeypatch.setenv("COLUMNS", "120")
    assert run(["gallery", "calibrate", "crowd", "--show"]) != 0
    capsys.readouterr()
    assert run(["gallery", "calibrate", "crowd", "--cohort", "site"]) == 0
    text = capsys.readouterr().out
    for expected in ("One to one", "One to 150", "extrapolated", "Suspected duplicates: 1 pair",
                     "p149", "Cohorts at", "site"):  # fmt: skip
        assert expected in text
    assert run(["gallery", "calibrate", "crowd", "--show", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)["calibration"]
    assert document["version"] == 1
    assert np.all(np.diff([point["threshold"] for point in document["false_positive"]]) > 0)
    assert run(["gallery", "show", "crowd"]) == 0
    assert "version 1, 150 people, 1 suspected duplicate" in capsys.readouterr().out
    assert run(["gallery", "calibrate", "crowd", "--show", "--cohort", "site"]) == 2
