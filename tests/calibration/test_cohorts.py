import numpy as np
from calibration.populations import InMemory, calibrated, isotropic
from numpy.typing import NDArray
from support import unit

from visagedb_indexer.calibration import CohortTable, Faces, cohort_table
from visagedb_indexer.values import Vector


def measured(vectors: Vector, values: NDArray[np.int64], names: tuple[str, ...]) -> CohortTable:
    found = calibrated(vectors)
    faces = Faces.of(np.arange(len(vectors)), np.arange(len(vectors)))
    return cohort_table(
        InMemory(vectors), faces, values, names, "site", found.pairs, found.suspects, 1,
        lambda: None,
    )  # fmt: skip


def test_cohorts_of_one_kind_are_not_called_unequal() -> None:
    vectors = isotropic(1600, 64, 1)
    table = measured(vectors, np.arange(1600) % 4, ("a", "b", "c", "d"))
    assert len(table.cohorts) == 4
    assert not any(cohort.unequal for cohort in table.cohorts)
    for cohort in table.cohorts:
        assert cohort.rate_lower <= table.rate <= cohort.rate_upper


def test_a_cohort_whose_people_are_alike_is_marked() -> None:
    vectors = isotropic(1600, 64, 2)
    alike = np.arange(1600) % 8 == 0
    vectors[alike] = unit(vectors[alike] + 0.35 * isotropic(1, 64, 3))
    table = measured(vectors, np.where(alike, 1, 0), ("others", "alike"))
    others, cohort = table.cohorts
    assert (others.value, cohort.value) == ("others", "alike")
    assert cohort.unequal
    assert cohort.rate > 2 * table.rate
    assert cohort.threshold > table.threshold


def test_too_small_cohorts_are_left_out_and_counted() -> None:
    vectors = isotropic(400, 64, 4)
    values = np.where(np.arange(400) < 10, 1, 0)
    values[:3] = -1
    table = measured(vectors, values, ("many", "few"))
    assert [cohort.value for cohort in table.cohorts] == ["many"]
    assert table.cohorts[0].identity_count == 390
    assert table.left_out == 1
