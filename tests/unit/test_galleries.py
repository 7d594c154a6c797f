"""The synthetic galleries of the benchmarks: spectrum, mates, and the same rows always."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

_SOURCE = Path(__file__).parents[2] / "benchmarks" / "galleries.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_galleries", _SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Data classes look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


galleries = _load()


@pytest.fixture(scope="module", params=[128, 512])
def gallery(request: pytest.FixtureRequest) -> Any:
    return galleries.Gallery(galleries.Spectrum.of_dimension(request.param), rows=9000, seed=5)


def test_rows_are_unit_vectors_with_the_effective_dimension_of_the_spectrum(gallery: Any) -> None:
    vectors = gallery.vectors(0, gallery.rows)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    variances = np.linalg.eigvalsh(np.cov(vectors.T))
    expected = gallery.spectrum.effective_dimension
    assert galleries.participation_ratio(variances) == pytest.approx(expected, rel=0.05)


def test_the_decaying_spectrum_has_the_effective_dimension_asked_for() -> None:
    spectrum = galleries.Spectrum.of_dimension(512)
    assert spectrum.effective_dimension == pytest.approx(120, abs=0.5)


def test_mates_have_their_cosines(gallery: Any) -> None:
    ordinals = np.array([8999, 0, 4096, 4095, 17])
    cosines = np.array([0.35, 0.4, 0.5, 0.6, 0.7])
    probes = gallery.mates(ordinals, cosines)
    np.testing.assert_allclose(np.linalg.norm(probes, axis=1), 1.0, atol=1e-5)
    enrolled = gallery.gather(ordinals)
    np.testing.assert_allclose(np.sum(probes * enrolled, axis=1), cosines, atol=1e-3)


def test_mates_of_one_person_do_not_depend_on_the_others(gallery: Any) -> None:
    together = gallery.mates(np.array([3, 5000]), 0.5)
    alone = gallery.mates(np.array([5000]), 0.5)
    np.testing.assert_allclose(together[1:], alone, atol=1e-6)


@pytest.mark.parametrize("block_rows", [1000, 4096, 5000, 65_536])
def test_rows_are_the_same_whatever_the_block(gallery: Any, block_rows: int) -> None:
    whole = gallery.vectors(0, gallery.rows)
    starts, blocks = zip(*gallery.blocks(block_rows), strict=True)
    assert list(starts) == list(range(0, gallery.rows, block_rows))
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_any_rows_can_be_made_alone(gallery: Any) -> None:
    whole = gallery.vectors(0, gallery.rows)
    np.testing.assert_array_equal(gallery.vectors(4000, 4200), whole[4000:4200])
    ordinals = np.array([8191, 8192, 0, 4000])
    np.testing.assert_array_equal(gallery.gather(ordinals), whole[ordinals])


def test_another_seed_gives_other_people() -> None:
    spectrum = galleries.Spectrum.of_dimension(128)
    one, other = (galleries.Gallery(spectrum, rows=10, seed=seed) for seed in (1, 2))
    assert np.abs(np.sum(one.vectors(0, 10) * other.vectors(0, 10), axis=1)).max() < 0.5


def test_a_spectrum_is_measured_from_embeddings() -> None:
    random = np.random.default_rng(3)
    between, within = np.linspace(2.0, 0.1, 16), np.full(16, 0.2)
    people = np.repeat(np.arange(4000), 3)
    persons = random.standard_normal((4000, 16)) * np.sqrt(between)
    images = persons[people] + random.standard_normal((12_000, 16)) * np.sqrt(within)
    spectrum = galleries.Spectrum.measure(images.astype(np.float32), people)
    np.testing.assert_allclose(spectrum.between, between, atol=0.12)
    np.testing.assert_allclose(spectrum.within, within, atol=0.02)
