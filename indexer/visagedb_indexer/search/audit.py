"""How many mates does the compact scan lose? Measured on the gallery's own vectors.

A mate is lost when exact search would rank it first and the rescored candidates do not hold
it. Ordinary recall hides this: in face galleries the mate of a hard probe is nobody's
neighbour. So the audit makes hard probes from stored vectors, each at a chosen cosine between
0.4 and 0.7 to its mate and otherwise turned in a direction in which the gallery's own vectors
differ, and finds the place of the mate in the compact scan. The number of candidates to rescore
follows from the places: the smallest at which the loss stays under the bound.

The confidence interval is that of Wilson (1927), "Probable Inference, the Law of Succession, and
Statistical Inference".
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer import limits
from visagedb_indexer.search.compact_index import CompactIndex
from visagedb_indexer.search.exact import scan
from visagedb_indexer.search.faces_table import FacesView
from visagedb_indexer.search.protocol import VectorSource
from visagedb_indexer.values import Vector

COSINES: Final = (0.4, 0.7)
EFFORTS: Final = (64, 100, 150, 200, 300, 400, 600, 800, 1200, 1600)
_PROBES: Final = 4000
_EXACT_CHECKS_MAX: Final = 100
_Z_95: Final = 1.96


@dataclass(frozen=True, slots=True)
class Audit:
    """The outcome of an audit.

    Attributes:
        effort: Candidates to rescore.
        probe_count: Probes that exact search would answer with their mate.
        lost_count: Of these, how many lose it at that effort.
        face_count: Faces in the codes at the time.
        generation: Of the codes that were audited.
    """

    effort: int
    probe_count: int
    lost_count: int
    face_count: int
    generation: int

    @property
    def measured(self) -> float:
        """Fraction of mates lost."""
        return self.lost_count / self.probe_count if self.probe_count else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The measured fraction's 95% confidence interval."""
        return wilson_interval(self.lost_count, self.probe_count)


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95% confidence interval of a proportion."""
    if count == 0:
        return 0.0, 1.0
    z2 = _Z_95**2
    centre = (hits + z2 / 2) / (count + z2)
    spread = _Z_95 / (count + z2) * math.sqrt(hits * (count - hits) / count + z2 / 4)
    return max(0.0, centre - spread), min(1.0, centre + spread)


def audit(
    index: CompactIndex, source: VectorSource, faces: FacesView, stopped: Callable[[], bool]
) -> Audit | None:
    """Measures the loss of an index; None when it was stopped.

    Args:
        index: The codes.
        source: The stored vectors.
        faces: The faces that exist.
        stopped: Asked between probes.
    """
    random = np.random.default_rng(index.generation)
    live = np.flatnonzero(FacesView(faces.owners[: index.indexed]).passing(None))
    if not len(live):
        return Audit(EFFORTS[-1], 0, 0, 0, index.generation)
    mates = random.choice(live, _PROBES)
    probes = _probes(source, mates, random.choice(live, (2, _PROBES)), random)
    places = np.empty(_PROBES, dtype=np.int64)
    for number, probe in enumerate(probes):
        if stopped():
            return None
        found = index.search(index.codec.rotate(probe[None]), EFFORTS[-1], None)
        (place,) = np.nonzero(found == mates[number])
        places[number] = place[0] if len(place) else EFFORTS[-1]
    late = np.flatnonzero(places >= EFFORTS[0])[:_EXACT_CHECKS_MAX]
    # What exact search does not rank first either is not lost by the codes.
    wrong = [i for i in late if not _is_first(source, faces, probes[i], int(mates[i]))]
    places = np.delete(places, wrong)
    losses = [int(np.count_nonzero(places >= effort)) for effort in EFFORTS]
    chosen = len(EFFORTS) - 1
    for step, lost in enumerate(losses):
        if wilson_interval(lost, len(places))[1] <= limits.MATE_LOSS_BOUND:
            chosen = step
            break
    return Audit(EFFORTS[chosen], len(places), losses[chosen], len(live), index.generation)


def _probes(
    source: VectorSource,
    mates: NDArray[np.int64],
    others: NDArray[np.int64],
    random: np.random.Generator,
) -> Vector:
    """One probe for each mate, shape (n, dimension), unit length."""
    with source.read() as view:
        centres, one, other = (view.vectors(rows) for rows in (mates, others[0], others[1]))
    away = one - other
    away -= np.sum(away * centres, axis=1, keepdims=True) * centres
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
    cosines = random.uniform(*COSINES, (len(mates), 1)).astype(np.float32)
    probes: Vector = cosines * centres + np.sqrt(1.0 - cosines**2) * away
    return probes


def _is_first(source: VectorSource, faces: FacesView, probe: Vector, mate: int) -> bool:
    with source.read() as view:
        scores = scan(view, probe, 0, faces.count)
    scores[faces.owners < 0] = -np.inf
    return int(np.argmax(scores)) == mate
