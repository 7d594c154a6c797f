"""Error rates of identification, from the searches of several splits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from visagedb_indexer.evaluation.bootstrap import Bootstrap, Interval, band_of, interval_of_rate
from visagedb_indexer.evaluation.identification import OpenSet, Searches
from visagedb_indexer.evaluation.rates import (
    Floats,
    Indices,
    Scores,
    above,
    below,
    threshold_at,
    weighted_below,
    weighted_threshold_at,
)
from visagedb_indexer.evaluation.verification import EXPECTED_ERRORS_MIN

FALSE_POSITIVE_RATES: Final = (0.10, 0.03, 0.01)
RANK_MAX: Final = 20
CURVE_POINTS: Final = 60
FORECAST_FACTOR: Final = 100

_Outcome: TypeAlias = tuple[Scores, Indices, Scores, Indices]
"""Hits ascending with their people, strangers' best scores descending with theirs."""


@dataclass(frozen=True, slots=True)
class IdentificationPoint:
    """What a threshold chosen by its false positive identification rate costs.

    Attributes:
        target_fpir: The rate that was asked for.
        threshold: Mean over the splits.
        fpir: The measured rate, at most the target; mean over the splits.
        fnir: Mean over the splits.
        fnir_interval: 95%.
        reliable: Whether enough non-mated probes stand behind the rate.
    """

    target_fpir: float
    threshold: float
    fpir: float
    fnir: float
    fnir_interval: Interval | None
    reliable: bool


@dataclass(frozen=True, slots=True)
class RankPoint:
    """One point of the cumulative match characteristic.

    Attributes:
        rank: 1 being first.
        rate: Fraction of mated probes whose mate has this rank or a better one.
        interval: 95%.
    """

    rank: int
    rate: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class SizePoint:
    """A gallery of another size.

    Attributes:
        people: Enrolled.
        fnir: With the threshold chosen for this size; mean over the splits.
        fnir_interval: 95%.
        rank_one_miss: Fraction of mated probes whose mate is not first.
        fpir: At the threshold that the whole gallery needs.
    """

    people: int
    fnir: float
    fnir_interval: Interval | None
    rank_one_miss: float
    fpir: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """FPIR of a larger gallery, if nobody changes the threshold.

    Attributes:
        people: Enrolled.
        fpir: 1 - (1 - FPIR(N)) ** (people / N): as if further people were strangers like
            those that are enrolled.
    """

    people: int
    fpir: float


@dataclass(frozen=True, slots=True, eq=False)
class OpenSetCurve:
    """FNIR against FPIR, shape (n,) each; `lower` and `upper` are a 95% band."""

    fpir: Floats
    fnir: Floats
    lower: Floats
    upper: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Identification:
    """All about one-to-many search.

    Attributes:
        protocol: How people and faces were divided.
        splits: How many were averaged; those without mated probes are left out.
        enrolled_people: Mean over the splits, as the next two.
        mated_probes: Probes of enrolled people.
        stranger_probes: Probes of people who are not.
        points: Operating points, by falling FPIR.
        ranks: The cumulative match characteristic.
        curve: The trade-off.
        growth_fpir: FPIR at which galleries of different sizes are compared.
        sizes: By growing gallery.
        forecast: Beyond the size that was measured.
    """

    protocol: OpenSet
    splits: int
    enrolled_people: int
    mated_probes: int
    stranger_probes: int
    points: tuple[IdentificationPoint, ...]
    ranks: tuple[RankPoint, ...]
    curve: OpenSetCurve
    growth_fpir: float
    sizes: tuple[SizePoint, ...]
    forecast: tuple[Forecast, ...]


def identification(
    splits: Sequence[Searches],
    protocol: OpenSet,
    people: int,
    bootstrap: Bootstrap,
    rates: Sequence[float] = FALSE_POSITIVE_RATES,
) -> Identification | None:
    """Error rates of identification.

    Args:
        splits: Searches whose galleries have the same sizes.
        protocol: That they followed.
        people: How many there are in all.
        bootstrap: For the confidence intervals.
        rates: FPIR of the operating points, falling. One at which less than one false positive
            is expected is left out.

    Returns:
        None without any split.
    """
    if not splits:
        return None
    strangers = min(len(split.stranger_owners) for split in splits)
    lowest = min(0.1, 1.0 / strangers)
    grid = np.concatenate([np.asarray(rates), np.geomspace(lowest, 1.0, CURVE_POINTS)])
    whole = len(splits[0].sizes) - 1
    outcomes = [_outcome(split, whole) for split in splits]
    measured = np.mean([_fnir(outcome, grid) for outcome in outcomes], axis=0)
    draws = _repeated(outcomes, people, bootstrap, grid)
    counts = np.bincount(np.concatenate([split.mated_owners for split in splits]))
    kept = [rate for rate in rates if rate * strangers >= 1] or list(rates[:1])
    sizes = _sizes(splits, people, bootstrap, kept[-1])
    lower, upper = band_of(draws[:, len(rates) :], measured[len(rates) :], counts)
    return Identification(
        protocol=protocol,
        splits=len(splits),
        enrolled_people=int(splits[0].sizes[-1]),
        mated_probes=round(float(np.mean([len(s.mated_owners) for s in splits]))),
        stranger_probes=round(float(np.mean([len(s.stranger_owners) for s in splits]))),
        points=tuple(
            IdentificationPoint(
                target_fpir=rate,
                threshold=float(np.mean([threshold_at(o[2][::-1], rate) for o in outcomes])),
                fpir=float(
                    np.mean([above(o[2][::-1], threshold_at(o[2][::-1], rate)) for o in outcomes])
                ),
                fnir=float(measured[column]),
                fnir_interval=interval_of_rate(draws[:, column], float(measured[column]), counts),
                reliable=rate * strangers >= EXPECTED_ERRORS_MIN,
            )
            for column, rate in enumerate(kept)
        ),
        ranks=_ranks(splits, people, counts, bootstrap),
        curve=OpenSetCurve(grid[len(rates) :], measured[len(rates) :], lower, upper),
        growth_fpir=kept[-1],
        sizes=sizes,
        forecast=_forecast(sizes[-1]),
    )


def _outcome(split: Searches, part: int) -> _Outcome:
    hits, hit_owners = split.hits(part)
    best, owners = split.stranger_scores[:, part], split.stranger_owners
    up, down = np.argsort(hits), np.argsort(-best)
    return hits[up], hit_owners[up], best[down], owners[down]


def _fnir(outcome: _Outcome, rates: Floats) -> Floats:
    hits, _, strangers, _ = outcome
    if not len(hits):
        return np.full(len(rates), np.nan)
    return below(hits, threshold_at(strangers[::-1], rates))


def _repeated(
    outcomes: Sequence[_Outcome], people: int, bootstrap: Bootstrap, rates: Floats
) -> Floats:
    """FNIR of each repetition, mean over the splits, shape (draws, rates).

    The people who are searched for are drawn; the galleries stay as they are.
    """
    draws = np.full((bootstrap.draws, len(rates)), np.nan)
    for row, weights in enumerate(bootstrap.weights(people)):
        values = []
        for hits, owners, strangers, stranger_owners in outcomes:
            total = float(weights[stranger_owners].sum())
            if total > 0 and len(hits):
                thresholds = weighted_threshold_at(
                    strangers, weights[stranger_owners], total, rates
                )
                values.append(weighted_below(hits, weights[owners], thresholds))
        known = [value for value in values if np.isfinite(value).all()]
        if known:
            draws[row] = np.mean(known, axis=0)
    return draws


def _ranks(
    splits: Sequence[Searches], people: int, counts: Indices, bootstrap: Bootstrap
) -> tuple[RankPoint, ...]:
    last = min(RANK_MAX, int(splits[0].sizes[-1]))
    steps = np.arange(1, last + 1)
    # For each split, within[p, r]: how many probes of person p have their mate at rank r or
    # better; and how many probes the person has.
    within = []
    for split in splits:
        at_rank = np.zeros((people, last + 1))
        np.add.at(at_rank, (split.mated_owners, np.minimum(split.mated_ranks, last + 1) - 1), 1)
        within.append(np.cumsum(at_rank, axis=1))
    rates = np.mean([w[:, :last].sum(axis=0) / w[:, last].sum() for w in within], axis=0)
    draws = np.full((bootstrap.draws, last), np.nan)
    for row, weights in enumerate(bootstrap.weights(people)):
        sums = [weights @ w for w in within]
        known = [s[:last] / s[last] for s in sums if s[last] > 0]
        if known:
            draws[row] = np.mean(known, axis=0)
    points: list[RankPoint] = []
    for column, (rank, rate) in enumerate(zip(steps, rates, strict=True)):
        interval = interval_of_rate(draws[:, column], float(rate), counts)
        before = points[-1].interval if points else None
        if interval is not None and before is not None:
            # Whoever is found at one rank is found at the next.
            interval = Interval(max(interval.lower, before.lower), interval.upper)
        points.append(RankPoint(int(rank), float(rate), interval))
    return tuple(points)


def _sizes(
    splits: Sequence[Searches], people: int, bootstrap: Bootstrap, fpir: float
) -> tuple[SizePoint, ...]:
    rate = np.array([fpir])
    thresholds = [threshold_at(np.sort(split.stranger_scores[:, -1]), fpir) for split in splits]
    points = []
    for part, size in enumerate(splits[0].sizes):
        # A small gallery of a split may have nobody who is searched for.
        outcomes = [o for o in (_outcome(split, part) for split in splits) if len(o[0])]
        if not outcomes:
            continue
        fnir = float(np.mean([_fnir(outcome, rate)[0] for outcome in outcomes]))
        draws = _repeated(outcomes, people, bootstrap, rate)[:, 0]
        counts = np.bincount(np.concatenate([owners for _, owners, _, _ in outcomes]))
        points.append(
            SizePoint(
                people=int(size),
                fnir=fnir,
                fnir_interval=interval_of_rate(draws, fnir, counts),
                rank_one_miss=float(np.mean([np.mean(o[0] < -1) for o in outcomes])),
                fpir=float(
                    np.mean(
                        [
                            np.mean(split.stranger_scores[:, part] >= threshold)
                            for split, threshold in zip(splits, thresholds, strict=True)
                        ]
                    )
                ),
            )
        )
    return tuple(points)


def _forecast(whole: SizePoint) -> tuple[Forecast, ...]:
    factors = np.geomspace(1, FORECAST_FACTOR, 17)
    return tuple(
        Forecast(round(whole.people * float(factor)), float(1 - (1 - whole.fpir) ** factor))
        for factor in factors
    )
