"""How many people a PLDA model needs, and how far it comes without any labels."""

from collections.abc import Iterator

import numpy as np

from clustering import ours
from clustering.embeddings import Faces
from clustering.scores import agreement
from visagedb_indexer.clustering import PldaModel, build_graph, fit
from visagedb_indexer.clustering.fitting import generic, without_labels

_PEOPLE = (10, 20, 50, 100, 200)


def measure(faces: Faces, seeds: int) -> dict[str, dict[str, float]]:
    """B-cubed F on one half of the people, by what the model was fitted on."""
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        judged, taught = faces.halves(seed)
        edges = build_graph(judged.vectors)
        models = {
            "a guess": generic(judged.vectors),
            "no labels": without_labels(judged.vectors, edges),
            **{f"{number} people": model for number, model in _fitted(taught, seed)},
        }
        for name, model in models.items():
            labels = ours.partition(edges, judged.vectors, model)
            found.setdefault(name, []).append(agreement(labels, judged.people).b_cubed_f)
    return {
        name: {"b_cubed_f": float(np.mean(values)), "b_cubed_f_least": min(values)}
        for name, values in found.items()
    }


def _fitted(taught: Faces, seed: int) -> Iterator[tuple[int | str, PldaModel]]:
    """Models of more and more people with two or more faces."""
    several = np.flatnonzero(np.bincount(taught.people) > 1)
    chosen = np.random.default_rng(seed).permutation(several)
    for number in (*_PEOPLE, len(several)):
        rows = np.isin(taught.people, chosen[:number])
        name = number if number < len(several) else "all"
        yield name, fit(taught.vectors[rows], taught.people[rows])
