"""Synthetic galleries that are as hard to search as real ones.

A person is a draw from the between-person covariance of a face embedder, every image adds
a draw from the within-person covariance, and the sum is brought to unit length. Only the
eigenvalues matter for search, so a `Spectrum` keeps those, and a fixed random rotation
mixes the coordinates again. The spectrum of 128 dimensions was measured on SFace
embeddings of Labelled Faces in the Wild; the one of 512 dimensions is a decaying one.

Rows are made in chunks, each from its own counter of the Philox generator (Salmon et al.
2011, "Parallel random numbers: as easy as 1, 2, 3"): any rows can be made at any time, in
blocks of any size, and are the same; ten million are streamed without being held.

    gallery = Gallery(Spectrum.load("sface_128"), rows=1_000_000, seed=1)
    for start, vectors in gallery.blocks(65_536): ...
    probes = gallery.mates(ordinals, cosines=0.5)
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

DATA: Final = Path(__file__).parent / "data"
_CHUNK_ROWS: Final = 4096
_ROTATION, _ROWS, _MATES = 1, 2, 3

Vectors: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Variances of embeddings along the axes in which persons differ.

    Attributes:
        between: Of persons, descending; shape (dimension,).
        within: Of the images of one person, along the same axes; shape (dimension,).
    """

    between: NDArray[np.float64]
    within: NDArray[np.float64]

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return len(self.between)

    @property
    def effective_dimension(self) -> float:
        """Participation ratio of the variances of a gallery with one image per person."""
        return participation_ratio(self.between + self.within)

    @classmethod
    def measure(cls, vectors: Vectors, people: NDArray[np.generic]) -> "Spectrum":
        """The spectrum of real embeddings.

        Args:
            vectors: Shape (n, dimension), several rows for at least some of the people.
            people: Whose the rows are, shape (n,).
        """
        _, index, counts = np.unique(people, return_inverse=True, return_counts=True)
        means = np.zeros((len(counts), vectors.shape[1]))
        np.add.at(means, index, vectors)
        means /= counts[:, None]
        deviations = vectors - means[index]
        within = deviations.T @ deviations / (len(vectors) - len(counts))
        # The means of few images spread further than the people do.
        between = np.cov(means.T) - within * np.mean(1 / counts)
        variances, axes = np.linalg.eigh(between)
        along = np.einsum("ij,ik,kj->j", axes, within, axes)
        return cls(np.maximum(variances[::-1], 0.0), along[::-1])

    @classmethod
    def decaying(cls, dimension: int, effective: float) -> "Spectrum":
        """Variances that fall geometrically, with a given effective dimension.

        The images of one person differ in more directions than persons do, as they do in
        measured spectra: their variances fall half as fast.
        """
        axes = np.arange(dimension)
        low, high = 1.0, 1e6
        for _ in range(80):
            scale = (low * high) ** 0.5
            spectrum = cls(*(_unit_sum(np.exp(-axes / (scale * f))) for f in (1, 2)))
            wide = spectrum.effective_dimension > effective
            low, high = (low, scale) if wide else (scale, high)
        return spectrum

    @classmethod
    def load(cls, name: str) -> "Spectrum":
        """A measured spectrum from the data folder."""
        with np.load(DATA / f"{name}.npz") as arrays:
            return cls(arrays["between"].astype(np.float64), arrays["within"].astype(np.float64))

    def save(self, path: Path) -> None:
        """Writes the spectrum, in single precision."""
        np.savez(path, between=np.float32(self.between), within=np.float32(self.within))

    @classmethod
    def of_dimension(cls, dimension: int) -> "Spectrum":
        """The measured spectrum for 128 dimensions, a decaying one for any other."""
        if dimension == 128:
            return cls.load("sface_128")
        return cls.decaying(dimension, 120.0 * dimension / 512)


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """One image of each of many people.

    Attributes:
        spectrum: How the vectors spread.
        rows: People.
        seed: Another seed gives other people.
    """

    spectrum: Spectrum
    rows: int
    seed: int = 1
    _rotation: Vectors = field(init=False, repr=False)

    def __post_init__(self) -> None:
        square = self._random(_ROTATION, 0).standard_normal((self.dimension, self.dimension))
        rotation = np.linalg.qr(square)[0].astype(np.float32)
        object.__setattr__(self, "_rotation", rotation)

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return self.spectrum.dimension

    def vectors(self, start: int, stop: int) -> Vectors:
        """Rows `start` to `stop`: shape (stop - start, dimension), unit length."""
        parts = []
        for chunk in range(start // _CHUNK_ROWS, -(-stop // _CHUNK_ROWS)):
            first = chunk * _CHUNK_ROWS
            parts.append(self._chunk(chunk)[max(start - first, 0) : stop - first])
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), np.float32)

    def blocks(self, block_rows: int = 65_536) -> Iterator[tuple[int, Vectors]]:
        """All rows in order: first ordinal of a block, and its vectors."""
        # Whole chunks are made once each, whatever the size of the blocks.
        pending = np.empty((0, self.dimension), np.float32)
        start = made = 0
        while start < self.rows:
            stop = min(start + block_rows, self.rows)
            parts = [pending]
            while made < stop:
                parts.append(self._chunk(made // _CHUNK_ROWS))
                made += _CHUNK_ROWS
            gathered = np.concatenate(parts)
            yield start, gathered[: stop - start]
            pending = gathered[stop - start :]
            start = stop

    def gather(self, ordinals: NDArray[np.integer]) -> Vectors:
        """Rows by ordinal: shape (len(ordinals), dimension)."""
        rows = np.empty((len(ordinals), self.dimension), np.float32)
        chunks = ordinals // _CHUNK_ROWS
        for chunk in np.unique(chunks):
            here = chunks == chunk
            rows[here] = self._chunk(int(chunk))[ordinals[here] % _CHUNK_ROWS]
        return rows

    def mates(self, ordinals: NDArray[np.integer], cosines: ArrayLike) -> Vectors:
        """Another image of each of some people, at a chosen cosine to the enrolled one.

        The direction of the difference is a draw from the within-person variances. It
        depends on the ordinal alone, so a person moves on one arc as the cosine falls.

        Args:
            ordinals: Whose, shape (n,).
            cosines: One for all, or shape (n,).
        """
        enrolled = self.gather(ordinals).astype(np.float64)
        spread = np.sqrt(self.spectrum.within)
        draws = [self._random(_MATES, int(i)).standard_normal(self.dimension) for i in ordinals]
        noise = (np.reshape(draws, (-1, self.dimension)) * spread) @ self._rotation
        noise -= enrolled * np.sum(noise * enrolled, axis=1, keepdims=True)
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        cosine = np.broadcast_to(np.asarray(cosines, np.float64), len(ordinals))[:, None]
        return (cosine * enrolled + np.sqrt(1 - cosine**2) * noise).astype(np.float32)

    def _chunk(self, chunk: int) -> Vectors:
        """A chunk of rows, always whole, so that it is the same to the last bit."""
        random = self._random(_ROWS, chunk)
        spread = np.sqrt(self.spectrum.between + self.spectrum.within).astype(np.float32)
        draws = random.standard_normal((_CHUNK_ROWS, self.dimension), dtype=np.float32)
        vectors = (draws * spread) @ self._rotation
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit.astype(np.float32, copy=False)

    def _random(self, stream: int, counter: int) -> np.random.Generator:
        # The counter's low words count within a chunk; its high words say which chunk.
        return np.random.Generator(
            np.random.Philox(key=[self.seed, stream], counter=[0, 0, counter, 0])
        )


def participation_ratio(variances: NDArray[np.floating]) -> float:
    """How many equal variances would spread as evenly: (sum)² / sum of squares."""
    return float(np.sum(variances) ** 2 / np.sum(variances**2))


def _unit_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = values / np.sum(values)
    return result
