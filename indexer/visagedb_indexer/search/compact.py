"""The compact scan: every face in a few bits per dimension, scanned whole.

A random rotation spreads the information evenly over the dimensions, then a product
quantiser of 4-bit codes is scanned with SIMD look-up tables (André, Kermarrec and Le
Scouarnec 2015, "Cache locality is not enough"; FAISS calls it fast scan). Nothing is
partitioned away: in face galleries the mate of a hard probe is nobody's neighbour, and
inverted files and graphs lose it.

A segment is an inverted-file index with ONE list and a zero centroid: it scans
everything, and unlike the flat fast-scan index it takes a bitmap of allowed rows, has
its own ids, and removes rows in milliseconds.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.values import Vector

_SEED = 20_220_118
_THREAD = threading.local()


def one_thread() -> None:
    """Keeps FAISS to the calling thread: queries run beside each other instead."""
    if not getattr(_THREAD, "ready", False):
        faiss.omp_set_num_threads(1)
        _THREAD.ready = True


@dataclass(frozen=True, slots=True, eq=False)
class Codec:
    """How vectors become codes; shared by the segments of one build.

    Attributes:
        rotation: Shape (dimension, padded dimension), float32, orthonormal rows.
        template: A trained, empty index.
        trained_on: Vectors the gallery had when it was trained.
    """

    rotation: NDArray[np.float32]
    template: faiss.IndexIVFPQFastScan
    trained_on: int

    @classmethod
    def train(cls, sample: Vector, gallery_rows: int) -> "Codec":
        """Learns the codes from a sample of shape (n, dimension)."""
        one_thread()
        dimension = sample.shape[1]
        sub_quantisers, padded = code_layout(dimension)
        rotation = _rotation(dimension, padded)
        quantiser = faiss.IndexFlatIP(padded)
        index = faiss.IndexIVFPQFastScan(
            quantiser, padded, 1, sub_quantisers, 4, faiss.METRIC_INNER_PRODUCT
        )
        quantiser.add(np.zeros((1, padded), dtype=np.float32))
        index.by_residual = False
        index.train(sample @ rotation)
        return cls(rotation, index, gallery_rows)

    def serialized(self) -> tuple[bytes, bytes]:
        """The rotation and the trained quantiser as bytes."""
        return self.rotation.astype("<f4").tobytes(), _serialized(self.template)

    @classmethod
    def deserialized(
        cls, rotation: bytes, template: bytes, dimension: int, trained_on: int
    ) -> "Codec":
        """Inverse of `serialized`; the bytes must be trusted.

        Raises:
            ValueError: It is a codec of another shape.
        """
        sub_quantisers, padded = code_layout(dimension)
        index = _deserialized(template)
        if (index.d, index.pq.M, index.ntotal) != (padded, sub_quantisers, 0):
            raise ValueError("its codec has another shape")
        matrix = np.frombuffer(rotation, dtype="<f4").reshape(dimension, padded)
        return cls(np.ascontiguousarray(matrix, dtype=np.float32), index, trained_on)

    @property
    def code_bytes(self) -> int:
        """Bytes per face, its id not included."""
        return int(self.template.code_size)

    def rotate(self, vectors: Vector) -> Vector:
        """Vectors in the coordinates of the codes, shape (n, padded dimension)."""
        return np.ascontiguousarray(vectors @ self.rotation, dtype=np.float32)


def code_layout(dimension: int) -> tuple[int, int]:
    """Number of sub-quantisers, and the dimension padded to a multiple of theirs.

    Two bits per dimension up to 256 dimensions, one bit beyond: 32 bytes for 128
    dimensions, 64 for 512.
    """
    width = 2 if dimension <= 256 else 4
    sub_quantisers = -(-dimension // width)
    sub_quantisers += sub_quantisers % 2
    return sub_quantisers, sub_quantisers * width


def _rotation(dimension: int, padded: int) -> NDArray[np.float32]:
    random = np.random.default_rng(_SEED)
    square = np.linalg.qr(random.standard_normal((padded, padded)))[0]
    return np.ascontiguousarray(square[:dimension], dtype=np.float32)


def _clone(index: faiss.IndexIVFPQFastScan) -> faiss.IndexIVFPQFastScan:
    copy = faiss.clone_index(index)
    assert isinstance(copy, faiss.IndexIVFPQFastScan)
    return copy


def _serialized(index: faiss.IndexIVFPQFastScan) -> bytes:
    data: bytes = faiss.serialize_index(index).tobytes()
    return data


def _deserialized(data: bytes) -> faiss.IndexIVFPQFastScan:
    index = faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
    if not isinstance(index, faiss.IndexIVFPQFastScan):
        raise ValueError("it holds an index of another kind")
    return index


class _SharedLock:
    """Many searches or one writer; a waiting writer goes first."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._readers = 0
        self._writers = 0
        self._writing = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._writers)
            self._readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._readers -= 1
                self._condition.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._condition:
            self._writers += 1
            self._condition.wait_for(lambda: not self._writing and not self._readers)
            self._writing = True
        try:
            yield
        finally:
            with self._condition:
                self._writing = False
                self._writers -= 1
                self._condition.notify_all()


class Segment:
    """Up to about a million faces in codes. Searches run beside each other; writes alone."""

    def __init__(self, codec: Codec, index: faiss.IndexIVFPQFastScan | None = None) -> None:
        self._codec = codec
        self._index = _clone(codec.template) if index is None else index
        self._lock = _SharedLock()

    def serialized(self) -> bytes:
        """The codes as bytes; searches go on meanwhile."""
        with self._lock.shared():
            return _serialized(self._index)

    @classmethod
    def deserialized(cls, codec: Codec, data: bytes) -> "Segment":
        """Inverse of `serialized`; the bytes must be trusted.

        Raises:
            ValueError: They are of another codec.
        """
        index = _deserialized(data)
        if (index.d, index.pq.M) != (codec.template.d, codec.template.pq.M):
            raise ValueError("a segment has another shape")
        return cls(codec, index)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, ordinals: NDArray[np.int64], vectors: Vector) -> None:
        """Adds rows; keep batches small, as searches wait for them."""
        rotated = self._codec.rotate(vectors)
        one_thread()
        with self._lock.exclusive():
            self._index.add_with_ids(rotated, ordinals)

    def remove(self, ordinals: NDArray[np.int64]) -> int:
        """Removes rows by ordinal; returns how many were here."""
        one_thread()
        with self._lock.exclusive():
            return int(self._index.remove_ids(faiss.IDSelectorBatch(ordinals)))

    def search(
        self, rotated: Vector, count: int, bitmap: NDArray[np.uint8] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ordinals of about the best `count` rows, and their estimated scores, best first.

        Args:
            rotated: One probe in the codec's coordinates, shape (1, padded dimension).
            count: How many.
            bitmap: One bit per ordinal, least significant first: which may be returned.
        """
        one_thread()
        parameters = None
        if bitmap is not None:
            selector = faiss.IDSelectorBitmap(len(bitmap), faiss.swig_ptr(bitmap))
            parameters = faiss.SearchParametersIVF()
            parameters.sel = selector
        with self._lock.shared():
            rows = min(count, int(self._index.ntotal))
            if rows == 0:
                return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
            scores, ordinals = self._index.search(rotated, rows, params=parameters)
        found = ordinals[0] >= 0
        return ordinals[0][found], scores[0][found]

    @property
    def memory_bytes(self) -> int:
        """Codes and ids."""
        return len(self) * (self._codec.code_bytes + 8)
