"""All codes of a gallery: the segments and how far they reach."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer import limits
from visagedb_indexer.cores import CORES
from visagedb_indexer.search.compact import Codec, Segment
from visagedb_indexer.values import Vector

_Found: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float32]]

_JOIN_RATIO: Final = 16
_JOIN_ROWS_MIN: Final = 1024
_HELPERS: Final = ThreadPoolExecutor(CORES, thread_name_prefix="scan")


@dataclass(frozen=True, slots=True, eq=False)
class CompactIndex:
    """The codes as searches see them; replaced as a whole when something changes.

    Attributes:
        codec: How vectors become codes.
        segments: Where the codes are, in the order of the ordinals.
        indexed: All ordinals below it are in the codes, unless they are deleted.
        generation: Counts the builds of the gallery's codes.
    """

    codec: Codec
    segments: tuple[Segment, ...]
    indexed: int
    generation: int

    def __len__(self) -> int:
        return sum(len(segment) for segment in self.segments)

    @property
    def scanned_bytes(self) -> int:
        """What a search reads."""
        return len(self) * self.codec.code_bytes

    def search(self, rotated: Vector, count: int, *, threads: int = 1) -> NDArray[np.int64]:
        """Ordinals of about the best rows of all segments for each probe, best first.

        Args:
            rotated: Probes in the codec's coordinates, shape (n, code dimension).
            count: How many.
            threads: Cores to divide the segments over.

        Returns:
            Shape (n, min(count, rows)).
        """
        if not self.segments:
            return np.empty((len(rotated), 0), dtype=np.int64)
        threads = min(threads, len(self.segments))
        if threads <= 1:
            found = [segment.search(rotated, count) for segment in self.segments]
        else:
            shares = _shares(self.segments, threads)
            others = [_HELPERS.submit(_search_all, share, rotated, count) for share in shares[1:]]
            found = _search_all(shares[0], rotated, count)
            for other in others:
                found += other.result()
        return _best(found, count)

    def grown(self, newer: Segment, indexed: int) -> "CompactIndex":
        """With the codes of the next ordinals, up to `indexed`.

        A search visits few segments when small ones are joined; the large one stays as it is
        until enough has come together, for joining copies it.
        """
        segments = list(self.segments)
        while segments and len(segments[-1]) <= _JOIN_RATIO * max(len(newer), _JOIN_ROWS_MIN):
            if len(segments[-1]) + len(newer) > limits.SEGMENT_ROWS_MAX:
                break
            newer = segments.pop().joined(newer)
        if len(newer):
            segments.append(newer)
        return replace(self, segments=tuple(segments), indexed=indexed)

    def joined(self) -> "CompactIndex":
        """With as few segments as the limit of their size allows."""
        segments: list[Segment] = []
        for segment in self.segments:
            if segments and len(segments[-1]) + len(segment) <= limits.SEGMENT_ROWS_MAX:
                segment = segments.pop().joined(segment)
            segments.append(segment)
        return replace(self, segments=tuple(segments))

    def without(self, owners: NDArray[np.int32]) -> "CompactIndex":
        """Without the codes of deleted faces: those whose owner is negative."""
        kept = []
        for segment in self.segments:
            gone = owners[segment.ordinals] < 0
            kept.append(segment.without(gone) if gone.any() else segment)
        return replace(self, segments=tuple(segment for segment in kept if len(segment)))

    def differing(self, ordinals: NDArray[np.int64], vectors: Vector) -> NDArray[np.int64]:
        """Those of some faces whose codes are not those of their vectors.

        Args:
            ordinals: Of the faces, ascending; all of them have codes.
            vectors: Theirs, shape (n, dimension).
        """
        found = [np.empty(0, dtype=np.int64)]
        for segment in self.segments:
            here = np.isin(ordinals, segment.ordinals)
            if here.any():
                positions = np.searchsorted(segment.ordinals, ordinals[here])
                found.append(
                    ordinals[here][segment.differing(self.codec, positions, vectors[here])]
                )
        return np.sort(np.concatenate(found))

    def tombstones(self, owners: NDArray[np.int32]) -> int:
        """Codes of deleted faces."""
        return sum(int(np.count_nonzero(owners[segment.ordinals] < 0)) for segment in self.segments)


def _search_all(segments: Sequence[Segment], rotated: Vector, count: int) -> list[_Found]:
    return [segment.search(rotated, count) for segment in segments]


def _shares(segments: Sequence[Segment], parts: int) -> list[list[Segment]]:
    """Segments divided into parts of about equal size."""
    shares: list[list[Segment]] = [[] for _ in range(parts)]
    for segment in sorted(segments, key=len, reverse=True):
        min(shares, key=lambda share: sum(map(len, share))).append(segment)
    return shares


def _best(found: Sequence[_Found], count: int) -> NDArray[np.int64]:
    if len(found) == 1:
        return found[0][0]
    ordinals = np.concatenate([ordinals for ordinals, _ in found], axis=1)
    scores = np.concatenate([scores for _, scores in found], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(ordinals, order, axis=1)
