"""What a gallery must hold, as plain dictionaries."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

DIMENSION: Final = 32
LOOSE: Final = ""
"""Stands for no identity, among the ids of a state."""
BYSTANDER: Final = "b"
"""What the ids of persons begin with that no lane writes to."""

Vector: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Person:
    """An identity: its labels, and the keys of its faces.

    A face's key is its source, which stays with it wherever it moves.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    faces: frozenset[str] = frozenset()

    def plus(self, keys: Iterable[str]) -> "Person":
        """With some more faces."""
        return replace(self, faces=self.faces | frozenset(keys))

    def minus(self, keys: Iterable[str]) -> "Person":
        """Without some of its faces."""
        return replace(self, faces=self.faces - frozenset(keys))


State: TypeAlias = dict[str, Person]
"""Persons by identity id; the loose faces are those of `LOOSE`."""


@lru_cache(maxsize=200_000)
def vector_of(key: str) -> Vector:
    """The template of a face: it follows from its key, so that nobody has to keep it."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def difference(expected: State, actual: State) -> str:
    """The first few differences between two states, in words; empty when there is none."""
    found = []
    for name in sorted(expected.keys() | actual.keys()):
        wanted, there = expected.get(name), actual.get(name)
        if wanted != there:
            found.append(f"{name or 'loose'}: expected {wanted}, found {there}")
    return "; ".join(found[:3])


def without(state: State, keys: Iterable[str]) -> State:
    """A state without some faces, and without persons who had no others and no labels."""
    gone = frozenset(keys)
    left = {name: person.minus(gone) for name, person in state.items()}
    return {
        name: person
        for name, person in left.items()
        if person.faces or not state[name].faces & gone or name == LOOSE
    }
