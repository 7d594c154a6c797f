import numpy as np
import pytest
from support import mates, random_vectors, unit

from visagedb_indexer.clustering import GraphBuilder, for_gallery
from visagedb_indexer.errors import CancelledError
from visagedb_indexer.gallery_audit import Finding, LabelledFaces, find
from visagedb_indexer.values import FindingKind, Vector

PEOPLE, FACES_EACH, DIMENSION = 300, 4, 64
CENTRES = random_vectors(PEOPLE, DIMENSION)
VECTORS = mates(np.repeat(CENTRES, FACES_EACH, axis=0), 0.85)
OWNERS = np.repeat(np.arange(PEOPLE), FACES_EACH)


def labelled(vectors: Vector, owners: np.ndarray) -> LabelledFaces:
    builder = GraphBuilder(vectors, neighbours=30)
    for _ in builder.run():
        pass
    model = for_gallery(vectors, owners)
    return LabelledFaces.of(vectors, owners, model, builder.edges(), builder.floor)


def of_kind(findings: list[Finding], kind: FindingKind) -> list[Finding]:
    return [finding for finding in findings if finding.kind is kind]


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert find(labelled(VECTORS, OWNERS)) == []


def test_a_person_under_two_ids_is_found() -> None:
    owners = OWNERS.copy()
    owners[[0, 1]] = 1000
    [finding] = find(labelled(VECTORS, owners))
    assert finding.kind is FindingKind.DUPLICATE_IDENTITIES
    assert {owners[finding.face], owners[finding.other]} == {0, 1000}
    assert finding.probability > 0.99
    assert (finding.support, finding.compared) == (4, 4)
    assert finding.template_score > finding.score > 0.5
    assert finding.score == pytest.approx(VECTORS[finding.face] @ VECTORS[finding.other], abs=1e-5)


@pytest.mark.parametrize("right_face", [0, 3])
def test_a_face_under_the_wrong_id_is_found(right_face: int) -> None:
    owners = OWNERS.copy()
    owners[right_face] = 17
    [finding] = find(labelled(VECTORS, owners))
    assert finding.kind is FindingKind.MISLABELLED_FACE
    assert finding.face == right_face
    assert OWNERS[finding.other] == 0
    assert finding.probability > 0.99
    assert (finding.support, finding.compared) == (4, 4)
    assert finding.template_score < 0.5 < finding.score


def test_of_two_faces_that_disagree_the_one_that_has_a_home_is_named() -> None:
    kept = np.ones(len(VECTORS), bool)
    kept[[4 * 17 + 1, 4 * 17 + 2, 4 * 17 + 3]] = False
    vectors, owners = VECTORS[kept], OWNERS[kept].copy()
    owners[0] = 17
    [finding] = find(labelled(vectors, owners))
    assert (finding.kind, finding.face) == (FindingKind.MISLABELLED_FACE, 0)


def test_several_wrong_faces_of_one_identity_are_all_found() -> None:
    owners = OWNERS.copy()
    owners[[4, 9]] = 0
    found = find(labelled(VECTORS, owners))
    assert {finding.face for finding in found} == {4, 9}
    assert {finding.kind for finding in found} == {FindingKind.MISLABELLED_FACE}


def test_a_face_that_is_near_to_everybody_is_found() -> None:
    hub = unit(CENTRES[:60].sum(axis=0, keepdims=True))
    vectors = np.concatenate([mates(VECTORS, 0.97), hub])
    vectors[: 60 * FACES_EACH] = unit(vectors[: 60 * FACES_EACH] + 0.45 * hub)
    owners = np.append(OWNERS, 2000)
    found = of_kind(find(labelled(vectors, owners)), FindingKind.HUB_FACE)
    assert found[0].face == len(vectors) - 1
    assert found[0].support >= 10
    assert found[0].compared == PEOPLE
    assert found[0].evidence > np.log(5)


def test_only_what_is_asked_for_is_found() -> None:
    owners = OWNERS.copy()
    owners[[0, 1]] = 1000
    owners[50] = 99
    for kind in FindingKind:
        assert {f.kind for f in find(labelled(VECTORS, owners), [kind])} <= {kind}


@pytest.mark.parametrize("count", [1, 2])
def test_almost_nothing_to_look_at(count: int) -> None:
    assert find(labelled(VECTORS[[0, 4]][:count], OWNERS[[0, 4]][:count])) == []


def test_it_can_be_stopped() -> None:
    owners = OWNERS.copy()
    owners[0] = 17

    def stop() -> None:
        raise CancelledError("stop")

    with pytest.raises(CancelledError):
        find(labelled(VECTORS, owners), check=stop)


def test_the_stronger_evidence_comes_first() -> None:
    owners = OWNERS.copy()
    owners[[0, 1]] = 1000
    owners[[8, 9]] = 1001
    owners[[40, 50, 60]] = [1, 2, 4]
    found = find(labelled(VECTORS, owners))
    for kind in FindingKind:
        evidence = [finding.evidence for finding in of_kind(found, kind)]
        assert evidence == sorted(evidence, reverse=True)
    assert [finding.kind for finding in found] == sorted(
        (finding.kind for finding in found), key=list(FindingKind).index
    )
