"""Faces of synthetic people, as far apart as real ones."""

import numpy as np
from numpy.typing import NDArray


def faces(
    people: int, faces_each: int, seed: int = 1, dimension: int = 64, noise: float = 0.6
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit vectors in random order, shape (people * faces_each, dimension), and whose they are."""
    random = np.random.default_rng(seed)
    whose = random.permutation(np.repeat(np.arange(people), faces_each))
    persons = random.standard_normal((people, dimension))
    vectors = persons[whose] + noise * random.standard_normal((len(whose), dimension))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit.astype(np.float32), whose
