"""Faces whose people are known: what an evaluation starts from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visagedb_indexer.evaluation.errors import TooFewPeopleError
from visagedb_indexer.evaluation.rates import Floats, Indices
from visagedb_indexer.values import Vector


@dataclass(frozen=True, slots=True, eq=False)
class LabelledFaces:
    """Templates and whose they are.

    Attributes:
        vectors: Shape (n, dimension), unit length.
        owners: Position of each face's person in `people`, shape (n,).
        people: Names; each has at least one face.
        quality: Of each face, 0 to 1, shape (n,); NaN where it is not known.
    """

    vectors: Vector
    owners: Indices
    people: tuple[str, ...]
    quality: Floats

    def __len__(self) -> int:
        return len(self.owners)

    @property
    def faces_per_person(self) -> Indices:
        """Shape (people,)."""
        return np.bincount(self.owners, minlength=len(self.people))


def labelled_faces(
    vectors: Vector, names: Sequence[str], quality: Sequence[float | None] = ()
) -> LabelledFaces:
    """Brings faces and names together.

    Args:
        vectors: Shape (n, dimension), unit length.
        names: The person of each face.
        quality: Of each face, None where unknown; nothing at all if none is known.

    Raises:
        TooFewPeopleError: There are fewer than two people, or nobody has two faces.
    """
    people, owners = np.unique(np.asarray(names, dtype=object).astype(str), return_inverse=True)
    if len(people) < 2:
        raise TooFewPeopleError(
            "false matches are between different people: faces of at least two are needed, "
            f"there are those of {len(people)}"
        )
    if len(people) == len(owners):
        raise TooFewPeopleError(
            f"each of the {len(people)} people has a single usable face; at least one person "
            "needs two, so that there is something to match"
        )
    known = np.array([np.nan if value is None else value for value in quality], dtype=np.float64)
    return LabelledFaces(
        vectors=vectors,
        owners=owners.astype(np.int64),
        people=tuple(str(name) for name in people),
        quality=known if len(known) else np.full(len(owners), np.nan),
    )


def drawn_people(names: Sequence[str], faces_max: int, seed: int) -> list[int]:
    """Positions of the faces of as many people, drawn at random, as a limit allows.

    Whole people are drawn, so the numbers of faces per person stay as they are.

    Args:
        names: The person of each face.
        faces_max: How many faces may be taken.
        seed: Of the random order of people.

    Returns:
        Ascending; all positions when there are no more than `faces_max`.
    """
    if len(names) <= faces_max:
        return list(range(len(names)))
    faces: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        faces.setdefault(name, []).append(position)
    taken: list[int] = []
    people = sorted(faces)
    for index in np.random.default_rng(seed).permutation(len(people)):
        candidates = faces[people[index]]
        if len(taken) + len(candidates) <= faces_max:
            taken.extend(candidates)
    return sorted(taken)
