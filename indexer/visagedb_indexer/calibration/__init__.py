"""Which score is a match? Thresholds by error rate, from the scores of a gallery's strangers.

Functions over arrays and a view of the stored vectors; nothing here knows the database.
"""

from visagedb_indexer.calibration.cohorts import cohort_table
from visagedb_indexer.calibration.estimate import PEOPLE_MIN, Estimate, estimate
from visagedb_indexer.calibration.sample import Faces, Pause
from visagedb_indexer.calibration.tail import Tail
from visagedb_indexer.calibration.values import (
    FALSE_MATCH_RATES,
    FALSE_POSITIVE_RATES,
    Calibration,
    Cohort,
    CohortTable,
    OperatingPoint,
    SuspectedDuplicate,
)

__all__ = [
    "FALSE_MATCH_RATES", "FALSE_POSITIVE_RATES", "PEOPLE_MIN", "Calibration", "Cohort",
    "CohortTable", "Estimate", "Faces", "OperatingPoint", "Pause", "SuspectedDuplicate", "Tail",
    "cohort_table", "estimate",
]  # fmt: skip
