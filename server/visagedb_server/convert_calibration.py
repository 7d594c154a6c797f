"""Calibrations as messages."""

from visagedb.v1 import galleries_pb2
from visagedb_indexer.calibration import Calibration, CohortTable, OperatingPoint, Tail
from visagedb_server import names
from visagedb_server.convert import timestamp


def calibration(gallery_id: str, found: Calibration) -> galleries_pb2.Calibration:
    """A calibration of a gallery."""
    message = galleries_pb2.Calibration(
        name=names.calibration_name(gallery_id, found.version),
        version=found.version,
        create_time=timestamp(found.create_time_us),
        gallery_generation=found.generation,
        identity_count=found.identity_count,
        face_count=found.face_count,
        probe_count=found.probe_count,
        pair_count=found.pair_count,
        duration_seconds=found.seconds,
        pair_tail=_tail(found.pairs),
        search_tail=_tail(found.searches),
        clumping=found.clumping,
        false_match=map(_point, found.false_match),
        false_positive=map(_point, found.false_positive),
        suspected_duplicate_count=found.suspected_count,
        suspected_from=found.suspected_from,
    )
    for pair in found.suspected:
        message.suspected_duplicates.add(
            first=names.identity_name(gallery_id, pair.first),
            second=names.identity_name(gallery_id, pair.second),
            score=pair.score,
        )
    if found.cohorts is not None:
        message.cohorts.CopyFrom(_cohorts(found.cohorts))
    return message


def _tail(tail: Tail) -> galleries_pb2.ScoreTail:
    return galleries_pb2.ScoreTail(
        start=tail.start,
        start_rate=tail.start_rate,
        scale=tail.scale,
        shape=tail.shape,
        pair_count=tail.count,
    )


def _point(point: OperatingPoint) -> galleries_pb2.CalibratedPoint:
    return galleries_pb2.CalibratedPoint(
        rate=point.rate,
        threshold=point.threshold,
        rate_lower=point.rate_lower,
        rate_upper=point.rate_upper,
        supported=point.supported,
    )


def _cohorts(table: CohortTable) -> galleries_pb2.CohortTable:
    message = galleries_pb2.CohortTable(
        label_key=table.label_key,
        rate=table.rate,
        threshold=table.threshold,
        left_out_count=table.left_out,
        unequal=any(cohort.unequal for cohort in table.cohorts),
    )
    for cohort in table.cohorts:
        message.cohorts.add(
            value=cohort.value,
            identity_count=cohort.identity_count,
            pair_count=cohort.pair_count,
            rate=cohort.rate,
            rate_lower=cohort.rate_lower,
            rate_upper=cohort.rate_upper,
            threshold=cohort.threshold,
            unequal=cohort.unequal,
        )
    return message
