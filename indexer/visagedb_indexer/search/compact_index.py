"""All codes of a gallery: the segments and how far they reach."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.search.compact import Codec, Segment
from visagedb_indexer.values import Vector


@dataclass(frozen=True, slots=True, eq=False)
class CompactIndex:
    """The codes as searches see them.

    Attributes:
        codec: How vectors become codes.
        segments: Where the codes are.
        indexed: All ordinals below it are in the codes, unless they are deleted.
        generation: Counts the builds of the gallery's codes.
    """

    codec: Codec
    segments: tuple[Segment, ...]
    indexed: int
    generation: int

    def __len__(self) -> int:
        return sum(len(segment) for segment in self.segments)

    def search(
        self, rotated: Vector, count: int, bitmap: NDArray[np.uint8] | None
    ) -> NDArray[np.int64]:
        """Ordinals of about the best `count` rows of all segments, best first."""
        if len(self.segments) == 1:
            return self.segments[0].search(rotated, count, bitmap)[0]
        found = [segment.search(rotated, count, bitmap) for segment in self.segments]
        ordinals = np.concatenate([ordinals for ordinals, _ in found])
        scores = np.concatenate([scores for _, scores in found])
        result: NDArray[np.int64] = ordinals[np.argsort(-scores, kind="stable")[:count]]
        return result
