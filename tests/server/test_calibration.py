"""Calibrating a gallery and deciding at its error rates, over the wire."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from calibration.populations import cosine_rate, isotropic
from google.longrunning import operations_pb2
from servers import make_config
from support import mates
from wire import Api, probe, refused

from visagedb.v1 import galleries_pb2, identities_pb2, search_pb2, types_pb2
from visagedb_indexer.values import Vector
from visagedb_server.server import Server

DIMENSION = 32
PEOPLE = 300
NAME = "galleries/crowd"


def fill(api: Api, vectors: Vector, first: int = 0) -> None:
    """Enrols one face each of p0, p1, ..., on two sites in turns."""

    def one(number: int) -> None:
        api.create_identity(f"p{number}", "crowd", labels={"site": "ab"[number % 2]})
        api.enroll(f"p{number}", vectors[number], "crowd")

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(one, range(first, len(vectors))))


def calibrate(api: Api, **fields: str) -> operations_pb2.Operation:
    request = galleries_pb2.CalibrateGalleryRequest(name=NAME, **fields)
    operation = api.galleries.CalibrateGallery(request).operation
    return api.operations.WaitOperation(operations_pb2.WaitOperationRequest(name=operation.name))


def result(operation: operations_pb2.Operation) -> galleries_pb2.Calibration:
    found = galleries_pb2.Calibration()
    assert operation.done
    assert operation.response.Unpack(found), operation.error
    return found


def at_rate(rate: float) -> types_pb2.OperatingPoint:
    return types_pb2.OperatingPoint(max_false_positive_rate=rate)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, Vector, Path]]:
    """A server whose gallery ``crowd`` holds people spread evenly, calibrated once by site."""
    data = tmp_path_factory.mktemp("calibration") / "data"
    server = Server(make_config(data))
    server.start()
    api = Api(server.address)
    api.create_gallery("crowd", DIMENSION, score_fusion=galleries_pb2.SCORE_FUSION_MAXIMUM)
    vectors = isotropic(PEOPLE, DIMENSION, 1)
    fill(api, vectors)
    operation = calibrate(api, label_key="site")
    assert result(operation).version == 1
    yield api, vectors, data
    api.close()
    server.stop(grace=5)


def test_a_calibration_says_what_it_found(crowd: tuple[Api, Vector, Path]) -> None:
    api, _, _ = crowd
    request = galleries_pb2.GetCalibrationRequest(name=f"{NAME}/calibrations/latest")
    found = api.galleries.GetCalibration(request).calibration
    assert found.name == f"{NAME}/calibrations/1"
    assert (found.identity_count, found.face_count) == (PEOPLE, PEOPLE)
    assert found.gallery_generation == api.gallery("crowd").generation
    assert found.create_time.seconds > 0
    for point in found.false_match[:4]:
        truth = cosine_rate(point.threshold, DIMENSION)
        assert point.rate_lower <= truth <= point.rate_upper
    assert not found.false_match[-1].supported
    assert [point.rate for point in found.false_positive] == [0.1, 0.03, 0.01, 0.003, 0.001]
    assert found.cohorts.label_key == "site"
    assert {cohort.value for cohort in found.cohorts.cohorts} == {"a", "b"}
    assert not found.cohorts.unequal
    stats = api.galleries.GetGalleryStats(galleries_pb2.GetGalleryStatsRequest(name=NAME)).stats
    assert stats.calibration == found
    by_version = galleries_pb2.GetCalibrationRequest(name=found.name)
    assert api.galleries.GetCalibration(by_version).calibration == found


def test_identify_decides_at_an_error_rate(crowd: tuple[Api, Vector, Path]) -> None:
    api, vectors, _ = crowd
    mate = mates(vectors[:1], 0.9)[0]
    answer = api.identify(mate, "crowd", operating_point=at_rate(0.01))
    [found] = answer.identifications
    assert found.decision == types_pb2.DECISION_MATCH
    assert found.basis.source == types_pb2.THRESHOLD_SOURCE_CALIBRATION
    assert found.basis.calibration_version == "1"
    assert found.basis.max_false_positive_rate == 0.01
    assert 0.0 < found.false_positive_probability < 1e-4
    assert answer.gallery_generation > 0
    strangers = isotropic(200, DIMENSION, 99)
    matches, probabilities = 0, []
    for stranger in strangers:
        [found] = api.identify(
            stranger, "crowd", top_k=1, operating_point=at_rate(0.1)
        ).identifications
        matches += found.decision == types_pb2.DECISION_MATCH
        probabilities.append(found.false_positive_probability)
    # 200 strangers at a rate of 0.1: outside of 6 to 38 once in a thousand times.
    assert 6 <= matches <= 38
    # A stranger's own probability is uniform.
    assert 0.4 < np.mean(probabilities) < 0.6


def test_a_filter_that_leaves_fewer_people_asks_for_less(crowd: tuple[Api, Vector, Path]) -> None:
    api, vectors, _ = crowd
    [everybody] = api.identify(vectors[0], "crowd", operating_point=at_rate(0.01)).identifications
    [half] = api.identify(
        vectors[0], "crowd", operating_point=at_rate(0.01), filter='labels.site = "a"'
    ).identifications
    assert half.basis.threshold < everybody.basis.threshold


def test_verify_decides_at_a_false_match_rate(crowd: tuple[Api, Vector, Path]) -> None:
    api, vectors, _ = crowd

    def verify(one: Vector, rate: float, **reference: object) -> search_pb2.VerifyResponse:
        request = search_pb2.VerifyRequest(
            gallery=NAME, probe=probe(one), operating_point=at_rate(rate), **reference
        )
        return api.search.Verify(request)

    mate = mates(vectors[:1], 0.9)[0]
    same = verify(mate, 1e-3, other=probe(vectors[0]))
    assert same.decision == types_pb2.DECISION_MATCH
    assert same.basis.calibration_version == "1"
    assert not same.basis.extrapolated
    # However high a score, nothing is claimed that the data cannot bear.
    assert 1e-9 < same.false_match_probability < 1e-6
    assert same.gallery_generation == api.gallery("crowd").generation
    truth = cosine_rate(same.basis.threshold, DIMENSION)
    assert 0.7e-3 < truth < 1.4e-3
    different = verify(vectors[1], 1e-3, other=probe(vectors[0]))
    assert different.decision == types_pb2.DECISION_NO_MATCH
    assert different.false_match_probability == pytest.approx(
        cosine_rate(different.score, DIMENSION), rel=0.3
    )
    assert verify(mate, 1e-9, other=probe(vectors[0])).basis.extrapolated
    # Two faces give a stranger two chances.
    api.create_identity("two", "crowd")
    for vector in mates(np.repeat(isotropic(1, DIMENSION, 5), 2, axis=0), 0.9, seed=6):
        api.enroll("two", vector, "crowd")
    one_face = verify(mate, 1e-3, identity=f"{NAME}/identities/p0")
    two_faces = verify(mate, 1e-3, identity=f"{NAME}/identities/two")
    assert one_face.basis.threshold == same.basis.threshold
    assert two_faces.basis.threshold > one_face.basis.threshold
    gone = identities_pb2.DeleteIdentityRequest(name=f"{NAME}/identities/two")
    api.identities.DeleteIdentity(gone)


def test_without_a_rate_a_calibrated_gallery_decides_all_the_same(
    crowd: tuple[Api, Vector, Path],
) -> None:
    api, vectors, _ = crowd
    [found] = api.identify(vectors[0], "crowd").identifications
    assert found.basis.source == types_pb2.THRESHOLD_SOURCE_CALIBRATION
    assert found.basis.max_false_positive_rate == 0
    [given] = api.identify(
        vectors[0], "crowd", operating_point=types_pb2.OperatingPoint(threshold=0.5)
    ).identifications
    assert given.basis.source == types_pb2.THRESHOLD_SOURCE_REQUEST
    assert given.HasField("false_positive_probability")


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_what_is_no_rate_is_refused(crowd: tuple[Api, Vector, Path], rate: float) -> None:
    api, vectors, _ = crowd
    field = "operating_point.max_false_positive_rate"
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", field):
        api.identify(vectors[0], "crowd", operating_point=at_rate(rate))


def test_what_cannot_be_calibrated_says_why(crowd: tuple[Api, Vector, Path]) -> None:
    api, _, _ = crowd
    api.create_gallery("small", DIMENSION)
    api.enroll("somebody", isotropic(1, DIMENSION, 1)[0], "small")
    request = galleries_pb2.CalibrateGalleryRequest(name="galleries/small")
    operation = api.galleries.CalibrateGallery(request).operation
    done = api.operations.WaitOperation(operations_pb2.WaitOperationRequest(name=operation.name))
    assert done.error.code == 9
    assert "at least 100" in done.error.message
    with refused("FAILED_PRECONDITION", "NOT_CALIBRATED"):
        api.identify(isotropic(1, DIMENSION, 1)[0], "small", operating_point=at_rate(0.01))
    unknown = calibrate(api, label_key="nobody-has-it")
    assert unknown.error.code == 3
    with refused("INVALID_ARGUMENT", "INVALID_LABELS", "label_key"):
        calibrate(api, label_key="Not A Key")
    with refused("NOT_FOUND", "CALIBRATION_NOT_FOUND"):
        name = "galleries/small/calibrations/latest"
        api.galleries.GetCalibration(galleries_pb2.GetCalibrationRequest(name=name))
    with refused("INVALID_ARGUMENT", "INVALID_NAME"):
        name = f"{NAME}/calibrations/first"
        api.galleries.GetCalibration(galleries_pb2.GetCalibrationRequest(name=name))


def test_planted_duplicates_are_reported_by_name(tmp_path: Path) -> None:
    server = Server(make_config(tmp_path / "data"))
    server.start()
    api = Api(server.address)
    api.create_gallery("crowd", DIMENSION)
    vectors = isotropic(200, DIMENSION, 4)
    vectors[100:105] = mates(vectors[:5], 0.97)
    fill(api, vectors)
    found = result(calibrate(api))
    pairs = {frozenset((pair.first, pair.second)) for pair in found.suspected_duplicates}
    for number in range(5):
        names = (f"{NAME}/identities/p{n}" for n in (number, 100 + number))
        assert frozenset(names) in pairs
    assert found.suspected_duplicate_count <= 6
    api.close()
    server.stop(grace=5)
    # It is there again after a restart, and the next one is version 2.
    server = Server(make_config(tmp_path / "data"))
    server.start()
    api = Api(server.address)
    request = galleries_pb2.GetCalibrationRequest(name=f"{NAME}/calibrations/latest")
    assert api.galleries.GetCalibration(request).calibration == found
    [answer] = api.identify(vectors[0], "crowd", operating_point=at_rate(0.01)).identifications
    assert answer.basis.calibration_version == "1"
    assert result(calibrate(api)).version == 2
    api.close()
    server.stop(grace=5)


def test_before_there_is_a_calibration_the_model_card_answers(api: Api) -> None:
    """Vectors of the built-in model, without a worker to make them."""
    gallery = galleries_pb2.Gallery(model=types_pb2.ModelIdentity(name="sface"))
    request = galleries_pb2.CreateGalleryRequest(gallery_id="faces", gallery=gallery)
    api.galleries.CreateGallery(request)
    vectors = isotropic(3, 128, 1)
    for number, vector in enumerate(vectors):
        api.enroll(f"p{number}", vector, "faces")

    def threshold(rate: float) -> types_pb2.DecisionBasis:
        verify = search_pb2.VerifyRequest(
            gallery="galleries/faces",
            probe=probe(vectors[0]),
            other=probe(vectors[1]),
            operating_point=at_rate(rate),
        )
        return api.search.Verify(verify).basis

    assert threshold(1e-4).threshold == pytest.approx(0.3472, abs=1e-6)
    assert threshold(1e-4).source == types_pb2.THRESHOLD_SOURCE_MODEL
    assert 0.2874 < threshold(3e-4).threshold < 0.3472
    assert not threshold(1e-5).extrapolated
    assert threshold(1e-6).extrapolated
    assert threshold(1e-6).threshold > 0.44
    [found] = api.identify(vectors[0], "faces", operating_point=at_rate(0.03)).identifications
    # Three people: each may contribute a third.
    assert found.basis.threshold == pytest.approx(threshold(0.01).threshold, abs=1e-6)
    assert found.decision == types_pb2.DECISION_MATCH
    assert found.false_positive_probability < 1e-6
