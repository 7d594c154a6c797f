"""The compact scan: every face in a few bits per dimension, scanned whole.

The principal axes that hold nearly all of the variance are kept, a random rotation spreads the
information evenly over them, then a product quantiser of 4-bit codes is scanned with SIMD
look-up tables (André, Kermarrec and Le Scouarnec 2015, "Cache locality is not enough"; FAISS
calls it fast scan). Nothing is partitioned away: in face galleries the mate of a hard probe is
nobody's neighbour, and inverted files and graphs lose it.

A segment never changes once it is made. Growing and removing make another one aside, so
searches take no lock and wait for nobody.
"""

import threading
from dataclasses import dataclass
from typing import TypeAlias

import faiss
import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.values import Vector

Buffer: TypeAlias = bytes | memoryview

_SEED = 20_220_118
_CHOSEN_BY_FAISS = 0
_BLOCK_BY_BLOCK = 15
"""The kernel that reads long codes fastest for a single probe (benchmarks/scan.py)."""
_LONG_CODE_BYTES = 64
_BORDER_SHARE_MAX = 1 / 8
LEVELS = ((0.94, 2), (0.975, 2), (0.995, 4))
"""From coarse to fine: the share of the variance whose axes are kept, and bits per axis."""
_FULL_BITS_AXES_MAX = 256
"""Of more axes each gets half of the bits."""
_AXES_MIN = 64
_AXES_MULTIPLE = 32
_THREAD = threading.local()


def one_thread() -> None:
    """Keeps FAISS to the calling thread: queries run beside each other instead."""
    if not getattr(_THREAD, "ready", False):
        faiss.omp_set_num_threads(1)
        _THREAD.ready = True


@dataclass(frozen=True, eq=False)
class Codec:
    """How vectors become codes; shared by the segments of one build.

    Attributes:
        rotation: Shape (dimension, code dimension), float32: from vectors to what is coded.
        template: A trained, empty index.
        trained_on: Vectors the gallery had when it was trained.
        level: Of `LEVELS`.
    """

    rotation: NDArray[np.float32]
    template: faiss.IndexPQFastScan
    trained_on: int
    level: int = 0

    @classmethod
    def train(cls, sample: Vector, gallery_rows: int, *, level: int = 0) -> "Codec":
        """Learns the codes from a sample of shape (n, dimension).

        A level that would need the same axes and bits as the one before is passed over.
        """
        one_thread()
        variances, axes = _principal_axes(sample)
        layouts = [code_layout(variances, each) for each in range(len(LEVELS))]
        while 0 < level < len(LEVELS) - 1 and layouts[level] == layouts[level - 1]:
            level += 1
        kept, sub_quantisers, padded = layouts[level]
        chosen = axes[:, :kept] if kept < len(axes) else np.eye(kept, dtype=np.float32)
        rotation = np.ascontiguousarray(chosen @ _rotation(kept, padded))
        index = faiss.IndexPQFastScan(padded, sub_quantisers, 4, faiss.METRIC_INNER_PRODUCT)
        index.train(sample @ rotation)
        return cls(rotation, index, gallery_rows, level)

    def serialized(self) -> tuple[bytes, bytes]:
        """The rotation and the trained quantiser as bytes."""
        return self.rotation.astype("<f4").tobytes(), _serialized(self.template)

    @classmethod
    def deserialized(
        cls, rotation: Buffer, template: Buffer, dimension: int, trained_on: int, level: int
    ) -> "Codec":
        """Inverse of `serialized`; the bytes must be trusted.

        Raises:
            ValueError: It is a codec of another shape.
        """
        index = _deserialized(template)
        matrix = np.frombuffer(rotation, dtype="<f4")
        if matrix.size != dimension * index.d or index.ntotal:
            raise ValueError("its codec has another shape")
        matrix = matrix.reshape(dimension, index.d)
        return cls(np.ascontiguousarray(matrix, dtype=np.float32), index, trained_on, level)

    @property
    def code_bytes(self) -> int:
        """Bytes per face, its ordinal not included."""
        return int(self.template.pq.code_size)

    def rotate(self, vectors: Vector) -> Vector:
        """Vectors in the coordinates of the codes, shape (n, code dimension)."""
        return np.ascontiguousarray(vectors @ self.rotation, dtype=np.float32)


def code_layout(variances: NDArray[np.float64], level: int) -> tuple[int, int, int]:
    """Axes kept, sub-quantisers, and the axes padded to a multiple of theirs.

    Args:
        variances: Along the principal axes, descending; shape (dimension,).
        level: Of `LEVELS`.
    """
    share, bits = LEVELS[level]
    held = np.cumsum(variances) / variances.sum()
    needed = int(np.searchsorted(held, share)) + 1
    kept = max(_AXES_MIN, -(-needed // _AXES_MULTIPLE) * _AXES_MULTIPLE)
    kept = min(kept, len(variances))
    width = 4 // bits if kept <= _FULL_BITS_AXES_MAX else 8 // bits
    sub_quantisers = -(-kept // width)
    sub_quantisers += sub_quantisers % 2
    return kept, sub_quantisers, sub_quantisers * width


def _principal_axes(sample: Vector) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Variances, descending, and the axes as columns.

    Scores are inner products, so the variance is that about the origin.
    """
    variances, axes = np.linalg.eigh(sample.T.astype(np.float64) @ sample)
    return variances[::-1], axes[:, ::-1].astype(np.float32)


def _rotation(axes: int, padded: int) -> NDArray[np.float32]:
    random = np.random.default_rng(_SEED)
    square = np.linalg.qr(random.standard_normal((padded, padded)))[0]
    return np.ascontiguousarray(square[:axes], dtype=np.float32)


def _clone(index: faiss.IndexPQFastScan) -> faiss.IndexPQFastScan:
    copy = faiss.clone_index(index)
    assert isinstance(copy, faiss.IndexPQFastScan)
    return copy


def _serialized(index: faiss.IndexPQFastScan) -> bytes:
    data: bytes = faiss.serialize_index(index).tobytes()
    return data


def _deserialized(data: Buffer) -> faiss.IndexPQFastScan:
    index = faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
    if not isinstance(index, faiss.IndexPQFastScan):
        raise ValueError("it holds an index of another kind")
    return index


class Segment:
    """The codes of some faces; it never changes.

    Args:
        index: The codes.
        ordinals: The face of each code, ascending; shape (n,), uint32.
    """

    def __init__(self, index: faiss.IndexPQFastScan, ordinals: NDArray[np.uint32]) -> None:
        self._index = index
        self.ordinals = ordinals

    @classmethod
    def encoded(cls, codec: Codec, ordinals: NDArray[np.integer], vectors: Vector) -> "Segment":
        """A segment of faces by their vectors, shape (n, dimension)."""
        one_thread()
        index = _clone(codec.template)
        if len(ordinals):
            index.add(codec.rotate(vectors))
        return cls(index, ordinals.astype(np.uint32))

    def joined(self, newer: "Segment") -> "Segment":
        """A segment of the faces of both; those of `newer` have higher ordinals."""
        one_thread()
        index = _clone(self._index)
        # FAISS takes the codes out of the one that is joined.
        index.merge_from(_clone(newer._index))
        return Segment(index, np.concatenate([self.ordinals, newer.ordinals]))

    def without(self, gone: NDArray[np.bool_]) -> "Segment":
        """A segment without some of the faces: `gone` by position, shape (n,)."""
        one_thread()
        index = _clone(self._index)
        index.remove_ids(faiss.IDSelectorBatch(np.flatnonzero(gone)))
        return Segment(index, self.ordinals[~gone])

    def serialized(self) -> tuple[bytes, bytes]:
        """The ordinals and the codes as bytes."""
        return self.ordinals.astype("<u4").tobytes(), _serialized(self._index)

    @classmethod
    def deserialized(cls, codec: Codec, ordinals: Buffer, codes: Buffer) -> "Segment":
        """Inverse of `serialized`; the bytes must be trusted.

        Raises:
            ValueError: They are of another codec.
        """
        index = _deserialized(codes)
        known = np.frombuffer(ordinals, dtype="<u4").astype(np.uint32)
        if (index.d, index.pq.M) != (codec.template.d, codec.template.pq.M):
            raise ValueError("a segment has another shape")
        if len(known) != index.ntotal:
            raise ValueError("a segment has not as many codes as ordinals")
        return cls(index, known)

    def __len__(self) -> int:
        return len(self.ordinals)

    def search(self, rotated: Vector, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ordinals of about the best rows for each probe, and their estimated scores.

        Several probes at once share the reading of the codes, and take half the time each.

        Args:
            rotated: Probes in the codec's coordinates, shape (n, code dimension).
            count: How many.

        Returns:
            Two arrays of shape (n, min(count, rows)), best first.
        """
        one_thread()
        rows = min(count, len(self))
        if rows == 0:
            empty = np.empty((len(rotated), 0))
            return empty.astype(np.int64), empty.astype(np.float32)
        # Another search may change this at the same moment: it is a matter of speed alone.
        lone = len(rotated) == 1 and self._index.pq.code_size >= _LONG_CODE_BYTES
        self._index.implem = _BLOCK_BY_BLOCK if lone else _CHOSEN_BY_FAISS
        scores, positions = self._index.search(rotated, rows)
        return self.ordinals[positions].astype(np.int64), scores

    def differing(
        self, codec: Codec, positions: NDArray[np.int64], vectors: Vector
    ) -> NDArray[np.bool_]:
        """Whether the codes of some rows are others than those of their vectors.

        Args:
            codec: That of the segment.
            positions: Of the rows; shape (n,).
            vectors: Shape (n, dimension).
        """
        fresh = Segment.encoded(codec, self.ordinals[positions], vectors)
        stored = np.stack([self._index.reconstruct(int(row)) for row in positions])
        again = np.stack([fresh._index.reconstruct(row) for row in range(len(positions))])
        # A vector on the border of two cells may fall to either side in another batch.
        different: NDArray[np.bool_] = np.mean(stored != again, axis=1) > _BORDER_SHARE_MAX
        return different

    @property
    def memory_bytes(self) -> int:
        """Codes and ordinals."""
        return len(self) * (int(self._index.pq.code_size) + 4)
