"""What the search engine asks of the store, and what it answers."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer import cancellation
from visagedb_indexer.cancellation import Cancellation
from visagedb_indexer.values import FaceScope, Vector


class VectorView(Protocol):
    """A consistent view of the stored vectors."""

    def vectors(self, ordinals: NDArray[np.int64]) -> Vector:
        """Vectors by ordinal, shape (len(ordinals), dimension), float32."""
        ...

    def vector_blocks(self, start: int = 0) -> Iterator[tuple[int, Vector]]:
        """All vectors in order: first ordinal of a block and its rows.

        Begins with the block that holds `start`, which may begin before it. Rows of
        deleted faces are zero or stale. A block is valid until the view is closed.
        """
        ...


class VectorSource(Protocol):
    """Where the exact vectors are."""

    def read(self) -> AbstractContextManager[VectorView]:
        """Opens a view; it holds at least every row that the engine has been told of."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SearchRequest:
    """One probe.

    Attributes:
        vector: Shape (dimension,), unit length.
        top_k: How many distinct identities to return.
        allowed: Shape (identities,), bool, by identity number: which may be returned;
            numbers past its end may not. None allows all.
        min_score: Hits below this cosine are left out.
        exact: Compare with every stored vector.
        deadline: `time.monotonic()` seconds after which the work is pointless; None
            for no deadline.
        scope: Which faces may be returned.
        each_face: Every face counts on its own, not only the best of each identity.
        caller: Who waits for the answer, and may go away.
    """

    vector: Vector
    top_k: int
    allowed: NDArray[np.bool_] | None = None
    min_score: float | None = None
    exact: bool = False
    deadline: float | None = None
    scope: FaceScope = FaceScope.IDENTITIES
    each_face: bool = False
    caller: Cancellation = field(default_factory=cancellation.current)


@dataclass(frozen=True, slots=True)
class Hit:
    """The best face of one identity, or a face on its own.

    Attributes:
        number: The identity; `faces_table.LOOSE` for a loose face.
        ordinal: The face.
        score: Cosine similarity.
    """

    number: int
    ordinal: int
    score: float
