"""The most confident mistakes: often the label is wrong, not the score."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

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
    """The impostor pairs with the highest scores, highest first; two people are shown once."""
    scores = comparisons.impostor_scores[::-1][: len(comparisons.tail_pairs)]
    owners = comparisons.owners

    def people(mistake: Mistake) -> list[Hashable]:
        return [frozenset((int(owners[mistake.one]), int(owners[mistake.other])))]

    listed = zip(comparisons.tail_pairs[::-1], scores, strict=True)
    candidates = (Mistake(int(one), int(other), float(score)) for (one, other), score in listed)
    return tuple(islice(_once(candidates, people), count))


def false_non_matches(comparisons: Comparisons, count: int) -> tuple[Mistake, ...]:
    """The mate pairs with the lowest scores, lowest first; each face is shown once.

    A wrong face in a folder is a bad match to all the others there; once is enough.
    """

    def faces(mistake: Mistake) -> list[Hashable]:
        return [mistake.one, mistake.other]

    listed = zip(comparisons.mate_pairs, comparisons.mate_scores, strict=True)
    candidates = (Mistake(int(one), int(other), float(score)) for (one, other), score in listed)
    return tuple(islice(_once(candidates, faces), count))


def _once(
    mistakes: Iterable[Mistake], keys: Callable[[Mistake], list[Hashable]]
) -> Iterator[Mistake]:
    """Those whose keys have not been seen before."""
    seen: set[Hashable] = set()
    for mistake in mistakes:
        own = keys(mistake)
        if seen.isdisjoint(own):
            seen.update(own)
            yield mistake
