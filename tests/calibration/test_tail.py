import itertools
import math

import numpy as np
import pytest
from scipy import stats

from visagedb_indexer.calibration.tail import Pareto, Tail, fit_pareto, misfit, refitted

TAIL = Tail(
    scores=(-1.0, 0.0, 0.2), rates=(1.0, 0.5, 0.01), start=0.2, start_rate=0.01, scale=0.03,
    shape=-0.1, count=1000,
)  # fmt: skip


@pytest.mark.parametrize("shape", [-0.2, -0.05, 0.0, 0.1])
def test_survival_and_its_inverse_agree_with_scipy(shape: float) -> None:
    pareto = Pareto(0.03, shape)
    for survival in (0.5, 1e-3, 1e-8):
        excess = pareto.excess(survival)
        assert float(pareto.survival(excess)) == pytest.approx(survival, rel=1e-6)
        assert stats.genpareto.sf(excess, shape, scale=0.03) == pytest.approx(survival, rel=1e-6)


@pytest.mark.parametrize("highest", [math.inf, 0.08])
def test_a_known_tail_is_found_again(highest: float) -> None:
    excesses = stats.genpareto.rvs(-0.1, scale=0.03, size=20_000, random_state=1)
    found = fit_pareto(excesses, np.ones(len(excesses)), highest)
    assert found.scale == pytest.approx(0.03, rel=0.05)
    assert found.shape == pytest.approx(-0.1, abs=0.03)


def test_what_lies_above_the_cut_has_no_influence() -> None:
    excesses = stats.genpareto.rvs(-0.1, scale=0.03, size=2000, random_state=1)
    spoilt = np.concatenate([excesses, np.full(100, 0.4)])
    clean = fit_pareto(excesses, np.ones(2000), 0.1)
    assert fit_pareto(spoilt, np.ones(2100), 0.1) == clean
    assert fit_pareto(spoilt, np.ones(2100)).shape > clean.shape + 0.1


def test_goodness_of_fit_tells_a_right_tail_from_a_wrong_one() -> None:
    excesses = stats.genpareto.rvs(-0.1, scale=0.03, size=2000, random_state=3)
    weights = np.ones(2000)
    fitted = fit_pareto(excesses, weights)
    assert misfit(fitted, excesses, weights, math.inf) < 0.13
    assert misfit(Pareto(0.04, -0.1), excesses, weights, math.inf) > 1.0
    # Weights of one half stand for half as many.
    half = misfit(fitted, np.repeat(excesses, 2), np.full(4000, 0.5), math.inf)
    assert half == pytest.approx(2 * misfit(fitted, excesses, weights, math.inf), rel=0.2)


def test_score_and_rate_are_inverse_over_the_whole_range() -> None:
    for rate in (0.9, 0.3, 0.01, 1e-3, 1e-7, 1e-12):
        assert TAIL.rate(TAIL.score(rate)) == pytest.approx(rate, rel=1e-6)
    scores = np.linspace(-1, 1, 200)
    rates = [TAIL.rate(score) for score in scores]
    assert all(a >= b for a, b in itertools.pairwise(rates))
    assert rates[0] == 1.0
    assert 0.0 < rates[-1] < 1e-100
    assert TAIL.score(1e-300) <= 1.0


def test_one_step_is_as_good_as_a_search() -> None:
    """For weights that differ by chance, and a prior whose centre does."""
    random = np.random.default_rng(1)
    excesses = stats.genpareto.rvs(-0.08, scale=0.03, size=1000, random_state=4)
    excesses = excesses[excesses < 0.15]
    weights = random.exponential(size=(20, len(excesses)))
    means = -0.07 + 0.05 * random.standard_normal(20)
    fitted = fit_pareto(excesses, np.ones(len(excesses)), 0.15)
    quick = refitted(fitted, excesses, weights, 0.15, means)
    slow = [fit_pareto(excesses, w, 0.15, mean) for w, mean in zip(weights, means, strict=True)]
    for one, other in zip(quick, slow, strict=True):
        assert math.log(one.scale) == pytest.approx(math.log(other.scale), abs=0.02)
        assert one.shape == pytest.approx(other.shape, abs=0.02)
    assert np.std([one.shape for one in quick]) > 0.02
