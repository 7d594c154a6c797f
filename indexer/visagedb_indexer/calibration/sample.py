"""Which faces are compared, and the comparison itself, in blocks.

Identities are drawn, not faces: somebody with a hundred photographs counts as much as somebody
with one. Memory is bounded by one block of scores and by what is kept, the scores above a
level.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.calibration.tail import Floats
from visagedb_indexer.values import Vector

BINS_PER_UNIT: Final = 1000
"""Bins of the histogram of all scores, in a unit of cosine."""
_BINS: Final = 3 * BINS_PER_UNIT
_LOWEST: Final = -1.5
"""Where scores of a person with herself are put: below every cosine."""
_CHUNK_ROWS: Final = 8192
_TILE_ROWS: Final = 4096
_TILE_PROBES: Final = 512
_COUNTED_ROWS: Final = 16
"""Counting holds the interpreter's lock: so many rows at a time take half a millisecond."""

Pause: TypeAlias = Callable[[], None]
"""Called between blocks; makes way for others, and raises to stop the work."""


class VectorView(Protocol):
    """A consistent view of the stored vectors."""

    def vectors(self, ordinals: NDArray[np.int64]) -> Vector:
        """Vectors by ordinal, shape (len(ordinals), dimension); zeros for a deleted face."""
        ...


class VectorSource(Protocol):
    """Where the vectors are."""

    def read(self) -> AbstractContextManager[VectorView]:
        """Opens a view."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Some faces and whose they are.

    Attributes:
        ordinals: Shape (n,).
        people: Shape (n,), dense numbers from zero.
        weights: Shape (n,); those of one person sum to one.
    """

    ordinals: NDArray[np.int64]
    people: NDArray[np.int64]
    weights: Floats

    def __len__(self) -> int:
        return len(self.ordinals)

    @classmethod
    def of(cls, ordinals: NDArray[np.int64], people: NDArray[np.int64]) -> "Faces":
        """Faces that weigh the same for every person."""
        counts = np.bincount(people)
        return cls(ordinals, people, 1.0 / counts[people])

    def draw(self, most: int, random: np.random.Generator) -> "Faces":
        """At most so many of the faces, of as many people as can be."""
        shuffled = random.permutation(len(self))
        order = shuffled[np.argsort(self.people[shuffled], kind="stable")]
        people = self.people[order]
        first = np.flatnonzero(np.diff(people, prepend=-1))
        rank = np.arange(len(people)) - np.repeat(first, np.diff(first, append=len(people)))
        # Everybody's first face in random order, then everybody's second.
        chosen = np.lexsort((random.random(len(first))[np.cumsum(rank == 0) - 1], rank))[:most]
        kept = np.sort(order[chosen])
        return Faces.of(self.ordinals[kept], self.people[kept])

    def draw_people(self, most_faces: int, random: np.random.Generator) -> "Faces":
        """All faces of as many people as have at most so many together."""
        if len(self) <= most_faces:
            return self
        counts = np.bincount(self.people)
        order = random.permutation(len(counts))
        chosen = np.zeros(len(counts), np.bool_)
        chosen[order[np.cumsum(counts[order]) <= most_faces]] = True
        kept = chosen[self.people]
        return Faces.of(self.ordinals[kept], self.people[kept])


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Faces compared with the faces of other people.

    Attributes:
        scores: Of the pairs above the level, shape (n,).
        probes: Positions of their probes.
        references: Positions of their references.
        weight: Of all pairs of different people, compared or not above the level; a pair weighs
            the product of its faces' weights.
        pair_count: How many pairs those are.
        histogram: Weights of all scores from -1.5 in bins; empty if not asked for.
    """

    scores: Floats
    probes: NDArray[np.int64]
    references: NDArray[np.int64]
    weight: float
    pair_count: int
    histogram: Floats


def compare(
    source: VectorSource,
    probes: Faces,
    references: Faces,
    level: float,
    pause: Pause,
    *,
    with_histogram: bool = False,
) -> Comparison:
    """Compares every probe with every reference of somebody else.

    Args:
        source: The stored vectors.
        probes: At most some thousands.
        references: Any number.
        level: Pairs above this cosine are kept.
        pause: Called between blocks.
        with_histogram: Count all scores as well.
    """
    with source.read() as view:
        vectors = view.vectors(probes.ordinals)
    histogram: Floats = np.zeros(_BINS if with_histogram else 0)
    scores, rows, columns = [], [], []
    for start in range(0, len(references), _CHUNK_ROWS):
        stop = min(start + _CHUNK_ROWS, len(references))
        # A view is held for a moment only: what writers free is used again after it.
        with source.read() as view:
            chunk = view.vectors(references.ordinals[start:stop])
        for low in range(0, stop - start, _TILE_ROWS):
            rest = chunk[low : low + _TILE_ROWS]
            there = slice(start + low, start + low + len(rest))
            for top in range(0, len(probes), _TILE_PROBES):
                pause()
                here = slice(top, min(top + _TILE_PROBES, len(probes)))
                tile = vectors[here] @ rest.T
                above = tile > np.float32(level)
                if with_histogram:
                    tile[probes.people[here, None] == references.people[None, there]] = _LOWEST
                    for first in range(0, len(tile), _COUNTED_ROWS):
                        pause()
                        part = slice(first, first + _COUNTED_ROWS)
                        weights = np.outer(probes.weights[here][part], references.weights[there])
                        histogram += _counted(tile[part], weights)
                found = np.flatnonzero(above)
                if len(found):
                    row, column = np.divmod(found, tile.shape[1])
                    scores.append(tile[row, column])
                    rows.append(row + here.start)
                    columns.append(column + there.start)
    return _without_own(probes, references, scores, rows, columns, histogram)


def _counted(tile: Vector, weights: Floats) -> Floats:
    bins = ((tile - np.float32(_LOWEST)) * np.float32(BINS_PER_UNIT)).astype(np.int32)
    counted: Floats = np.bincount(bins.ravel(), weights.ravel(), _BINS).astype(np.float64)
    return counted


def _without_own(
    probes: Faces,
    references: Faces,
    scores: list[Vector],
    rows: list[NDArray[np.int64]],
    columns: list[NDArray[np.int64]],
    histogram: Floats,
) -> Comparison:
    size = int(max(probes.people.max(initial=0), references.people.max(initial=0))) + 1
    own = np.bincount(probes.people, probes.weights, size) @ np.bincount(
        references.people, references.weights, size
    )
    own_count = np.bincount(probes.people, minlength=size) @ np.bincount(
        references.people, minlength=size
    )
    empty = np.empty(0, np.int64)
    row = np.concatenate([empty, *rows]).astype(np.int64)
    column = np.concatenate([empty, *columns]).astype(np.int64)
    score = np.concatenate([np.empty(0), *scores]).astype(np.float64)
    other = probes.people[row] != references.people[column]
    histogram[: int(0.25 * BINS_PER_UNIT)] = 0.0
    return Comparison(
        scores=score[other],
        probes=row[other],
        references=column[other],
        weight=float(probes.weights.sum() * references.weights.sum() - own),
        pair_count=len(probes) * len(references) - int(own_count),
        histogram=histogram,
    )


def rate_in(histogram: Floats, score: float) -> float:
    """Fraction of the weights in a histogram at or above the bin of a score."""
    first = int((score - _LOWEST) * BINS_PER_UNIT)
    return float(histogram[first:].sum() / histogram.sum())


def score_in(histogram: Floats, rate: float) -> float:
    """The lower edge of the bin at and above which this fraction of the weights lies."""
    above = np.cumsum(histogram[::-1])[::-1] / histogram.sum()
    last = int(np.flatnonzero(above >= rate)[-1])
    return last / BINS_PER_UNIT + _LOWEST
