"""Populations whose impostors are known: thresholds are recovered, duplicates set none."""

import numpy as np
import pytest
from calibration.populations import InMemory, calibrated, cosine_at, cosine_rate, isotropic
from support import mates

from visagedb_indexer.calibration import estimate
from visagedb_indexer.calibration.sample import Faces, compare
from visagedb_indexer.calibration.values import false_positive_rate, rate_per_identity
from visagedb_indexer.fusion import fused_scores
from visagedb_indexer.values import Fusion

DIMENSION = 64


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_false_match_rates_of_a_known_law_lie_in_their_intervals(seed: int) -> None:
    found = calibrated(isotropic(1500, DIMENSION, seed))
    for point in found.false_match[:5]:
        truth = cosine_rate(point.threshold, DIMENSION)
        assert point.rate_lower <= truth <= point.rate_upper
        assert point.rate_lower <= point.rate <= point.rate_upper
    supported = [point.supported for point in found.false_match]
    assert supported == sorted(supported, reverse=True)
    assert supported[3]
    assert not supported[5]
    assert found.suspects.keys.size == 0 or found.suspects.start > cosine_at(1e-7, DIMENSION)


@pytest.mark.parametrize("seed", [1, 2])
def test_false_positive_rates_hold_for_strangers(seed: int) -> None:
    gallery = isotropic(1500, DIMENSION, seed)
    strangers = isotropic(20_000, DIMENSION, seed + 100)
    found = calibrated(gallery)
    best = (strangers @ gallery.T).max(axis=1)
    for point in found.false_positive[:3]:
        realised = float(np.mean(best >= point.threshold))
        # Three standard deviations of what 20,000 strangers realise.
        chance = 3 * np.sqrt(point.rate / 20_000)
        assert point.rate_lower - chance <= realised <= point.rate_upper + chance


def test_the_threshold_follows_the_number_of_identities() -> None:
    """Calibrated among 1,500, right among 150,000, which nobody has measured."""
    found = calibrated(isotropic(1500, DIMENSION, 1))
    unit = rate_per_identity(0.1, 150_000, found.clumping)
    threshold = found.searches.score(unit)
    truth = false_positive_rate(cosine_rate(threshold, DIMENSION), 150_000, 1e6)
    assert 0.05 < truth < 0.2


def test_duplicates_are_counted_and_set_no_threshold() -> None:
    clean = isotropic(1500, DIMENSION, 5)
    duplicates = mates(clean[:75], 0.85)
    without, spoilt = calibrated(clean), calibrated(np.concatenate([clean, duplicates]))
    planted = {(person, 1500 + person) for person in range(75)}
    found = {(int(key) >> 32, int(key) & 0xFFFFFFFF) for key in spoilt.suspects.keys}
    assert planted <= found
    assert len(found) <= 76
    for one, other in zip(without.false_match, spoilt.false_match, strict=True):
        assert one.threshold == pytest.approx(other.threshold, abs=0.02)
    for one, other in zip(without.false_positive, spoilt.false_positive, strict=True):
        assert one.threshold == pytest.approx(other.threshold, abs=0.02)


def test_several_faces_raise_the_rate_of_a_search_not_of_a_pair() -> None:
    people = isotropic(600, DIMENSION, 6)
    faces = np.concatenate([mates(people, 0.8, seed) for seed in range(3)])
    owners = np.tile(np.arange(600), 3)
    found = calibrated(faces, owners)
    threshold = found.pairs.score(1e-4)
    assert 1.3e-4 < found.searches.rate(threshold) < 3e-4
    # A person's own faces are no impostors.
    assert threshold < 0.6


def test_a_result_is_the_same_for_the_same_seed() -> None:
    vectors = isotropic(400, DIMENSION, 7)
    one, other = calibrated(vectors, seed=1), calibrated(vectors, seed=1)
    assert (one.pairs, one.false_positive) == (other.pairs, other.false_positive)


def test_people_count_the_same_however_many_faces_they_have() -> None:
    owners = np.concatenate([np.zeros(500, np.int64), np.arange(1, 301)])
    faces = Faces.of(np.arange(len(owners)), owners)
    drawn = faces.draw(150, np.random.default_rng(1))
    assert len(drawn) == len(set(drawn.people.tolist())) == 150
    everybody = faces.draw(400, np.random.default_rng(1))
    assert len(set(everybody.people.tolist())) == 301
    assert np.bincount(everybody.people, everybody.weights) == pytest.approx(np.ones(301))
    some = faces.draw_people(250, np.random.default_rng(1))
    assert len(some) <= 250
    assert np.bincount(some.people, some.weights)[some.people] == pytest.approx(np.ones(len(some)))


def test_the_comparison_finds_what_plain_arithmetic_finds() -> None:
    vectors = isotropic(5000, 16, 8)
    owners = np.arange(5000) // 2
    faces = Faces.of(np.arange(5000), owners)
    probes = faces.draw(700, np.random.default_rng(2))
    found = compare(InMemory(vectors), probes, faces, 0.7, lambda: None, with_histogram=True)
    scores = vectors[probes.ordinals] @ vectors.T
    strangers = probes.people[:, None] != owners[None]
    rows, columns = np.nonzero((scores > 0.7) & strangers)
    assert sorted(zip(found.probes, found.references, strict=True)) == sorted(
        zip(rows, columns, strict=True)
    )
    assert found.pair_count == strangers.sum()
    assert found.weight == pytest.approx(float(probes.weights.sum()) * 0.5 * 4998, rel=1e-3)
    assert found.histogram.sum() == pytest.approx(found.weight, rel=1e-6)


def test_a_pause_can_stop_the_work() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    vectors = isotropic(200, 16, 9)
    faces = Faces.of(np.arange(200), np.arange(200))
    with pytest.raises(KeyboardInterrupt):
        compare(InMemory(vectors), faces, faces, 0.5, stop)


def test_clumped_and_even_false_matches() -> None:
    for clumping in (0.3, 5.0, 1000.0):
        for rate in (0.3, 0.01, 1e-4):
            unit = rate_per_identity(rate, 10_000, clumping)
            assert false_positive_rate(unit, 10_000, clumping) == pytest.approx(rate, rel=1e-6)
    # Clumped on few probes, the same number of false matches strikes fewer of them.
    assert false_positive_rate(1e-4, 10_000, 0.3) < false_positive_rate(1e-4, 10_000, 1000.0)


@pytest.mark.parametrize("fusion", list(Fusion))
def test_searches_are_calibrated_as_the_gallery_fuses(fusion: Fusion) -> None:
    """Half of the people have three faces; strangers are scored by plain arithmetic."""
    people = isotropic(800, DIMENSION, 11)
    faces = np.concatenate([people, mates(people[:400], 0.75, 1), mates(people[:400], 0.75, 2)])
    owners = np.concatenate([np.arange(800), np.arange(400), np.arange(400)])
    found = estimate(
        InMemory(faces), Faces.of(np.arange(len(faces)), owners), 3, lambda: None, fusion
    )
    order = np.argsort(owners, kind="stable")
    starts = np.searchsorted(owners[order], np.arange(800))
    best = [
        fused_scores(faces[order] @ stranger, faces[order], starts, fusion).max()
        for stranger in isotropic(4000, DIMENSION, 12)
    ]
    for point in found.false_positive[:2]:
        realised = float(np.mean(np.array(best) >= point.threshold))
        chance = 3 * np.sqrt(point.rate / 4000)
        assert point.rate_lower - chance <= realised <= point.rate_upper + chance
