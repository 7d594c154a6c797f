"""Error rates against their definitions, by brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from visagedb_indexer.evaluation import rates
from visagedb_indexer.evaluation.folds import best_threshold, drawn_folds, fold_accuracy
from visagedb_indexer.evaluation.rates import Scores

# Few distinct values, so that ties are common.
SCORES = arrays.arrays(
    np.float32, st.integers(1, 40), elements=st.integers(-20, 20).map(lambda n: np.float32(n / 20))
).map(np.sort)
RATE = st.floats(0, 1)


@given(SCORES, st.integers(-25, 25))
def test_rates_are_counts(scores: Scores, step: int) -> None:
    threshold = np.float32(step / 20)
    assert float(rates.above(scores, threshold)) == pytest.approx(np.mean(scores >= threshold))
    assert float(rates.below(scores, threshold)) == pytest.approx(np.mean(scores < threshold))


@given(SCORES, RATE)
def test_the_threshold_is_the_lowest_that_keeps_to_the_rate(scores: Scores, rate: float) -> None:
    threshold = rates.threshold_at(scores, rate)
    slack = rate * (1 + 1e-9)
    assert np.mean(scores >= threshold) <= slack
    lower = scores[scores < threshold]
    if len(lower) and threshold > rates.SCORE_MIN:
        assert np.mean(scores >= lower[-1]) > rate * (1 - 1e-9)


@given(SCORES, st.data())
def test_weights_count_like_repetitions(scores: Scores, data: st.DataObject) -> None:
    weights = data.draw(
        arrays.arrays(np.float64, len(scores), elements=st.integers(0, 3).map(float))
    )
    if not weights.sum():
        weights[0] = 1.0
    repeated = np.repeat(scores, weights.astype(int))
    wanted = np.array([0.0, 0.1, 0.25, 0.5])
    found = rates.weighted_threshold_at(scores[::-1], weights[::-1], weights.sum(), wanted)
    np.testing.assert_array_equal(found, rates.threshold_at(repeated, wanted))
    below = rates.weighted_below(scores, weights, found)
    np.testing.assert_allclose(below, rates.below(repeated, found))


@given(SCORES, SCORES)
def test_the_equal_error_rate_is_the_best_worst_rate(mates: Scores, impostors: Scores) -> None:
    error, threshold = rates.equal_error_rate(mates, impostors)
    candidates = np.concatenate([mates, impostors, np.nextafter(impostors, np.float32(2))])
    worst = np.maximum(rates.above(impostors, candidates), rates.below(mates, candidates))
    assert error == pytest.approx(float(worst.min()))
    at = max(float(rates.above(impostors, threshold)), float(rates.below(mates, threshold)))
    assert at == pytest.approx(error)


@given(SCORES, st.data())
def test_the_best_threshold_decides_most_pairs_rightly(scores: Scores, data: st.DataObject) -> None:
    same = data.draw(arrays.arrays(np.bool_, len(scores)))
    threshold = best_threshold(scores, same)
    candidates = np.concatenate([scores - 0.01, scores + 0.01])
    most = max(int(np.sum((scores >= candidate) == same)) for candidate in candidates)
    assert int(np.sum((scores >= threshold) == same)) == most


def test_folds_are_judged_by_thresholds_of_the_others() -> None:
    random = np.random.default_rng(3)
    same = np.arange(200) % 2 == 0
    scores = (random.normal(size=200) * 0.2 + 0.4 * same).astype(np.float32)
    folds = np.arange(200) // 50
    found = fold_accuracy(scores, same, folds, given=True)
    accuracies = []
    for fold in range(4):
        threshold = best_threshold(scores[folds != fold], same[folds != fold])
        inside = folds == fold
        accuracies.append(np.mean((scores[inside] >= threshold) == same[inside]))
    assert found.accuracy == pytest.approx(np.mean(accuracies))
    assert found.standard_error == pytest.approx(np.std(accuracies, ddof=1) / 2)


def test_drawn_folds_have_both_kinds_alike() -> None:
    same = np.arange(100) < 60
    folds = drawn_folds(same, 10, seed=1)
    for fold in range(10):
        assert np.sum(same[folds == fold]) == 6
        assert np.sum(~same[folds == fold]) == 4
    np.testing.assert_array_equal(folds, drawn_folds(same, 10, seed=1))
