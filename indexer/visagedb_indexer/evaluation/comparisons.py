"""All scores between faces: of mates, of impostors, and which pairs the highest belong to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from visagedb_indexer import limits
from visagedb_indexer.errors import LimitExceededError
from visagedb_indexer.evaluation.errors import InvalidPairListError
from visagedb_indexer.evaluation.labelled import LabelledFaces
from visagedb_indexer.evaluation.rates import Floats, Indices, Scores
from visagedb_indexer.values import Vector

_BLOCK_ROWS: Final = 1024
_TAIL_PAIRS: Final = 1_000_000
_TAIL_SHARE: Final = 0.03
"""Pairs with the highest impostor scores are remembered: what thresholds and their
confidence intervals are read from lies there."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparisons:
    """Scores of one-to-one comparisons.

    Attributes:
        mate_scores: Ascending, shape (m,).
        mate_pairs: The two faces of each, shape (m, 2).
        impostor_scores: Ascending, shape (i,).
        tail_pairs: The two faces of the last, so highest, impostor scores, shape (t, 2).
        owners: The person of each face, shape (n,).
        people: How many people there are.
    """

    mate_scores: Scores
    mate_pairs: Indices
    impostor_scores: Scores
    tail_pairs: Indices
    owners: Indices
    people: int

    @property
    def tail_share(self) -> float:
        """Fraction of the impostor scores whose pairs are known."""
        return len(self.tail_pairs) / len(self.impostor_scores)

    def impostor_weight(self, weights: Floats, tail: Floats) -> float:
        """Weight of all impostor pairs, if a person weighs `weights` and the tail's pairs `tail`.

        Args:
            weights: Of each person, shape (people,).
            tail: Of each pair of the tail, shape (t,).
        """
        if len(self.tail_pairs) == len(self.impostor_scores):
            return float(tail.sum())
        # All pairs were compared: the square of the sum has every pair of people twice.
        faces = weights * np.bincount(self.owners, minlength=self.people)
        return float(faces.sum() ** 2 - (faces**2).sum()) / 2


def compare_all(faces: LabelledFaces) -> Comparisons:
    """Compares every face with every other.

    Raises:
        LimitExceededError: There are more than `limits.EVALUATED_FACES_MAX` faces.
    """
    count = len(faces)
    if count > limits.EVALUATED_FACES_MAX:
        raise LimitExceededError(
            f"{count:,} faces; at most {limits.EVALUATED_FACES_MAX:,} are compared all with all"
        )
    scores, starts = _triangle(faces.vectors)
    mates = _mate_positions(faces.owners, starts)
    mate_scores = scores[mates]
    order = np.argsort(mate_scores, kind="stable")
    # Lower than any cosine, so that the mates come first when everything is sorted.
    scores[mates] = -np.inf
    impostors = np.sort(scores)[len(mates) :]
    tail = min(len(impostors), max(_TAIL_PAIRS, int(_TAIL_SHARE * len(impostors))))
    highest = np.flatnonzero(scores >= impostors[-tail])
    highest = highest[np.argsort(scores[highest], kind="stable")]
    return Comparisons(
        mate_scores=mate_scores[order],
        mate_pairs=_pairs(mates[order], starts),
        impostor_scores=impostors,
        tail_pairs=_pairs(highest, starts),
        owners=faces.owners,
        people=len(faces.people),
    )


def compare_pairs(
    scores: Scores, same: Sequence[bool], pairs: Indices, owners: Indices
) -> Comparisons:
    """The comparisons that a list of pairs names.

    Args:
        scores: Shape (n,).
        same: Whether the list says that a pair shows one person.
        pairs: The two images of each pair, shape (n, 2).
        owners: The person of each image, or any number that is the image's own.

    Raises:
        InvalidPairListError: There are no pairs of one person, or none of two.
    """
    mated = np.asarray(same, dtype=bool)
    if mated.all() or not mated.any():
        raise InvalidPairListError(
            "the list needs pairs of one person and pairs of two different people; "
            f"it has {int(mated.sum())} and {int((~mated).sum())}"
        )
    order = np.argsort(scores, kind="stable")
    mates, impostors = order[mated[order]], order[~mated[order]]
    return Comparisons(
        mate_scores=scores[mates],
        mate_pairs=pairs[mates],
        impostor_scores=scores[impostors],
        tail_pairs=pairs[impostors],
        owners=owners,
        people=int(owners.max()) + 1,
    )


def _triangle(vectors: Vector) -> tuple[Scores, Indices]:
    """Scores of all pairs (i, j), i < j, row after row, and where each row starts."""
    count = len(vectors)
    rows = np.arange(count, dtype=np.int64)
    starts = rows * (2 * count - rows - 1) // 2
    scores = np.empty(count * (count - 1) // 2, dtype=np.float32)
    for begin in range(0, count, _BLOCK_ROWS):
        block = vectors[begin : begin + _BLOCK_ROWS] @ vectors[begin:].T
        for row, values in enumerate(block, begin):
            length = count - row - 1
            scores[starts[row] : starts[row] + length] = values[row - begin + 1 :]
    return scores, starts


def _mate_positions(owners: Indices, starts: Indices) -> Indices:
    """Where the pairs of one person stand in the triangle."""
    order = np.argsort(owners, kind="stable")
    positions = []
    for group in np.split(order, np.flatnonzero(np.diff(owners[order])) + 1):
        first, second = np.triu_indices(len(group), k=1)
        positions.append(starts[group[first]] + group[second] - group[first] - 1)
    return np.concatenate(positions)


def _pairs(positions: Indices, starts: Indices) -> Indices:
    """The faces (i, j) behind positions in the triangle, shape (n, 2)."""
    first = np.searchsorted(starts[:-1], positions, side="right") - 1
    return np.stack([first, positions - starts[first] + first + 1], axis=1)
