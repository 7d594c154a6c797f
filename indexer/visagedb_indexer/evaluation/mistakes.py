"""The most confident mistakes: often the label is wrong, not the score."""

from dataclasses import dataclass

from visagedb_indexer.evaluation.comparisons import Comparisons


@dataclass(frozen=True, slots=True)
class Mistake:
    """Two faces whose score contradicts what was said about them.

    Attributes:
        one: Number of the first face.
        other: Number of the second.
        score: Their cosine.
    """

    one: int
    other: int
    score: float


def false_matches(comparisons: Comparisons, count: int) -> tuple[Mistake, ...]:
    """The impostor pairs with the highest scores, highest first."""
    scores = comparisons.impostor_scores[::-1][:count]
    pairs = comparisons.tail_pairs[::-1][:count]
    return tuple(
        Mistake(int(one), int(other), float(score))
        for (one, other), score in zip(pairs, scores, strict=True)
    )


def false_non_matches(comparisons: Comparisons, count: int) -> tuple[Mistake, ...]:
    """The mate pairs with the lowest scores, lowest first."""
    return tuple(
        Mistake(int(one), int(other), float(score))
        for (one, other), score in zip(
            comparisons.mate_pairs[:count], comparisons.mate_scores[:count], strict=True
        )
    )
