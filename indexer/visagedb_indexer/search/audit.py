"""How many mates does the compact scan lose? Measured on the gallery's own vectors.

A mate is lost when exact search would return it, among the ten best, and the rescored
candidates do not hold it. Ordinary recall hides this: in face galleries the mate of a hard
probe is nobody's neighbour. So the audit makes hard probes from stored vectors, each at a
cosine of 0.4 to its mate and otherwise a random mixture of other faces, and finds the place of
the mate in the compact scan. Easier probes lose less, so the bound holds at every cosine from
0.4 up. The number of candidates to rescore follows from the places: the smallest that keeps
the loss under half the bound, so that chance has room. If even the largest does not keep the
bound, the gallery needs finer codes.

The confidence interval is that of Wilson (1927), "Probable Inference, the Law of Succession, and
Statistical Inference".
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.search.compact_index import CompactIndex
from visagedb_indexer.search.exact import score_rows
from visagedb_indexer.search.faces_table import FacesView
from visagedb_indexer.search.protocol import VectorSource
from visagedb_indexer.values import Vector

COSINE: Final = 0.4
EFFORTS: Final = (100, 150, 200, 300, 400, 600, 800, 1000, 1200, 1400, 1600, 2000, 2400, 3600)
_RETURNED: Final = 10
_PROBES_DRAWN: Final = 8000
_PROBES_WANTED: Final = 4000
_PROBES_AT_ONCE: Final = 12
_PROBES_HOPELESS: Final = 500
"""In a gallery where so few hard probes have their mate first, more of them teach nothing."""
_MIXED: Final = 2048
_RIVALS: Final = 400
"""Those who are nearer than the mate are among the first of the scan."""
_Z_95: Final = 1.96


@dataclass(frozen=True, slots=True)
class Audit:
    """The outcome of an audit.

    Attributes:
        effort: Candidates to rescore.
        bound: What the loss is to stay under.
        probe_count: Probes whose mate exact search would return.
        lost_count: Of these, how many lose it at that effort.
        face_count: Faces in the codes at the time.
        generation: Of the codes that were audited.
    """

    effort: int
    bound: float
    probe_count: int
    lost_count: int
    face_count: int
    generation: int

    @property
    def measured(self) -> float:
        """Fraction of mates lost."""
        return self.lost_count / self.probe_count if self.probe_count else 0.0

    def exceeds(self, bound: float) -> bool:
        """Whether the loss is above a bound, at the largest effort there is."""
        # One or two lost mates may be chance.
        most = max(2.0, bound * self.probe_count)
        return self.effort == EFFORTS[-1] and self.lost_count > most

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
    index: CompactIndex,
    source: VectorSource,
    faces: FacesView,
    bound: float,
    stopped: Callable[[], bool],
) -> Audit | None:
    """Measures the loss of an index; None when it was stopped.

    Args:
        index: The codes.
        source: The stored vectors.
        faces: The faces that exist.
        bound: What the loss is to stay under.
        stopped: Asked now and then.
    """
    random = np.random.default_rng(index.generation)
    live = np.flatnonzero(FacesView(faces.owners[: index.indexed]).passing(None))
    if not len(live):
        return Audit(EFFORTS[-1], bound, 0, 0, 0, index.generation)
    mates = random.choice(live, _PROBES_DRAWN)
    with source.read() as view:
        mixed = view.vectors(random.choice(live, _MIXED))
    places: list[int] = []
    for start in range(0, _PROBES_DRAWN, _PROBES_AT_ONCE):
        if stopped():
            return None
        some = mates[start : start + _PROBES_AT_ONCE]
        places += _places(index, source, _probes(source, some, mixed, random), some)
        hopeless = start >= _PROBES_HOPELESS and len(places) < start // 50
        if len(places) >= _PROBES_WANTED or hopeless:
            break
    return _judged(np.asarray(places, dtype=np.int64), bound, len(live), index.generation)


def _judged(places: NDArray[np.int64], bound: float, face_count: int, generation: int) -> Audit:
    losses = [int(np.count_nonzero(places >= effort)) for effort in EFFORTS]
    allowed = bound / 2 * len(places)
    chosen = next((i for i, lost in enumerate(losses) if lost <= allowed), len(EFFORTS) - 1)
    return Audit(EFFORTS[chosen], bound, len(places), losses[chosen], face_count, generation)


def _places(
    index: CompactIndex, source: VectorSource, probes: Vector, mates: NDArray[np.int64]
) -> Iterator[int]:
    """Place in the scan of each mate that is an answer; the last effort if it is not there.

    A rival that the scan does not find is overlooked here, so a few mates count that exact
    search would not return: the loss is rather overstated.
    """
    every = index.search(index.codec.rotate(probes), EFFORTS[-1])
    for probe, mate, found in zip(probes, mates, every, strict=True):
        with source.read() as view:
            rivals = score_rows(view, found[:_RIVALS], probe)
            [own] = score_rows(view, np.array([mate]), probe)
        if np.count_nonzero(rivals > own) < _RETURNED:
            (place,) = np.nonzero(found == mate)
            yield int(place[0]) if len(place) else EFFORTS[-1]


def _probes(
    source: VectorSource,
    mates: NDArray[np.int64],
    mixed: Vector,
    random: np.random.Generator,
) -> Vector:
    """One probe for each mate, shape (n, dimension), unit length.

    A random mixture of many other faces turns it away from its mate: its directions are spread
    as the gallery's are, and it is near to none of them.
    """
    with source.read() as view:
        centres = view.vectors(mates)
    away = random.standard_normal((len(mates), len(mixed)), dtype=np.float32) @ mixed
    away -= np.sum(away * centres, axis=1, keepdims=True) * centres
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
    probes: Vector = np.float32(COSINE) * centres + np.float32(math.sqrt(1.0 - COSINE**2)) * away
    return probes
