"""What a calibration says, in plain numbers. Kept in the gallery's database as it is."""

import math
from dataclasses import dataclass
from typing import Final

from visagedb_indexer.calibration.tail import Tail
from visagedb_indexer.values import Fusion

FALSE_MATCH_RATES: Final = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
FALSE_POSITIVE_RATES: Final = (0.1, 0.03, 0.01, 0.003, 0.001)
"""False positive identification rates of the table."""
_CLAIMED_LEAST: Final = 1e-3
"""Of one pair among all compared: no probability below this is claimed of a score."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold for an error rate.

    Attributes:
        rate: The rate asked for.
        threshold: The cosine at which it is expected.
        rate_lower: Lower end of the 95% confidence interval of the true rate there.
        rate_upper: Upper end.
        supported: Whether the gallery's own scores reach so far; if not, the threshold rests on
            the form of the tail.
    """

    rate: float
    threshold: float
    rate_lower: float
    rate_upper: float
    supported: bool


@dataclass(frozen=True, slots=True)
class SuspectedDuplicate:
    """Two identities more alike than strangers are: one person under two ids, or close kin."""

    first: str
    second: str
    score: float


@dataclass(frozen=True, slots=True)
class Cohort:
    """The impostors among the identities with one value of a label.

    Attributes:
        value: Of the label.
        identity_count: Identities with it that have faces.
        pair_count: Pairs of faces compared.
        rate: Their false match rate at the gallery's threshold.
        rate_lower: Lower end of its 95% confidence interval.
        rate_upper: Upper end.
        threshold: What this cohort would need for the rate that the gallery's threshold has.
        unequal: Whether the rate differs from the gallery's beyond chance, all cohorts together
            at the 5% level.
    """

    value: str
    identity_count: int
    pair_count: int
    rate: float
    rate_lower: float
    rate_upper: float
    threshold: float
    unequal: bool


@dataclass(frozen=True, slots=True)
class CohortTable:
    """Error rates by value of a label.

    Attributes:
        label_key: The label.
        rate: False match rate of the whole gallery at the threshold.
        threshold: The gallery's threshold for that rate.
        cohorts: One for each value, the largest first.
        left_out: Values with too few identities, or beyond the most that are measured.
    """

    label_key: str
    rate: float
    threshold: float
    cohorts: tuple[Cohort, ...]
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the impostors of a gallery score.

    Attributes:
        version: Counts the calibrations of a gallery from 1; 0 before it is kept.
        create_time_us: When, in microseconds since 1970.
        generation: The gallery's content at that time.
        identity_count: Identities with faces at that time.
        face_count: Their faces.
        probe_count: Enrolled faces used as strangers' probes.
        pair_count: Pairs of faces compared.
        seconds: How long it took.
        pairs: Scores of a face against a face of somebody else.
        searches: Scores of a face against somebody else's identity, its best face counting.
        clumping: Index of the negative binomial distribution of a probe's false matches; small
            where some probes have most of them.
        false_match: Thresholds for false match rates.
        false_positive: Thresholds for false positive identification rates at `identity_count`.
        suspected_count: Suspected duplicates among the pairs compared; they set no threshold.
        suspected: The most alike of them.
        suspected_from: The cosine from which a pair is suspected.
        cohorts: By a label, if one was named.
        fusion: How several faces of an identity made one score.
    """

    version: int
    create_time_us: int
    generation: int
    identity_count: int
    face_count: int
    probe_count: int
    pair_count: int
    seconds: float
    pairs: Tail
    searches: Tail
    clumping: float
    false_match: tuple[OperatingPoint, ...]
    false_positive: tuple[OperatingPoint, ...]
    suspected_count: int
    suspected: tuple[SuspectedDuplicate, ...]
    suspected_from: float
    cohorts: CohortTable | None = None
    fusion: Fusion = Fusion.MAXIMUM

    def false_match_threshold(self, rate: float) -> float:
        """The cosine for a false match rate of one face against one face."""
        return self.pairs.score(rate)

    def false_match_rate(self, score: float) -> float:
        """How often a face scores so high against a stranger's."""
        return max(self.pairs.rate(score), self._least_rate())

    def false_positive_threshold(self, rate: float, identities: int) -> float:
        """The cosine for a false positive identification rate among so many identities."""
        return self.searches.score(self._rate_per_identity(rate, identities))

    def false_positive_rate(self, score: float, identities: int) -> float:
        """How often a stranger's best score among so many identities is as high."""
        return false_positive_rate(self.search_rate(score), identities, self.clumping)

    def supports_false_match(self, rate: float) -> bool:
        """Whether the scores behind the calibration reach a false match rate."""
        return rate >= min((p.rate for p in self.false_match if p.supported), default=1.0)

    def supports_false_positive(self, rate: float, identities: int) -> bool:
        """Whether they reach a false positive identification rate among so many identities."""
        return self.supports_search(self._rate_per_identity(rate, identities))

    def search_rate(self, score: float) -> float:
        """How often a face scores so high against a stranger's identity."""
        return max(self.searches.rate(score), self._least_rate())

    def search_threshold(self, rate: float) -> float:
        """The cosine for a false match rate of one face against one identity."""
        return self.searches.score(rate)

    def supports_search(self, rate: float) -> bool:
        """Whether the scores reach a false match rate of one face against one identity."""
        lowest = min((p.rate for p in self.false_positive if p.supported), default=0.999)
        return rate >= self._rate_per_identity(lowest, self.identity_count) * (1 - 1e-9)

    def _least_rate(self) -> float:
        return _CLAIMED_LEAST / max(1, self.pair_count)

    def _rate_per_identity(self, rate: float, identities: int) -> float:
        return rate_per_identity(rate, max(1, identities), self.clumping)


def false_positive_rate(rate_per_identity: float, identities: int, clumping: float) -> float:
    """Chance that a probe has a false match, when false matches clump on some probes.

    The number of false matches of a probe is negative binomial: Poisson, with an intensity
    that differs between probes as a gamma variable of index `clumping`.
    """
    expected = identities * rate_per_identity
    return -math.expm1(-clumping * math.log1p(expected / clumping))


def rate_per_identity(rate: float, identities: int, clumping: float) -> float:
    """Inverse of `false_positive_rate`: what each identity may contribute."""
    expected = clumping * math.expm1(-math.log1p(-rate) / clumping)
    return min(1.0, expected / identities)
