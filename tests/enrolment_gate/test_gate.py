"""What a gallery asks of faces before it enrols them, and what becomes of those it objects to."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import enroll, failures, gallery_record, mates, new_face, random_vectors, run_together

from visagedb_indexer import limits
from visagedb_indexer.database import Database
from visagedb_indexer.errors import (
    DuplicateIdentityError,
    IdentityMismatchError,
    IdentityNotFoundError,
    InvalidArgumentError,
    LimitExceededError,
    LowQualityError,
    NotCalibratedError,
    QuarantinedFaceNotFoundError,
)
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import (
    Enrollment,
    EnrollMode,
    EnrollOutcome,
    GalleryPatch,
    NewIdentity,
    SearchOptions,
)
from visagedb_indexer.gate_values import (
    GateAction,
    GateReason,
    GateSettings,
    IdentityCheck,
    QualityCheck,
)
from visagedb_indexer.loose_faces import NewLooseFaces
from visagedb_indexer.template_batches import TemplateBatch
from visagedb_indexer.values import Box, ExtractedFace, FaceScope, Fusion, Landmarks, Point, Quality

DIMENSION = 64
PEOPLE = random_vectors(40, DIMENSION)
MATES = mates(PEOPLE, 0.8)
"""The same people once more."""
THRESHOLD = 0.6
TWO = SearchOptions(top_k=2)


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    """A gallery of twenty people that asks nothing yet."""
    gallery = Gallery(tmp_path / "g", create=gallery_record(dimension=DIMENSION))
    for number in range(20):
        enroll(gallery, f"p{number}", PEOPLE[number])
    yield gallery
    gallery.close()


def ask(gallery: Gallery, **checks: GateAction) -> None:
    """Sets the actions of the duplicate and the mismatch check."""
    made = {f"{name}_check": IdentityCheck(action, THRESHOLD) for name, action in checks.items()}
    gallery.update(GalleryPatch(**made))


def found(gallery: Gallery, vector: np.ndarray) -> str:
    return gallery.identify(vector, TWO).candidates[0].identity.id


def extracted(score: float, *reasons: str, x: float = 0.0) -> ExtractedFace:
    middle = Point(10.0, 10.0)
    return ExtractedFace(
        Box(x, 0.0, 20.0, 20.0),
        Landmarks(middle, middle, middle, middle, middle),
        0.9,
        Quality(score, 1.0, score, 1.0, 1.0, 0.9, reasons),
    )


def test_without_checks_nothing_is_searched(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gallery, "identify_many", lambda *_: pytest.fail("a search was made"))
    assert enroll(gallery, "other", MATES[0]).findings == ()
    # An answer that is known needs no search either.
    ask(gallery, duplicate=GateAction.REJECT)
    assert enroll(gallery, "p1", PEOPLE[1]).outcome is EnrollOutcome.ALREADY_ENROLLED
    (skipped,) = gallery.enroll_many([new_face("p2", MATES[2])], EnrollMode.SKIP_EXISTING)
    assert isinstance(skipped, Enrollment)
    assert skipped.outcome is EnrollOutcome.SKIPPED


def test_a_duplicate_is_rejected_and_changes_nothing(gallery: Gallery) -> None:
    ask(gallery, duplicate=GateAction.REJECT)
    before = gallery.counters
    with pytest.raises(DuplicateIdentityError) as refusal:
        enroll(gallery, "somebody", MATES[3], request_id="r")
    score = float(PEOPLE[3] @ MATES[3])
    assert refusal.value.metadata == {
        "identity": "p3",
        "face": gallery.faces("p3")[0][0].id,
        "score": f"{score:.4f}",
        "threshold": "0.6000",
        "findings": "DUPLICATE_IDENTITY",
    }
    assert "'p3'" in refusal.value.message
    assert gallery.counters == before
    # The person's own id, and a stranger, pass.
    assert enroll(gallery, "p3", MATES[3], request_id="r2").findings == ()
    assert enroll(gallery, "stranger", PEOPLE[30]).outcome is EnrollOutcome.ENROLLED
    with pytest.raises(DuplicateIdentityError):
        enroll(gallery, "somebody", MATES[3], request_id="r")


def test_a_report_enrols_and_tells(gallery: Gallery) -> None:
    ask(gallery, duplicate=GateAction.REPORT, mismatch=GateAction.REPORT)
    answer = enroll(gallery, "p5", MATES[6])
    assert answer.outcome is EnrollOutcome.ENROLLED
    duplicate, mismatch = answer.findings
    assert (duplicate.reason, duplicate.identity_id) == (GateReason.DUPLICATE_IDENTITY, "p6")
    assert (mismatch.reason, mismatch.identity_id) == (GateReason.IDENTITY_MISMATCH, "p6")
    assert duplicate.score == pytest.approx(float(PEOPLE[6] @ MATES[6]), abs=1e-5)
    assert mismatch.score == pytest.approx(float(PEOPLE[5] @ MATES[6]), abs=1e-5)
    assert mismatch.threshold == duplicate.threshold == THRESHOLD


def test_a_mismatch_is_rejected(gallery: Gallery) -> None:
    ask(gallery, mismatch=GateAction.REJECT)
    with pytest.raises(IdentityMismatchError, match="it may be 'p8'"):
        enroll(gallery, "p7", MATES[8])
    with pytest.raises(IdentityMismatchError) as refusal:
        enroll(gallery, "p7", PEOPLE[31])
    assert "identity" not in refusal.value.metadata
    assert enroll(gallery, "p7", MATES[7]).outcome is EnrollOutcome.ENROLLED
    # There is nothing yet to compare a first face with.
    assert enroll(gallery, "new", PEOPLE[31]).outcome is EnrollOutcome.ENROLLED


@pytest.mark.parametrize("fusion", list(Fusion))
def test_the_own_score_is_fused_as_the_gallery_says(gallery: Gallery, fusion: Fusion) -> None:
    gallery.update(GalleryPatch(fusion=fusion))
    enroll(gallery, "p9", mates(PEOPLE, 0.7, seed=5)[9])
    probe = mates(PEOPLE, 0.3, seed=6)[9]
    expected, _ = gallery.compare(probe, "p9")
    ask(gallery, mismatch=GateAction.REPORT)
    (finding,) = enroll(gallery, "p9", probe).findings
    assert finding.score == pytest.approx(expected, abs=1e-5)


def test_one_person_at_once_under_many_ids_gets_in_once(gallery: Gallery) -> None:
    ask(gallery, duplicate=GateAction.REJECT)
    for person in range(21, 29):
        faces = mates(np.repeat(PEOPLE[person : person + 1], 12, axis=0), 0.9, seed=person)
        results = run_together(
            [
                lambda i=i, v=vector, p=person: enroll(gallery, f"n{p}-{i}", v)
                for i, vector in enumerate(faces)
            ]
        )
        refused = failures(results)
        assert len(refused) == 11
        assert {type(error) for error in refused} == {DuplicateIdentityError}
    assert gallery.counters.identity_count == 28


def test_two_persons_at_once_under_one_new_id_get_in_once(gallery: Gallery) -> None:
    ask(gallery, mismatch=GateAction.REJECT)
    for person in range(20, 30):
        results = run_together(
            [
                lambda v=vector, p=person: enroll(gallery, f"n{p}", v)
                for vector in (PEOPLE[person], PEOPLE[person + 10])
            ]
        )
        assert [type(error) for error in failures(results)] == [IdentityMismatchError]


def test_faces_of_one_batch_are_compared_with_each_other(gallery: Gallery) -> None:
    ask(gallery, duplicate=GateAction.REJECT, mismatch=GateAction.REJECT)
    faces = [
        new_face("a", PEOPLE[20]),
        new_face("b", MATES[20]),
        new_face("a", MATES[20], content=b"again"),
        new_face("a", PEOPLE[21]),
        new_face("c", np.full(DIMENSION, np.nan, np.float32)),
        new_face("p0", MATES[0]),
        new_face("d", MATES[1]),
    ]
    answers = gallery.enroll_many(faces)
    kinds = [a.outcome if isinstance(a, Enrollment) else type(a).__name__ for a in answers]
    assert kinds == [
        EnrollOutcome.ENROLLED, "DuplicateIdentityError", EnrollOutcome.ENROLLED,
        "IdentityMismatchError", "InvalidVectorError", EnrollOutcome.ENROLLED,
        "DuplicateIdentityError",
    ]  # fmt: skip


def test_a_batch_shares_scans(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(gallery, duplicate=GateAction.REPORT)
    calls: list[int] = []
    search = Gallery.identify_many
    monkeypatch.setattr(
        Gallery, "identify_many", lambda g, p, o: calls.append(len(p)) or search(g, p, o)
    )
    gallery.enroll_many([new_face(f"n{i}", vector) for i, vector in enumerate(PEOPLE[20:])])
    assert calls == [20]


def test_quarantine_keeps_a_face_out_of_sight(gallery: Gallery, tmp_path: Path) -> None:
    ask(gallery, duplicate=GateAction.QUARANTINE)
    before = gallery.counters
    answer = enroll(gallery, "twin", MATES[4], request_id="r", source="twin.jpg")
    assert (answer.outcome, answer.face) == (EnrollOutcome.QUARANTINED, None)
    # A repeat, with the request id or without, finds it there.
    assert enroll(gallery, "twin", MATES[4], request_id="r", source="twin.jpg") == answer
    assert enroll(gallery, "twin", MATES[4]).quarantine_number == answer.quarantine_number
    assert gallery.counters.face_count == before.face_count
    assert found(gallery, MATES[4]) == "p4"
    with pytest.raises(IdentityNotFoundError):
        gallery.identity("twin")
    gallery.close()
    reopened = Gallery(tmp_path / "g")
    ((record, vector),) = reopened.quarantine.faces(with_vectors=True)
    assert (record.number, record.identity_id) == (answer.quarantine_number, "twin")
    assert record.face.source == "twin.jpg"
    assert record.findings == answer.findings
    np.testing.assert_allclose(vector, MATES[4], atol=1e-6)
    accepted = reopened.quarantine.accept(record.number, request_id="a")
    assert (accepted.outcome, accepted.identity_created) == (EnrollOutcome.ENROLLED, True)
    assert reopened.quarantine.accept(record.number, request_id="a") == accepted
    assert found(reopened, MATES[4]) == "twin"
    assert reopened.quarantine.count() == 0
    with pytest.raises(QuarantinedFaceNotFoundError):
        reopened.quarantine.accept(record.number)
    reopened.close()


def test_accepting_under_the_right_id(gallery: Gallery) -> None:
    ask(gallery, duplicate=GateAction.QUARANTINE)
    number = enroll(gallery, "alias", MATES[4]).quarantine_number
    assert gallery.quarantine.accept(number, "p4").identity_id == "p4"
    assert gallery.identity("p4").face_count == 2
    number = enroll(gallery, "alias", MATES[5]).quarantine_number
    assert gallery.quarantine.accept(number, "p4").identity_id == "p4"


def test_accepting_keeps_what_was_said_of_the_identity(gallery: Gallery) -> None:
    ask(gallery, duplicate=GateAction.QUARANTINE)
    said = NewIdentity("Twin", {"site": "north"}, {"age": 40}, 2**52)
    new = replace(new_face("twin", MATES[4], face_id="mine"), new_identity=said)
    number = gallery.enroll(new).quarantine_number
    answer = gallery.quarantine.accept(number)
    assert answer.face is not None
    assert answer.face.id == "mine"
    record = gallery.identity("twin")
    assert (record.display_name, record.labels) == (said.display_name, said.labels)
    assert (record.metadata, record.expire_time_us) == (said.metadata, said.expire_time_us)


def test_an_identity_that_has_to_be_there(gallery: Gallery) -> None:
    ask(gallery, mismatch=GateAction.QUARANTINE)
    number = enroll(gallery, "p3", PEOPLE[33], create=False).quarantine_number
    gallery.moves.merge(["p3"], "p4")
    with pytest.raises(IdentityNotFoundError):
        gallery.quarantine.accept(number)
    assert gallery.quarantine.accept(number, "p4").identity_id == "p4"


def test_listing_dropping_and_deleting(gallery: Gallery) -> None:
    ask(gallery, duplicate=GateAction.QUARANTINE, mismatch=GateAction.QUARANTINE)
    for i in range(5):
        enroll(gallery, f"twin{i}", MATES[i])
        enroll(gallery, f"p{10 + i}", PEOPLE[30 + i])
    listed = gallery.quarantine.faces(reason=GateReason.IDENTITY_MISMATCH)
    assert [record.identity_id for record, _ in listed] == [f"p{10 + i}" for i in range(5)]
    first = gallery.quarantine.faces(most=4)
    rest = gallery.quarantine.faces(after=first[-1][0].number)
    assert [record.number for record, _ in (*first, *rest)] == list(range(10))
    gallery.quarantine.drop(0)
    with pytest.raises(QuarantinedFaceNotFoundError):
        gallery.quarantine.drop(0)
    gallery.quarantine.drop(0, allow_missing=True)
    gallery.delete_identity("p10")
    gallery.delete_identity("twin1", allow_missing=True)
    left = [record.identity_id for record, _ in gallery.quarantine.faces()]
    assert left == ["p11", "twin2", "p12", "twin3", "p13", "twin4", "p14"]
    assert gallery.stats().quarantined_count == 7
    # Numbers are never used twice.
    assert enroll(gallery, "twin0", MATES[0]).quarantine_number == 10


def test_the_quarantine_is_bounded(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUARANTINE_FACES_MAX", 3)
    ask(gallery, duplicate=GateAction.QUARANTINE)
    for i in range(3):
        enroll(gallery, f"twin{i}", MATES[i])
    with pytest.raises(LimitExceededError, match="quarantine"):
        enroll(gallery, "twin3", MATES[3])
    assert enroll(gallery, "twin2", MATES[2]).outcome is EnrollOutcome.QUARANTINED
    gallery.quarantine.drop(0)
    assert enroll(gallery, "twin3", MATES[3]).outcome is EnrollOutcome.QUARANTINED


def test_quality(gallery: Gallery) -> None:
    check = QualityCheck(GateAction.REJECT, 0.4, ("TURNED_AWAY",))
    gallery.update(GalleryPatch(quality_check=check))
    with pytest.raises(LowQualityError, match="BLURRED") as refusal:
        enroll(gallery, "a", PEOPLE[30], extracted=extracted(0.39, "BLURRED", "TOO_DARK"))
    assert refusal.value.metadata["quality_reasons"] == "BLURRED,TOO_DARK"
    with pytest.raises(LowQualityError):
        enroll(gallery, "a", PEOPLE[30], extracted=extracted(0.9, "TURNED_AWAY"))
    assert enroll(gallery, "a", PEOPLE[30], extracted=extracted(0.4, "BLURRED")).findings == ()
    # Nothing is known of a vector's quality.
    assert enroll(gallery, "b", PEOPLE[31]).findings == ()


def test_the_strictest_action_counts(gallery: Gallery) -> None:
    gallery.update(
        GalleryPatch(
            quality_check=QualityCheck(GateAction.REPORT, 0.4),
            duplicate_check=IdentityCheck(GateAction.QUARANTINE, THRESHOLD),
            mismatch_check=IdentityCheck(GateAction.REJECT, THRESHOLD),
        )
    )
    poor = extracted(0.1, "BLURRED")
    answer = enroll(gallery, "twin", MATES[2], extracted=poor)
    assert answer.outcome is EnrollOutcome.QUARANTINED
    assert [one.reason for one in answer.findings] == [
        GateReason.LOW_QUALITY, GateReason.DUPLICATE_IDENTITY,
    ]  # fmt: skip
    with pytest.raises(IdentityMismatchError):
        enroll(gallery, "p1", MATES[2], extracted=poor)
    accepted = gallery.quarantine.accept(answer.quarantine_number)
    assert accepted.face is not None
    assert (accepted.face.quality, accepted.face.box) == (poor.quality, poor.box)


def test_loose_faces_are_asked_for_their_quality_one_by_one(gallery: Gallery) -> None:
    content = hashlib.sha256(b"group").digest()
    faces = [extracted(0.9), extracted(0.2, "TOO_SMALL", x=50.0), extracted(0.1, "BLURRED", x=90.0)]
    photo = NewLooseFaces(list(PEOPLE[30:33]), content, faces, "group.jpg")
    gallery.update(GalleryPatch(quality_check=QualityCheck(GateAction.QUARANTINE, 0.4)))
    answer = gallery.loose.enroll(photo)
    assert [len(answer.faces), len(answer.gated)] == [1, 2]
    assert [one.quarantine_number for one in answer.gated] == [0, 1]
    assert len(gallery.faces("")) == 1
    again = replace(photo, source="copy.jpg", content_sha256=hashlib.sha256(b"copy").digest())
    gallery.update(GalleryPatch(quality_check=QualityCheck(GateAction.REJECT, 0.4)))
    answer = gallery.loose.enroll(again)
    assert [len(answer.faces), len(answer.gated)] == [1, 2]
    assert {one.quarantine_number for one in answer.gated} == {-1}
    assert gallery.quarantine.accept(1).outcome is EnrollOutcome.ENROLLED
    hits = gallery.loose.find(PEOPLE[32], count=1, scope=FaceScope.LOOSE)
    assert hits[0].score == pytest.approx(1.0, abs=1e-5)


def test_without_a_threshold_there_is_no_identity_check(gallery: Gallery, tmp_path: Path) -> None:
    check = IdentityCheck(GateAction.REJECT)
    with pytest.raises(NotCalibratedError):
        gallery.update(GalleryPatch(duplicate_check=check))
    gallery.update(GalleryPatch(threshold=THRESHOLD))
    gallery.update(GalleryPatch(duplicate_check=check))
    with pytest.raises(DuplicateIdentityError):
        enroll(gallery, "twin", MATES[0])
    # The threshold is taken away again: then nothing is enrolled unasked.
    gallery.update(GalleryPatch(clear_threshold=True))
    with pytest.raises(NotCalibratedError):
        enroll(gallery, "twin", MATES[0])
    database = Database(tmp_path / "data")
    record = replace(gallery_record("other"), gate=GateSettings(mismatch=check))
    with pytest.raises(NotCalibratedError):
        database.create_gallery(record)
    database.create_gallery(replace(record, threshold=0.5))
    database.close()


@pytest.mark.parametrize(
    "patch",
    [
        GalleryPatch(quality_check=QualityCheck(GateAction.REJECT, 1.5)),
        GalleryPatch(quality_check=QualityCheck(GateAction.REJECT, float("nan"))),
        GalleryPatch(quality_check=QualityCheck(GateAction.REJECT, 0.5, ("UGLY",))),
        GalleryPatch(duplicate_check=IdentityCheck(GateAction.REJECT, 1.5)),
        GalleryPatch(mismatch_check=IdentityCheck(GateAction.REJECT, None, 1.0)),
    ],
)
def test_bad_settings_are_refused(gallery: Gallery, patch: GalleryPatch) -> None:
    before = gallery.record
    with pytest.raises(InvalidArgumentError):
        gallery.update(patch)
    assert gallery.record == before


def test_upsert_is_judged_by_what_it_puts_there(gallery: Gallery) -> None:
    ask(gallery, mismatch=GateAction.REJECT, duplicate=GateAction.REJECT)
    enroll(gallery, "p1", MATES[1], face_id="f")
    replaced = replace(new_face("p1", mates(PEOPLE, 0.9, seed=9)[1]), face_id="f")
    assert gallery.enroll(replaced, EnrollMode.UPSERT).outcome is EnrollOutcome.REPLACED
    wrong = replace(new_face("p1", MATES[2]), face_id="f")
    with pytest.raises(DuplicateIdentityError):
        gallery.enroll(wrong, EnrollMode.UPSERT)
    face = gallery.face("p1", "f")[0]
    assert face.content_sha256 == replaced.content_sha256


def test_columns_are_judged_like_single_faces(gallery: Gallery) -> None:
    gallery.update(
        GalleryPatch(
            duplicate_check=IdentityCheck(GateAction.QUARANTINE, THRESHOLD),
            mismatch_check=IdentityCheck(GateAction.REJECT, THRESHOLD),
        )
    )
    vectors = np.stack([PEOPLE[20], MATES[20], MATES[3], PEOPLE[21], MATES[0], PEOPLE[30]])
    ids = ["a", "b", "c", "d", "p0", "p1"]
    answer = gallery.bulk.templates(TemplateBatch(ids, vectors)).result(60)
    assert list(answer.outcomes) == [
        EnrollOutcome.ENROLLED, EnrollOutcome.QUARANTINED, EnrollOutcome.QUARANTINED,
        EnrollOutcome.ENROLLED, EnrollOutcome.ENROLLED, None,
    ]  # fmt: skip
    assert isinstance(answer.errors[5], IdentityMismatchError)
    assert [answer.gated[row].findings[0].identity_id for row in (1, 2)] == ["a", "p3"]
    assert [record.identity_id for record, _ in gallery.quarantine.faces()] == ["b", "c"]


def test_a_large_batch_is_compared_with_itself(gallery: Gallery) -> None:
    """Every second row is the row before it once more, under another id."""
    ask(gallery, duplicate=GateAction.REJECT)
    people = random_vectors(300, DIMENSION, seed=77)
    rows = np.empty((600, DIMENSION), np.float32)
    rows[::2], rows[1::2] = people, mates(people, 0.9, seed=78)
    batch = TemplateBatch([f"n{i}" for i in range(600)], rows)
    answer = gallery.bulk.templates(batch).result(60)
    assert all(answer.outcomes[::2])
    assert not any(answer.outcomes[1::2])
    for row in range(1, 600, 2):
        assert answer.errors[row].metadata["identity"] == f"n{row - 1}"


def test_what_was_dropped_leaves_no_byte(gallery: Gallery, tmp_path: Path) -> None:
    ask(gallery, duplicate=GateAction.QUARANTINE)
    numbers = [enroll(gallery, f"twin{i}", MATES[i]).quarantine_number for i in range(4)]
    receipts = [gallery.quarantine.drop(numbers[0])]
    gallery.quarantine.drop(numbers[0], allow_missing=True)
    gallery.delete_identity("twin1", allow_missing=True)
    gallery.quarantine.accept(numbers[2])
    assert receipts[0] is not None
    assert (receipts[0].identity_id, receipts[0].complete_time_us) == ("twin0", 0)
    assert gallery.erasures.pending().count == 2
    gallery.compactions.compact(lambda *_: None)
    assert gallery.erasures.pending().count == 0
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    kept = [vector.astype("<f4").tobytes() in written for vector in MATES[:4]]
    assert kept == [False, False, True, True]
