"""The upper tail of a distribution of impostor scores, and how it is fitted.

Peaks over threshold: beyond a high score the excesses follow a generalised Pareto
distribution (Pickands 1975, "Statistical inference using extreme order statistics"; Balkema
and de Haan 1974, "Residual life time at great age"). Three things are particular to faces:

- The top is not trusted. Two identities that are one person look like the most similar
  strangers of all. The likelihood is therefore truncated at an upper score: what lies above
  it has no influence.
- Cosines are bounded, and of sums of many parts, so their tail is light. For a tail like a
  Gaussian's the shape at the rate p is near -1/z(p)², that is -0.12 to -0.04 at the rates of
  interest; a weak normal prior on the shape says so (as Coles and Dixon 1999,
  "Likelihood-based inference for extreme value models", penalise it).
- Where the tail begins is found by goodness of fit: the longest window that the Cramér-von
  Mises statistic does not refuse (critical values: Choulakian and Stephens 2001, "Goodness-of-fit
  tests for the generalized Pareto distribution").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

Floats: TypeAlias = NDArray[np.float64]

SHAPE_PRIOR_MEAN: Final = -0.07
SHAPE_PRIOR_DEVIATION: Final = 0.05
_SHAPE_BOUNDS: Final = (-0.45, 0.45)
_WINDOW_GROWTH: Final = 1.6
_REFUSED_ABOVE: Final = 0.13
"""Cramér-von Mises statistic of a fitted window; of tails of this kind one in ten is above."""
_RATE_MIN: Final = 1e-300
_STEP: Final = 1e-3
"""Of finite differences, in the logarithm of the scale and in the shape."""


@dataclass(frozen=True, slots=True)
class Pareto:
    """A generalised Pareto distribution of excesses: scale in cosine, shape without unit."""

    scale: float
    shape: float

    def survival(self, excess: ArrayLike) -> Floats:
        """Probability that an excess is larger, by excess."""
        y = np.maximum(np.asarray(excess, np.float64), 0.0) / self.scale
        if abs(self.shape) < 1e-9:
            return np.exp(-y)
        inside = np.maximum(1.0 + self.shape * y, 0.0)
        with np.errstate(divide="ignore"):
            result: Floats = inside ** (-1.0 / self.shape)
        return result

    def excess(self, survival: float) -> float:
        """The excess that is passed with this probability."""
        if abs(self.shape) < 1e-9:
            return -self.scale * math.log(survival)
        return self.scale / self.shape * math.expm1(-self.shape * math.log(survival))


@dataclass(frozen=True, slots=True)
class Tail:
    """How often an impostor's score is at least so high.

    Attributes:
        scores: Knots of the body, ascending cosines, the last at `start`.
        rates: Fraction of impostor scores at or above each knot, descending.
        start: Cosine from which the fitted tail holds.
        start_rate: Fraction of impostor scores above `start`.
        scale: Of the generalised Pareto distribution of the excesses, in cosine.
        shape: Of the same; negative for a tail that ends.
        count: Pairs of identities behind the fit.
    """

    scores: tuple[float, ...]
    rates: tuple[float, ...]
    start: float
    start_rate: float
    scale: float
    shape: float
    count: int

    def rate(self, score: float) -> float:
        """Fraction of impostor scores that are at least `score`."""
        if score >= self.start:
            above = Pareto(self.scale, self.shape).survival(score - self.start)
            return max(self.start_rate * float(above), _RATE_MIN)
        return float(np.exp(np.interp(score, self.scores, np.log(self.rates))))

    def score(self, rate: float) -> float:
        """The cosine that this fraction of impostor scores reaches, at most 1."""
        if rate <= self.start_rate:
            excess = Pareto(self.scale, self.shape).excess(rate / self.start_rate)
            return min(1.0, self.start + excess)
        return float(np.interp(-math.log(rate), -np.log(self.rates), self.scores))

    def scaled(self, factor: float) -> "Tail":
        """The tail with every rate multiplied."""
        rates = tuple(min(1.0, rate * factor) for rate in self.rates)
        return replace(self, rates=rates, start_rate=self.start_rate * factor)


def fit_pareto(
    excesses: Floats,
    weights: Floats,
    highest: float = math.inf,
    prior_mean: float = SHAPE_PRIOR_MEAN,
) -> Pareto:
    """Maximum likelihood, truncated at `highest` and penalised by the prior of the shape.

    Args:
        excesses: Shape (n,), above zero; those above `highest` have no influence.
        weights: Shape (n,); their sum is the number of observations they stand for.
        highest: Excess at which the distribution is cut.
        prior_mean: Centre of the prior of the shape.
    """
    inside = excesses <= highest
    y, w = excesses[inside], weights[inside]
    total = float(w.sum())
    mean = float(np.average(y, weights=w))

    def loss(parameters: Floats) -> float:
        scale, shape = math.exp(parameters[0]), float(parameters[1])
        if not _SHAPE_BOUNDS[0] < shape < _SHAPE_BOUNDS[1]:
            return math.inf
        prior = ((shape - prior_mean) / SHAPE_PRIOR_DEVIATION) ** 2 / 2
        if abs(shape) < 1e-6:
            shape = 1e-6
        z = shape / scale * y
        if z.min() <= -1.0:
            return math.inf
        fit = total * math.log(scale) + (1.0 + 1.0 / shape) * float(w @ np.log1p(z))
        if math.isfinite(highest):
            fit += total * math.log1p(-float(Pareto(scale, shape).survival(highest)))
        return fit + prior

    start = np.array([math.log(mean * (1.0 - prior_mean)), prior_mean])
    # A start whose end lies below the largest excess has no likelihood.
    start[0] = max(start[0], math.log(-min(prior_mean, 0.0) * float(y.max()) * 1.05 + 1e-12))
    simplex = start + np.array([[0.0, 0.0], [0.1, 0.0], [0.0, 0.03]])
    options = {"initial_simplex": simplex, "xatol": 1e-4, "fatol": 1e-3}
    found = optimize.minimize(loss, start, method="Nelder-Mead", options=options)
    return Pareto(math.exp(found.x[0]), float(found.x[1]))


def refitted(
    pareto: Pareto, excesses: Floats, weights: Floats, highest: float, prior_means: Floats
) -> list[Pareto]:
    """The fit again for many weightings of the same excesses, by one step of Newton each.

    A step from the fit is as good as a whole search, for weights that differ by chance (Schucany
    and Wang 1991, "One-step bootstrapping for smooth iterative procedures"), and all of them
    are two products of matrices.

    Args:
        pareto: The fit without weights.
        excesses: Shape (n,), none above `highest`.
        weights: Shape (fits, n).
        highest: Excess at which the distribution is cut.
        prior_means: Centres of the prior of the shape, shape (fits,).
    """
    scale, shape = math.log(pareto.scale), pareto.shape

    def loss(along_scale: int, along_shape: int) -> Floats:
        return _losses(excesses, scale + _STEP * along_scale, shape + _STEP * along_shape, highest)

    here, up, down, right, left = loss(0, 0), loss(1, 0), loss(-1, 0), loss(0, 1), loss(0, -1)
    crossed = loss(1, 1) - loss(1, -1) - loss(-1, 1) + loss(-1, -1)
    slopes = np.stack([up - down, right - left], axis=1) / (2 * _STEP)
    bends = np.stack([up - 2 * here + down, right - 2 * here + left, crossed / 4], axis=1)
    slope, bend = weights @ slopes, weights @ (bends / _STEP**2)
    precision = 1.0 / SHAPE_PRIOR_DEVIATION**2
    slope[:, 1] += precision * (shape - prior_means)
    bend[:, 1] += precision
    determinant = np.maximum(bend[:, 0] * bend[:, 1] - bend[:, 2] ** 2, 1e-9)
    scales = scale - (bend[:, 1] * slope[:, 0] - bend[:, 2] * slope[:, 1]) / determinant
    shapes = shape - (bend[:, 0] * slope[:, 1] - bend[:, 2] * slope[:, 0]) / determinant
    scales = np.clip(scales, scale - 1.0, scale + 1.0)
    shapes = np.clip(shapes, *_SHAPE_BOUNDS)
    return [Pareto(math.exp(a), float(b)) for a, b in zip(scales, shapes, strict=True)]


def _losses(excesses: Floats, log_scale: float, shape: float, highest: float) -> Floats:
    """Minus the logarithm of the density of each excess, cut at `highest`."""
    pareto = Pareto(math.exp(log_scale), shape if abs(shape) > 1e-6 else 1e-6)
    z = np.maximum(pareto.shape / pareto.scale * excesses, -1.0 + 1e-9)
    losses: Floats = log_scale + (1.0 + 1.0 / pareto.shape) * np.log1p(z)
    if math.isfinite(highest):
        losses += math.log1p(-float(pareto.survival(highest)))
    return losses


def misfit(pareto: Pareto, excesses: Floats, weights: Floats, highest: float) -> float:
    """Cramér-von Mises statistic of a fit to the excesses up to `highest`; weighted."""
    inside = excesses <= highest
    order = np.argsort(excesses[inside])
    y, w = excesses[inside][order], weights[inside][order]
    count = float(w.sum()) ** 2 / float(w @ w)
    cut = 1.0 - float(pareto.survival(highest)) if math.isfinite(highest) else 1.0
    expected = (1.0 - pareto.survival(y)) / cut
    share = w / w.sum()
    middle = np.cumsum(share) - share / 2
    return float(count * (share @ (expected - middle) ** 2) + 1.0 / (12.0 * count))


def windows(count: int, fewest: int, most: int) -> Sequence[int]:
    """How many of the highest scores to try, most first."""
    sizes = []
    size = float(min(count, most))
    while size >= fewest:
        sizes.append(int(size))
        size /= _WINDOW_GROWTH
    return sizes or [count]


def fits(pareto: Pareto, excesses: Floats, weights: Floats, highest: float) -> bool:
    """Whether goodness of fit lets a window stand."""
    return misfit(pareto, excesses, weights, highest) <= _REFUSED_ABOVE
