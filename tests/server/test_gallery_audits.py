"""Planted errors are found, and leave the list when they are corrected."""

import threading

import numpy as np
import pytest
from google.longrunning import operations_pb2
from google.protobuf.duration_pb2 import Duration
from support import mates, random_vectors
from wire import Api, read_pages, refused

from visagedb.v1 import (
    clusters_pb2,
    galleries_pb2,
    gallery_audits_pb2,
    identities_pb2,
)
from visagedb_server.services import gallery_audits

DIMENSION, PEOPLE = 64, 60
CENTRES = random_vectors(PEOPLE, DIMENSION)
GALLERY = "labels"


def faces_of(person: int, count: int = 3) -> np.ndarray:
    return mates(np.repeat(CENTRES[person : person + 1], count, axis=0), 0.88, seed=person)


@pytest.fixture
def crowd(api: Api) -> Api:
    """Sixty people of three faces; p0 also as p0-again, and a face of p1 enrolled as p2."""
    api.create_gallery(GALLERY, dimension=DIMENSION)
    for person in range(PEOPLE):
        for place, face in enumerate(faces_of(person)):
            identity = "p0-again" if (person, place) == (0, 2) else f"p{person}"
            identity = "p2" if (person, place) == (1, 0) else identity
            api.enroll(identity, face, gallery=GALLERY, face_id=f"{person}-{place}",
                       source=f"{person}/{place}.jpg")  # fmt: skip
    return api


def audit(api: Api, **fields: object) -> gallery_audits_pb2.GalleryAudit:
    request = gallery_audits_pb2.AuditGalleryRequest(gallery=f"galleries/{GALLERY}", **fields)
    return finished(api, api.audits.AuditGallery(request).operation)


def finished(api: Api, operation: operations_pb2.Operation) -> gallery_audits_pb2.GalleryAudit:
    request = operations_pb2.WaitOperationRequest(name=operation.name, timeout=Duration(seconds=60))
    operation = api.operations.WaitOperation(request)
    result = gallery_audits_pb2.GalleryAudit()
    assert operation.response.Unpack(result), operation
    return result


def findings(
    api: Api, found: gallery_audits_pb2.GalleryAudit, **fields: object
) -> list[gallery_audits_pb2.GalleryAuditFinding]:
    request = gallery_audits_pb2.ListGalleryAuditFindingsRequest(parent=found.name, **fields)
    pages = read_pages(api.audits.ListGalleryAuditFindings, request)
    return [finding for page in pages for finding in page.findings]


def name(identity: str, face: str) -> str:
    return f"galleries/{GALLERY}/identities/{identity}/faces/{face}"


@pytest.mark.parametrize("page_size", [0, 1])
def test_planted_errors_are_found(crowd: Api, page_size: int) -> None:
    found = audit(crowd)
    assert (found.face_count, found.identity_count) == (3 * PEOPLE, PEOPLE + 1)
    assert (found.duplicate_count, found.mislabelled_count, found.hub_count) == (1, 1, 0)
    assert found.gallery_generation == crowd.gallery(GALLERY).generation
    got = crowd.audits.GetGalleryAudit(gallery_audits_pb2.GetGalleryAuditRequest(name=found.name))
    assert got.audit == found
    duplicate, mislabelled = findings(crowd, found, page_size=page_size)
    assert duplicate.kind == gallery_audits_pb2.FINDING_KIND_DUPLICATE_IDENTITIES
    assert {duplicate.identity, duplicate.other_identity} == {
        f"galleries/{GALLERY}/identities/{identity}" for identity in ("p0", "p0-again")
    }
    assert name("p0-again", "0-2") in {duplicate.face, duplicate.other_face}
    assert (duplicate.supporting_count, duplicate.compared_count) == (2, 2)
    assert mislabelled.kind == gallery_audits_pb2.FINDING_KIND_MISLABELLED_FACE
    assert mislabelled.face == name("p2", "1-0")
    assert mislabelled.source == "1/0.jpg"
    assert mislabelled.other_identity == f"galleries/{GALLERY}/identities/p1"
    assert mislabelled.template_score < 0.4 < mislabelled.score
    assert (duplicate.rank, mislabelled.rank) == (1, 2)
    assert min(duplicate.probability, mislabelled.probability) > 0.9


def test_what_is_corrected_leaves_the_list(crowd: Api) -> None:
    found = audit(crowd)
    crowd.identities.DeleteFace(identities_pb2.DeleteFaceRequest(name=name("p2", "1-0")))
    [left] = findings(crowd, found)
    assert left.kind == gallery_audits_pb2.FINDING_KIND_DUPLICATE_IDENTITIES
    crowd.identities.DeleteIdentity(
        identities_pb2.DeleteIdentityRequest(name=f"galleries/{GALLERY}/identities/p0-again")
    )
    assert findings(crowd, found) == []
    again = audit(crowd)
    assert (again.duplicate_count, again.mislabelled_count) == (0, 0)


def test_one_kind_only(crowd: Api) -> None:
    found = audit(crowd, kinds=[gallery_audits_pb2.FINDING_KIND_MISLABELLED_FACE])
    assert (found.duplicate_count, found.mislabelled_count) == (0, 1)
    request = clusters_pb2.FindDuplicatesRequest(gallery=f"galleries/{GALLERY}")
    found = finished(crowd, crowd.clusters.FindDuplicates(request).operation)
    assert (found.duplicate_count, found.mislabelled_count) == (1, 0)


def test_improbable_findings_can_be_left_out(crowd: Api) -> None:
    found = audit(crowd)
    probable = [f for f in findings(crowd, found) if f.probability >= 0.9999999]
    assert findings(crowd, found, min_probability=0.9999999) == probable


def test_an_empty_gallery_and_a_filter_that_nobody_passes(crowd: Api) -> None:
    found = audit(crowd, filter="labels.none:*")
    assert (found.face_count, found.duplicate_count) == (0, 0)
    assert findings(crowd, found) == []


def test_bad_requests_start_nothing(crowd: Api) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "kinds"):
        audit(crowd, kinds=[99])
    with refused("INVALID_ARGUMENT", "INVALID_FILTER"):
        audit(crowd, filter="x")
    with refused("NOT_FOUND", "GALLERY_NOT_FOUND"):
        crowd.audits.AuditGallery(gallery_audits_pb2.AuditGalleryRequest(gallery="galleries/none"))
    parent = f"galleries/{GALLERY}/audits/none"
    with refused("NOT_FOUND", "NOT_FOUND"):
        crowd.audits.GetGalleryAudit(gallery_audits_pb2.GetGalleryAuditRequest(name=parent))
    with refused("NOT_FOUND", "NOT_FOUND"):
        crowd.audits.ListGalleryAuditFindings(
            gallery_audits_pb2.ListGalleryAuditFindingsRequest(parent=parent)
        )


def test_too_many_faces_are_refused(crowd: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visagedb_indexer.limits.AUDIT_FACES_MAX", 3)
    request = gallery_audits_pb2.AuditGalleryRequest(gallery=f"galleries/{GALLERY}")
    operation = crowd.audits.AuditGallery(request).operation
    wait = operations_pb2.WaitOperationRequest(name=operation.name, timeout=Duration(seconds=60))
    assert "the most is 3" in crowd.operations.WaitOperation(wait).error.message


def test_only_the_newest_audits_are_kept(crowd: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visagedb_indexer.limits.AUDITS_KEPT_MAX", 2)
    first, second, third = (audit(crowd) for _ in range(3))
    with refused("NOT_FOUND", "NOT_FOUND"):
        findings(crowd, first)
    assert findings(crowd, second) == findings(crowd, third) != []


def test_a_cancelled_audit_stops(crowd: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    audit_gallery = gallery_audits.audit_gallery

    def held_back(*args: object, progress: object, **options: object) -> object:
        while not go_on.wait(0.01):
            progress(0.5, "held back")
        return audit_gallery(*args, progress=progress, **options)

    monkeypatch.setattr(gallery_audits, "audit_gallery", held_back)
    request = gallery_audits_pb2.AuditGalleryRequest(gallery=f"galleries/{GALLERY}")
    operation = crowd.audits.AuditGallery(request).operation
    crowd.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=operation.name))
    wait = operations_pb2.WaitOperationRequest(name=operation.name, timeout=Duration(seconds=60))
    assert crowd.operations.WaitOperation(wait).error.code == 1
    go_on.set()


def test_the_findings_survive_a_deleted_gallery_of_the_same_name(crowd: Api) -> None:
    found = audit(crowd)
    crowd.galleries.DeleteGallery(galleries_pb2.DeleteGalleryRequest(name=f"galleries/{GALLERY}"))
    with refused("NOT_FOUND", "GALLERY_NOT_FOUND"):
        findings(crowd, found)
