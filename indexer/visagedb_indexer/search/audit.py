"""How many mates does the compact scan lose? Measured on the gallery's own vectors.

A mate is lost when exact search would rank it first and the rescored candidates do not hold
it. Ordinary recall hides this: in face galleries the mate of a hard probe is nobody's
neighbour. So the audit makes hard probes from stored vectors, each at a cosine of 0.4 to its
mate and otherwise a random mixture of other faces, and finds the place of the mate in the
compact scan. Only probes count whose mate is the best of all
candidates exactly compared. Easier probes lose less, so the bound holds at every cosine from
0.4 up. The number of candidates to rescore follows from the places: the smallest that keeps the
loss under half the bound, and then one step more.

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

COSINE: Final = 0.4
EFFORTS: Final = (100, 150, 200, 300, 400, 600, 800, 1200, 1600, 2400)
_PROBES_DRAWN: Final = 6000
_PROBES_WANTED: Final = 2000
_PROBES_HOPELESS: Final = 500
"""In a gallery where so few hard probes have their mate first, more of them teach nothing."""
_MIXED: Final = 2048
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
    mates = random.choice(live, _PROBES_DRAWN)
    probes = _probes(source, mates, random.choice(live, _MIXED), random)
    places: list[int] = []
    exact_checks = 0
    for number, (mate, probe) in enumerate(zip(mates.tolist(), probes, strict=True)):
        if stopped():
            return None
        place = _place(index, source, probe, mate)
        if place == EFFORTS[-1] and exact_checks < _EXACT_CHECKS_MAX:
            exact_checks += 1
            place = place if _is_first(source, faces, probe, mate) else None
        if place is not None:
            places.append(place)
        hopeless = number >= _PROBES_HOPELESS and len(places) < number // 50
        if len(places) == _PROBES_WANTED or hopeless:
            break
    return _judged(np.asarray(places, dtype=np.int64), len(live), index.generation)


def _judged(places: NDArray[np.int64], face_count: int, generation: int) -> Audit:
    losses = [int(np.count_nonzero(places >= effort)) for effort in EFFORTS]
    allowed = limits.MATE_LOSS_BOUND / 2 * len(places)
    enough = next((i for i, lost in enumerate(losses) if lost <= allowed), len(EFFORTS) - 1)
    # The places of two thousand probes say little about one in a thousand: one step more.
    chosen = min(enough + 1, len(EFFORTS) - 1)
    return Audit(EFFORTS[chosen], len(places), losses[chosen], face_count, generation)


def _place(index: CompactIndex, source: VectorSource, probe: Vector, mate: int) -> int | None:
    """Place of the mate in the scan, the last effort for none; None if it is not the best."""
    found = index.search(index.codec.rotate(probe[None]), EFFORTS[-1], None)
    with source.read() as view:
        scores = view.vectors(found) @ probe
    (place,) = np.nonzero(found == mate)
    if not len(place):
        return EFFORTS[-1]
    return int(place[0]) if scores[place[0]] >= scores.max() else None


def _probes(
    source: VectorSource,
    mates: NDArray[np.int64],
    others: NDArray[np.int64],
    random: np.random.Generator,
) -> Vector:
    """One probe for each mate, shape (n, dimension), unit length.

    A random mixture of many other faces turns it away from its mate: its directions are spread
    as the gallery's are, and it is near to none of them.
    """
    with source.read() as view:
        centres, mixed = view.vectors(mates), view.vectors(others)
    away = random.standard_normal((len(mates), len(others)), dtype=np.float32) @ mixed
    away -= np.sum(away * centres, axis=1, keepdims=True) * centres
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
    probes: Vector = np.float32(COSINE) * centres + np.float32(math.sqrt(1.0 - COSINE**2)) * away
    return probes


def _is_first(source: VectorSource, faces: FacesView, probe: Vector, mate: int) -> bool:
    with source.read() as view:
        scores = scan(view, probe, 0, faces.count)
    scores[faces.owners < 0] = -np.inf
    return int(np.argmax(scores)) == mate
