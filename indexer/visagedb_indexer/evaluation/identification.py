"""One to many: CMC, and FNIR at FPIR with strangers among the probes.

In each of several random splits some people are held out as strangers and everybody else is
enrolled, each with the same number of faces as far as there are so many. The other faces of
enrolled people are mated probes, all faces of strangers are non-mated ones. With R = 1:

- FPIR(N, t) is the fraction of non-mated probes for which somebody scores t or higher;
- FNIR(N, t) is the fraction of mated probes whose mate is not both first and at t or higher.

N is the number of enrolled people (ISO/IEC 19795-1; NIST FRTE 1:N uses the same words).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from visagedb_indexer import defaults
from visagedb_indexer.evaluation.labelled import LabelledFaces
from visagedb_indexer.evaluation.rates import NEVER, Indices, Scores
from visagedb_indexer.fusion import fused_score_matrix
from visagedb_indexer.values import Fusion, Vector

_BLOCK_ROWS: Final = 1024
SMALLEST_GALLERY: Final = 8
SIZES_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class OpenSet:
    """How people and faces are divided.

    Attributes:
        splits: Random divisions.
        strangers: Fraction of the people held out.
        enrolled: Faces enrolled of each person.
        fusion: How several enrolled faces of one person make one score.
        seed: Of the random generator.
    """

    splits: int = 10
    strangers: float = 1 / 3
    enrolled: int = 1
    fusion: Fusion = defaults.FUSION
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Searches:
    """What the probes of one split met, against growing parts of the same gallery.

    Attributes:
        sizes: People in each part, ascending; the last is the whole gallery. Shape (s,).
        mated_owners: The person of each mated probe, shape (m,).
        mated_places: Place of the mate in the gallery: it is in the parts that are larger.
        mated_scores: Of the mate, shape (m,).
        mated_ranks: Of the mate in the whole gallery, 1 being first; shape (m,).
        impostor_scores: The best impostor of each mated probe in each part, shape (m, s).
        stranger_owners: The person of each non-mated probe, shape (u,).
        stranger_scores: The best candidate of each in each part, shape (u, s).
    """

    sizes: Indices
    mated_owners: Indices
    mated_places: Indices
    mated_scores: Scores
    mated_ranks: Indices
    impostor_scores: Scores
    stranger_owners: Indices
    stranger_scores: Scores

    def hits(self, part: int) -> tuple[Scores, Indices]:
        """Scores at which mates are found in a part of the gallery, and whose probes they are.

        A mate that is not first is not found at any threshold; equal scores are not first.
        """
        inside = self.mated_places < self.sizes[part]
        first = self.mated_scores[inside] > self.impostor_scores[inside, part]
        return np.where(first, self.mated_scores[inside], NEVER), self.mated_owners[inside]


def search_splits(faces: LabelledFaces, protocol: OpenSet) -> Iterator[Searches]:
    """Runs the protocol; a split without mated probes or strangers is left out.

    Args:
        faces: Whose people are known.
        protocol: How they are divided.
    """
    random = np.random.default_rng(protocol.seed)
    groups = [np.flatnonzero(faces.owners == person) for person in range(len(faces.people))]
    for _ in range(protocol.splits):
        people = random.permutation(len(groups))
        held_out = max(1, round(protocol.strangers * len(groups)))
        strangers, enrolled = people[:held_out], people[held_out:]
        shuffled = [random.permutation(groups[person]) for person in enrolled]
        templates = [group[: protocol.enrolled] for group in shuffled]
        probes = [group[protocol.enrolled :] for group in shuffled]
        if len(enrolled) >= 2 and any(len(group) for group in probes):
            yield _search(
                faces,
                templates,
                probes,
                np.concatenate([groups[person] for person in strangers]),
                protocol.fusion,
            )


def gallery_sizes(people: int) -> Indices:
    """The whole gallery and its halves, ascending, down to a handful of people."""
    sizes = [people]
    while sizes[-1] // 2 >= SMALLEST_GALLERY and len(sizes) < SIZES_MAX:
        sizes.append(sizes[-1] // 2)
    return np.array(sizes[::-1], dtype=np.int64)


def _search(
    faces: LabelledFaces,
    templates: list[Indices],
    probes: list[Indices],
    strangers: Indices,
    fusion: Fusion,
) -> Searches:
    sizes = gallery_sizes(len(templates))
    gallery = _Gallery(faces, templates, fusion)
    mated = np.concatenate(probes)
    places = np.repeat(np.arange(len(probes)), [len(group) for group in probes])
    scores, ranks, impostors = [], [], []
    for begin in range(0, len(mated), _BLOCK_ROWS):
        part = slice(begin, begin + _BLOCK_ROWS)
        found = gallery.scores(faces.vectors[mated[part]])
        rows = np.arange(len(found))
        of_mate = found[rows, places[part]]
        found[rows, places[part]] = NEVER
        scores.append(of_mate)
        ranks.append(1 + np.sum(found >= of_mate[:, None], axis=1))
        impostors.append(_best_in_parts(found, sizes))
    best = [
        _best_in_parts(gallery.scores(faces.vectors[strangers[begin : begin + _BLOCK_ROWS]]), sizes)
        for begin in range(0, len(strangers), _BLOCK_ROWS)
    ]
    return Searches(
        sizes=sizes,
        mated_owners=faces.owners[mated],
        mated_places=places,
        mated_scores=np.concatenate(scores),
        mated_ranks=np.concatenate(ranks),
        impostor_scores=np.concatenate(impostors),
        stranger_owners=faces.owners[strangers],
        stranger_scores=np.concatenate(best),
    )


class _Gallery:
    """The enrolled people of a split.

    Args:
        faces: All faces.
        templates: Which of them are enrolled of each person, at least one.
        fusion: How those of one person make one score.
    """

    def __init__(self, faces: LabelledFaces, templates: list[Indices], fusion: Fusion) -> None:
        enrolled = np.concatenate(templates)
        counts = np.array([len(group) for group in templates])
        self._vectors = faces.vectors[enrolled]
        self._qualities = faces.quality[enrolled].astype(np.float32)
        self._starts = np.cumsum(counts) - counts
        self._fusion = fusion

    def scores(self, probes: Vector) -> Scores:
        """Of each probe and person, shape (probes, people)."""
        return fused_score_matrix(
            probes, self._vectors, self._starts, self._fusion, self._qualities
        )


def _best_in_parts(scores: Scores, sizes: Indices) -> Scores:
    """The best score among the first so many people, shape (probes, sizes)."""
    begins = np.concatenate([[0], sizes[:-1]])
    best: Scores = np.maximum.accumulate(np.maximum.reduceat(scores, begins, axis=1), axis=1)
    return best
