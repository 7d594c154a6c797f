"""Calibrations, from protobuf to frozen values."""

from visagedb import _calibration as values
from visagedb._moments import moment
from visagedb.v1 import galleries_pb2 as pb


def calibration(message: pb.Calibration) -> values.Calibration:
    """A calibration of a gallery."""
    return values.Calibration(
        name=message.name,
        version=message.version,
        create_time=moment(message.create_time),
        gallery_generation=message.gallery_generation,
        identity_count=message.identity_count,
        face_count=message.face_count,
        probe_count=message.probe_count,
        pair_count=message.pair_count,
        duration_seconds=message.duration_seconds,
        pair_tail=_tail(message.pair_tail),
        search_tail=_tail(message.search_tail),
        clumping=message.clumping,
        false_match=tuple(map(_point, message.false_match)),
        false_positive=tuple(map(_point, message.false_positive)),
        suspected_duplicate_count=message.suspected_duplicate_count,
        suspected_duplicates=tuple(
            values.SuspectedDuplicate(pair.first, pair.second, pair.score)
            for pair in message.suspected_duplicates
        ),
        suspected_from=message.suspected_from,
        cohorts=_cohorts(message.cohorts) if message.HasField("cohorts") else None,
    )


def _point(message: pb.CalibratedPoint) -> values.OperatingPoint:
    return values.OperatingPoint(
        rate=message.rate,
        threshold=message.threshold,
        rate_lower=message.rate_lower,
        rate_upper=message.rate_upper,
        supported=message.supported,
    )


def _tail(message: pb.ScoreTail) -> values.ScoreTail:
    return values.ScoreTail(
        start=message.start,
        start_rate=message.start_rate,
        scale=message.scale,
        shape=message.shape,
        pair_count=message.pair_count,
    )


def _cohorts(message: pb.CohortTable) -> values.CohortTable:
    return values.CohortTable(
        label_key=message.label_key,
        rate=message.rate,
        threshold=message.threshold,
        cohorts=tuple(
            values.Cohort(
                value=cohort.value,
                identity_count=cohort.identity_count,
                pair_count=cohort.pair_count,
                rate=cohort.rate,
                rate_lower=cohort.rate_lower,
                rate_upper=cohort.rate_upper,
                threshold=cohort.threshold,
                unequal=cohort.unequal,
            )
            for cohort in message.cohorts
        ),
        left_out_count=message.left_out_count,
        unequal=message.unequal,
    )
