"""Made-up people: as many as wanted, with faces around them."""

import numpy as np
from support import unit

from visagedb_indexer.evaluation import LabelledFaces, labelled_faces


def made_up(
    people: int, faces: int = 4, *, dimension: int = 32, noise: float = 0.8, seed: int = 5
) -> LabelledFaces:
    """Faces of random people; the quality of a face says how noisy it is."""
    random = np.random.default_rng(seed)
    centres = unit(random.standard_normal((people, dimension)))
    owners = np.repeat(np.arange(people), faces)
    strength = random.uniform(0.2, 1.8, len(owners)) * noise
    noisy = random.standard_normal((len(owners), dimension)) / np.sqrt(dimension)
    vectors = unit(centres[owners] + strength[:, None] * noisy)
    names = [f"person {owner:04d}" for owner in owners]
    return labelled_faces(vectors, names, [float(1 - s / 3) for s in strength])
