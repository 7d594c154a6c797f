import numpy as np
import pytest
from support import mates, random_vectors, unit

from visagedb_indexer import fusion as fusion_module
from visagedb_indexer.fusion import (
    ADAPTIVE_SHARPNESS,
    QUALITY_UNKNOWN,
    fused_score_matrix,
    fused_scores,
)
from visagedb_indexer.values import Fusion, Vector

DIMENSION = 16
PROBE = random_vectors(1, DIMENSION, seed=9)[0]
COUNTS = (1, 2, 5, 1, 3)
STARTS = np.array([0, 1, 3, 8, 9])
FACES = mates(np.repeat(random_vectors(5, DIMENSION), COUNTS, axis=0), 0.8)
QUALITIES = np.linspace(0.1, 1.0, len(FACES), dtype=np.float32)


def one_by_one(fusion: Fusion, group: Vector, qualities: np.ndarray) -> float:
    """The definition, for one identity."""
    scores = group @ PROBE
    if fusion is Fusion.MAXIMUM:
        return float(scores.max())
    if fusion is Fusion.MEAN_OF_BEST:
        return float(np.sort(scores)[-2:].mean())
    weights = {
        Fusion.MEAN_VECTOR: np.ones(len(group)),
        Fusion.QUALITY_WEIGHTED: qualities,
        Fusion.ADAPTIVE_MEAN: np.exp(ADAPTIVE_SHARPNESS * scores),
    }[fusion]
    return float(unit(weights @ group) @ PROBE)


@pytest.mark.parametrize("fusion", list(Fusion))
def test_every_fusion_is_what_it_says(fusion: Fusion) -> None:
    fused = fused_scores(FACES @ PROBE, FACES, STARTS, fusion, QUALITIES)
    parts = zip(np.split(FACES, STARTS[1:]), np.split(QUALITIES, STARTS[1:]), strict=True)
    expected = [one_by_one(fusion, group, qualities) for group, qualities in parts]
    assert fused == pytest.approx(expected, abs=1e-5)
    assert fused.dtype == np.float32


@pytest.mark.parametrize("fusion", list(Fusion))
def test_a_single_face_keeps_its_score(fusion: Fusion) -> None:
    scores = FACES @ PROBE
    starts = np.arange(len(FACES))
    assert fused_scores(scores, FACES, starts, fusion) == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize("fusion", list(Fusion))
def test_no_identities_have_no_scores(fusion: Fusion) -> None:
    nothing = np.empty(0, dtype=np.float32)
    faces = np.empty((0, DIMENSION), dtype=np.float32)
    assert len(fused_scores(nothing, faces, np.empty(0, dtype=np.int64), fusion)) == 0


@pytest.mark.parametrize("fusion", list(Fusion))
def test_scores_stay_cosines(fusion: Fusion) -> None:
    same = np.repeat(PROBE[None], 4, axis=0)
    opposite = -same
    for faces in (same, opposite, np.concatenate([same, opposite])):
        fused = fused_scores(faces @ PROBE, faces, np.zeros(1, np.int64), fusion)
        assert -1.0 <= fused[0] <= 1.0


def test_a_face_of_unknown_quality_counts_half() -> None:
    known = np.full(len(FACES), QUALITY_UNKNOWN, dtype=np.float32)
    unknown = np.full(len(FACES), np.nan, dtype=np.float32)
    scores = FACES @ PROBE
    fusion = Fusion.QUALITY_WEIGHTED
    assert fused_scores(scores, FACES, STARTS, fusion, unknown) == pytest.approx(
        fused_scores(scores, FACES, STARTS, fusion, known)
    )


@pytest.mark.parametrize("fusion", list(Fusion))
@pytest.mark.parametrize("known", [True, False])
def test_many_probes_score_as_each_of_them(
    fusion: Fusion, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    qualities = QUALITIES if known else None
    probes = np.concatenate([random_vectors(6, DIMENSION, seed=3), FACES[3:5]])
    expected = [fused_scores(FACES @ p, FACES, STARTS, fusion, qualities) for p in probes]
    for at_once in (1, 20, 1 << 20):
        monkeypatch.setattr(fusion_module, "_SCORES_AT_ONCE", at_once)
        found = fused_score_matrix(probes, FACES, STARTS, fusion, qualities)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert fused_score_matrix(probes[:0], FACES, STARTS, fusion).shape == (0, len(STARTS))


def test_one_wrong_face_hurts_the_adaptive_mean_least() -> None:
    right, wrong = mates(PROBE[None], 0.6)[0], random_vectors(1, DIMENSION, seed=5)[0]
    wrong = unit(wrong - (wrong @ PROBE) * PROBE)
    faces = np.stack([right, wrong])
    start = np.zeros(1, np.int64)
    adaptive, mean = (
        fused_scores(faces @ PROBE, faces, start, fusion)[0]
        for fusion in (Fusion.ADAPTIVE_MEAN, Fusion.MEAN_VECTOR)
    )
    assert 0.6 > adaptive > mean
