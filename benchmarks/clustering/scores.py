"""How well a partition of faces agrees with the persons."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Agreement:
    """Precision and recall of a partition, seen from faces and from pairs.

    B-cubed (Bagga and Baldwin 1998) averages over faces; pairwise figures count pairs of
    faces, so that one large wrong merge shows.
    """

    b_cubed_precision: float
    b_cubed_recall: float
    pairwise_precision: float
    pairwise_recall: float

    @property
    def b_cubed_f(self) -> float:
        return _harmonic(self.b_cubed_precision, self.b_cubed_recall)

    @property
    def pairwise_f(self) -> float:
        return _harmonic(self.pairwise_precision, self.pairwise_recall)

    def as_dict(self) -> dict[str, float]:
        """All figures by name."""
        return {
            "b_cubed_f": self.b_cubed_f,
            "b_cubed_precision": self.b_cubed_precision,
            "b_cubed_recall": self.b_cubed_recall,
            "pairwise_f": self.pairwise_f,
            "pairwise_precision": self.pairwise_precision,
            "pairwise_recall": self.pairwise_recall,
        }


def agreement(
    labels: NDArray[np.integer],
    people: NDArray[np.generic],
    judged: NDArray[np.bool_] | None = None,
) -> Agreement:
    """Compares clusters with persons.

    Args:
        labels: The cluster of each face, shape (n,).
        people: Whose it is, shape (n,).
        judged: Faces to average over, shape (n,); the others still count as company in a
            cluster. All by default.
    """
    _, cluster = np.unique(labels, return_inverse=True)
    _, person = np.unique(people, return_inverse=True)
    keys = cluster.astype(np.int64) * (int(person.max()) + 1) + person
    _, cell, shared = np.unique(keys, return_inverse=True, return_counts=True)
    together = shared[cell].astype(np.float64)
    in_cluster = np.bincount(cluster)[cluster].astype(np.float64)
    of_person = np.bincount(person)[person].astype(np.float64)
    if judged is not None:
        together, in_cluster, of_person = (x[judged] for x in (together, in_cluster, of_person))
    return Agreement(
        float(np.mean(together / in_cluster)),
        float(np.mean(together / of_person)),
        _share(together - 1, in_cluster - 1),
        _share(together - 1, of_person - 1),
    )


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> float:
    total = float(whole.sum())
    return float(part.sum()) / total if total else 1.0


def _harmonic(one: float, other: float) -> float:
    return 2 * one * other / (one + other) if one + other else 0.0
