"""What every engine is given: a gallery's vectors on disk, and probes with known answers.

A probe is another image of an enrolled person at a chosen cosine. Only probes whose mate
exact search ranks first are kept: an engine that does not return the mate of such a probe
has lost it, and no threshold or camera is to blame.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from galleries import Gallery
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]

COSINES: Final = (0.35, 0.4, 0.5, 0.6, 0.7)
TOP_K: Final = 10
_BLOCK_ROWS: Final = 65_536
_EXACT_ROWS: Final = 4096


@dataclass(frozen=True)
class Workload:
    """A prepared gallery; cheap to open from any process.

    Attributes:
        folder: Where its files are.
        rows: Vectors.
        dimension: Length of the vectors.
    """

    folder: Path
    rows: int
    dimension: int

    @classmethod
    def open(cls, folder: Path) -> "Workload":
        """A workload prepared before."""
        meta = json.loads((folder / "workload.json").read_text())
        return cls(folder, meta["rows"], meta["dimension"])

    def blocks(self, block_rows: int = _BLOCK_ROWS) -> Iterator[tuple[int, Vectors]]:
        """All vectors in order: first ordinal of a block, and its rows.

        Read, not mapped, so that the pages do not count as an engine's memory.
        """
        with (self.folder / "vectors.f32").open("rb") as file:
            for start in range(0, self.rows, block_rows):
                count = min(block_rows, self.rows - start)
                block = np.fromfile(file, dtype=np.float32, count=count * self.dimension)
                yield start, block.reshape(count, self.dimension)

    def vectors(self) -> Vectors:
        """All vectors at once, for engines that cannot take them in blocks."""
        whole = np.fromfile(self.folder / "vectors.f32", dtype=np.float32)
        return whole.reshape(self.rows, self.dimension)

    def sample(self, count: int) -> Vectors:
        """The first rows; rows are in no special order, so they are a fair sample."""
        return next(self.blocks(min(count, self.rows)))[1]

    @cached_property
    def probes(self) -> Vectors:
        """Shape (n, dimension); the cosines take turns, so any prefix is balanced."""
        return np.load(self.folder / "probes.npy")  # type: ignore[no-any-return]

    @cached_property
    def mates(self) -> NDArray[np.int64]:
        """Ordinal of the mate of each probe."""
        return np.load(self.folder / "mates.npy")  # type: ignore[no-any-return]

    @cached_property
    def cosines(self) -> NDArray[np.float64]:
        """Cosine of each probe to its mate."""
        return np.load(self.folder / "cosines.npy")  # type: ignore[no-any-return]


def prepare(
    folder: Path, gallery: Gallery, probes_per_cosine: int, cosines: Sequence[float] = COSINES
) -> Workload:
    """Writes a gallery's vectors and its probes, and finds out by exact search which count."""
    random = np.random.default_rng(gallery.seed)
    count = min(probes_per_cosine, gallery.rows)
    chosen = np.stack([random.choice(gallery.rows, count, replace=False) for _ in cosines], axis=1)
    mates = chosen.reshape(-1)
    bins = np.tile(np.asarray(cosines), count)
    probes = gallery.mates(mates, bins)
    best = np.full(len(probes), -np.inf, dtype=np.float32)
    first = np.zeros(len(probes), dtype=np.int64)
    with (folder / "vectors.f32").open("wb") as file:
        for start, vectors in gallery.blocks(_BLOCK_ROWS):
            vectors.tofile(file)
            _follow_exact(best, first, probes, start, vectors)
    ranked_first = first == mates
    np.save(folder / "probes.npy", probes[ranked_first])
    np.save(folder / "mates.npy", mates[ranked_first])
    np.save(folder / "cosines.npy", bins[ranked_first])
    meta = {"rows": gallery.rows, "dimension": gallery.dimension}
    (folder / "workload.json").write_text(json.dumps(meta))
    return Workload.open(folder)


def _follow_exact(
    best: NDArray[np.float32],
    first: NDArray[np.int64],
    probes: Vectors,
    start: int,
    vectors: Vectors,
) -> None:
    """Updates the highest score and its ordinal of every probe with one block."""
    for low in range(0, len(vectors), _EXACT_ROWS):
        scores = probes @ vectors[low : low + _EXACT_ROWS].T
        top = scores.argmax(axis=1)
        highest = scores[np.arange(len(probes)), top]
        better = highest > best
        best[better] = highest[better]
        first[better] = start + low + top[better]
