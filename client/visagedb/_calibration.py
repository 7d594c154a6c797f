"""What a calibration of a gallery says: thresholds by error rate, and who sets them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from visagedb._names import last_id


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold for an error rate.

    Attributes:
        rate: The rate asked for.
        threshold: The cosine at which it is expected.
        rate_lower: Lower end of the 95% confidence interval of the true rate there.
        rate_upper: Upper end.
        supported: Whether the gallery's own scores reach so far; if not, the threshold rests
            on the form of the tail.
    """

    rate: float
    threshold: float
    rate_lower: float
    rate_upper: float
    supported: bool


@dataclass(frozen=True, slots=True)
class ScoreTail:
    """The upper tail of strangers' scores: generalised Pareto above `start`.

    Attributes:
        start: A cosine.
        start_rate: Fraction of the scores above it.
        scale: Of the distribution, in cosine.
        shape: Negative for a tail that ends.
        pair_count: Pairs of identities behind the fit.
    """

    start: float
    start_rate: float
    scale: float
    shape: float
    pair_count: int


@dataclass(frozen=True, slots=True)
class SuspectedDuplicate:
    """Two identities more alike than strangers are: one person twice, or close kin.

    Attributes:
        first: Resource name of an identity.
        second: Resource name of the other.
        score: Their highest cosine.
    """

    first: str
    second: str
    score: float


@dataclass(frozen=True, slots=True)
class Cohort:
    """The strangers among the identities with one value of a label.

    Attributes:
        value: Of the label.
        rate: Their false match rate at the gallery's threshold.
        rate_lower: Lower end of its 95% confidence interval.
        rate_upper: Upper end.
        threshold: What they would need for the gallery's rate.
        unequal: Whether the rate differs from the gallery's beyond chance.
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
    """Error rates by value of a label, at one threshold for all.

    Attributes:
        label_key: The label.
        rate: False match rate of the whole gallery.
        threshold: The gallery's threshold for it.
        cohorts: The largest first.
        left_out_count: Values with too few identities, or beyond the most that are measured.
        unequal: Whether some cohort's rate is unequal beyond chance.
    """

    label_key: str
    rate: float
    threshold: float
    cohorts: Sequence[Cohort]
    left_out_count: int
    unequal: bool


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the strangers of a gallery score against each other.

    Attributes:
        name: ``galleries/{gallery}/calibrations/{version}``.
        version: Counts the calibrations of the gallery.
        gallery_generation: The gallery's content at that time.
        identity_count: Identities with faces at that time.
        probe_count: Enrolled faces that stood for strangers' probes.
        pair_count: Pairs of faces that were compared.
        pair_tail: Of a face against a face of somebody else.
        search_tail: Of a face against somebody else's identity.
        clumping: Small where some probes have most of the false matches.
        false_match: Thresholds for false match rates, one to one.
        false_positive: Thresholds for false positive identification rates, one to
            `identity_count`.
        suspected_duplicate_count: Pairs of identities too alike for strangers; they set no
            threshold.
        suspected_duplicates: The most alike of them.
        suspected_from: The cosine from which a pair is suspected.
        cohorts: By a label, if one was named.
    """

    name: str
    version: int
    create_time: datetime | None
    gallery_generation: int
    identity_count: int
    face_count: int
    probe_count: int
    pair_count: int
    duration_seconds: float
    pair_tail: ScoreTail
    search_tail: ScoreTail
    clumping: float
    false_match: Sequence[OperatingPoint]
    false_positive: Sequence[OperatingPoint]
    suspected_duplicate_count: int
    suspected_duplicates: Sequence[SuspectedDuplicate]
    suspected_from: float
    cohorts: CohortTable | None

    @property
    def id(self) -> str:
        """The version as text."""
        return last_id(self.name)
