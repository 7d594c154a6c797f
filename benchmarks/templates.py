"""What better templates and fusion of several faces buy in open-set identification.

    python benchmarks/templates.py lfw-devtest/images --cache FOLDER [--second CARD.toml]

Prints FNIR at FPIR 1% of every method on the same splits of the people (`open_set`), and how
much lower that is than for plain embeddings; writes benchmarks/results/templates.json.
Everything that is fitted (centre, covariances, cohorts) is fitted on the people for tuning.
"""

import argparse
import dataclasses
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import torch
from common import write_results
from numpy.typing import NDArray
from open_set import Figure, Scores, Split, fnir
from photographs import MIRRORED, PLAIN, People, Vectors, View, centred, embedded, unit
from rich.console import Console
from rich.progress import track
from rich.table import Table

from visagedb_indexer.clustering.plda import PldaModel, fit
from visagedb_indexer.faces.registry import ModelRegistry
from visagedb_indexer.fusion import fused_scores
from visagedb_indexer.values import Fusion

LARGER, SMALLER = View(scale=1.08), View(scale=0.92)
SMALLER_MIRRORED: Final = dataclasses.replace(SMALLER, mirrored=True)
MOVED: Final = (View(right=-3), View(right=3), View(down=-3), View(down=3))
TURNED: Final = (View(degrees=5), View(degrees=-5))
VIEWS: Final = (PLAIN, MIRRORED, LARGER, SMALLER, SMALLER_MIRRORED, *MOVED, *TURNED)
ENROLLED: Final = 3
WRONG_SHARE: Final = 0.2
"""Of the identities, those with one wrong face in the robustness rows."""
REFERENCE: Final = "plain"
ONE: Final = "one of the three"
FALSE_MATCH_RATES: Final = (1e-2, 1e-3, 1e-4)

Named: TypeAlias = Iterator[tuple[str, tuple[Scores, Scores]]]
"""Methods with their scores of the mated probes and of the strangers."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("images", type=Path, help="one folder per person")
    parser.add_argument("--cache", type=Path, help="folder that keeps the embeddings")
    parser.add_argument("--model", default="sface")
    parser.add_argument("--second", type=Path, help="card of another embedder, to be fused")
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    registry = ModelRegistry([arguments.second] if arguments.second else [])
    people = embedded(
        arguments.images, registry, registry.get(arguments.model), VIEWS, arguments.cache
    )
    second = None
    if arguments.second:
        [name] = {card.name for card in registry.embedders()} - {arguments.model, "sface"}
        second = embedded(
            arguments.images, registry, registry.get(name), (PLAIN, MIRRORED), arguments.cache
        )
    seeds = range(arguments.seed, arguments.seed + arguments.splits)
    single, size = single_image(people, second, seeds)
    several, sizes, rates = several_images(people, seeds)
    console = Console()
    console.print(figures_table(f"one enrolled image ({size})", REFERENCE, single))
    console.print(figures_table(f"{ENROLLED} enrolled images ({sizes})", ONE, several))
    table = Table("fusion", *(f"at {rate:g}" for rate in FALSE_MATCH_RATES),
                  title="false match rate at one image's threshold for that rate")  # fmt: skip
    for name, values in rates.items():
        table.add_row(name, *(f"{value:.2e}" for value in values))
    console.print(table)
    figures = {
        "model": dataclasses.asdict(registry.get(arguments.model).identity()),
        "splits": arguments.splits,
        "seed": arguments.seed,
        "photographs": len(people.files),
        "people": len(np.unique(people.names)),
        "one_image": {name: dataclasses.asdict(figure) for name, figure in single.items()},
        "several_images": {name: dataclasses.asdict(figure) for name, figure in several.items()},
        "false_match_rates": rates,
    }
    console.print(f"written to {write_results('templates', figures)}")


# One enrolled image


def single_image(
    people: People, second: People | None, seeds: range
) -> tuple[dict[str, Figure], str]:
    values: defaultdict[str, list[float]] = defaultdict(list)
    for seed in track(seeds, "one enrolled image"):
        split = Split.draw(people.names, 1, seed)
        for name, (mated, strangers) in single_methods(people, second, split):
            values[name].append(fnir(mated, split.mates, strangers))
    size = f"gallery {len(split.enrolled)}, {len(split.probes)} mated, {len(split.strangers)} not"
    return {name: Figure.of(found, values[REFERENCE]) for name, found in values.items()}, size


def single_methods(people: People, second: People | None, split: Split) -> Named:
    names, tuning = people.names, split.tuning

    def prepared(*views: View) -> Vectors:
        return centred(people.averaged(*views), names, tuning)

    def scored(vectors: Vectors, gallery: Vectors | None = None) -> tuple[Scores, Scores]:
        enrolled = (vectors if gallery is None else gallery)[split.enrolled[:, 0]].T
        return vectors[split.probes] @ enrolled, vectors[split.strangers] @ enrolled

    plain, flipped = prepared(PLAIN), prepared(PLAIN, MIRRORED)
    yield REFERENCE, scored(people.views[PLAIN])
    yield "centred", scored(plain)
    yield "mirror averaged", scored(people.averaged(PLAIN, MIRRORED))
    yield "centred, mirror averaged", scored(flipped)
    yield "the same, enrolled faces only", scored(plain, flipped)
    yield "the same, probes only", scored(flipped, plain)
    yield "centred, with a smaller crop", scored(prepared(PLAIN, SMALLER))
    yield "centred, with a smaller mirrored crop", scored(prepared(PLAIN, SMALLER_MIRRORED))
    yield "centred, with a larger crop", scored(prepared(PLAIN, LARGER))
    yield "centred, with 4 moved crops", scored(prepared(PLAIN, *MOVED))
    yield "centred, with 2 turned crops", scored(prepared(PLAIN, *TURNED))
    four = (PLAIN, MIRRORED, SMALLER, SMALLER_MIRRORED)
    yield "centred, 2 scales, both mirrored", scored(prepared(*four))
    yield "centred, all 11 crops", scored(prepared(*VIEWS))
    yield from fitted_methods(flipped, names, split)
    if second is not None:
        other = centred(second.averaged(PLAIN), names, tuning)
        yield "second model, centred", scored(other)
        for share in (0.3, 0.5):
            both = np.hstack([plain * np.sqrt(1 - share), other * np.sqrt(share)])
            yield f"both models, {share:.0%} the second", scored(unit(both))


def fitted_methods(vectors: Vectors, names: NDArray[np.str_], split: Split) -> Named:
    """On centred and mirror averaged templates: other scales for the score."""
    tuning = split.tuning
    enrolled, probes, strangers = (
        vectors[rows] for rows in (split.enrolled[:, 0], split.probes, split.strangers)
    )
    within = within_covariance(vectors[tuning], names[tuning])
    for power in (0.1, 0.25, 0.5):
        shaped = unit(vectors @ matrix_power(within, -power))
        gallery = shaped[split.enrolled[:, 0]].T
        yield (
            f"+ within-person whitening, power {power}",
            (shaped[split.probes] @ gallery, shaped[split.strangers] @ gallery),
        )
    total = np.cov(vectors[tuning].T)
    shaped = unit(vectors @ matrix_power(total, -0.25))
    gallery = shaped[split.enrolled[:, 0]].T
    yield (
        "+ whitening, power 0.25",
        (shaped[split.probes] @ gallery, shaped[split.strangers] @ gallery),
    )
    model = fit(vectors[tuning], names[tuning])
    projected = model.project(enrolled)
    yield (
        "+ PLDA score",
        (
            plda_scores(model, model.project(probes), projected),
            plda_scores(model, model.project(strangers), projected),
        ),
    )
    _, first = np.unique(names[tuning], return_index=True)
    cohort = vectors[tuning][first]
    for top in (100, len(cohort)):
        yield (
            f"+ adaptive s-norm, cohort {'all' if top == len(cohort) else top}",
            (s_norm(probes, enrolled, cohort, top), s_norm(strangers, enrolled, cohort, top)),
        )


def within_covariance(vectors: Vectors, names: NDArray[np.str_]) -> NDArray[np.float64]:
    _, index, counts = np.unique(names, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(sums, index, vectors)
    differences = vectors - (sums / counts[:, None])[index]
    covariance = differences.T @ differences / (len(vectors) - len(counts))
    ridge = 0.05 * float(np.trace(covariance)) / len(covariance)
    shrunk: NDArray[np.float64] = covariance + ridge * np.eye(len(covariance))
    return shrunk


def matrix_power(covariance: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    values, axes = np.linalg.eigh(covariance)
    result: NDArray[np.float64] = (axes * np.maximum(values, 1e-9) ** power) @ axes.T
    return result


def plda_scores(model: PldaModel, probes: Vectors, sums: Vectors, count: float = 1.0) -> Scores:
    """Log-likelihood ratios of every probe and every set of faces, in nats.

    Args:
        model: Fitted on other people.
        probes: Projected, shape (m, dimension).
        sums: Of the projected faces of each set, shape (sets, dimension).
        count: Faces in each set.
    """
    worth = float(model.effective(np.array([count], np.float32))[0])
    right = sums * np.float32(worth / count)
    apart = [evidence(model, 1.0, probes)[:, None], evidence(model, worth, right)[None]]
    weights = model.phi / (1 + (1 + worth) * model.phi)
    squares = (probes**2) @ weights
    joint = squares[:, None] + (right**2) @ weights + 2 * (probes * weights) @ right.T
    constant = np.log1p((1 + worth) * model.phi).sum()
    result: Scores = 0.5 * (joint - constant) - apart[0] - apart[1]
    return result


def evidence(model: PldaModel, count: float, sums: Vectors) -> Scores:
    weights = model.phi / (1 + count * model.phi)
    result: Scores = 0.5 * ((sums**2) @ weights - np.log1p(count * model.phi).sum())
    return result


def s_norm(probes: Vectors, enrolled: Vectors, cohort: Vectors, top: int) -> Scores:
    """Symmetric normalisation by the best scores of a cohort (Matejka et al. 2017)."""

    def shift_and_scale(vectors: Vectors) -> tuple[Scores, Scores]:
        best = np.sort(vectors @ cohort.T, axis=1)[:, -top:]
        return best.mean(axis=1), best.std(axis=1)

    scores = probes @ enrolled.T
    (probe_mean, probe_std), (own_mean, own_std) = map(shift_and_scale, (probes, enrolled))
    result: Scores = (scores - probe_mean[:, None]) / probe_std[:, None] + (
        scores - own_mean
    ) / own_std
    return result


# Several enrolled images


def several_images(
    people: People, seeds: range
) -> tuple[dict[str, Figure], str, dict[str, list[float]]]:
    values: defaultdict[str, list[float]] = defaultdict(list)
    rates: defaultdict[str, list[list[float]]] = defaultdict(list)
    for seed in track(seeds, f"{ENROLLED} enrolled images"):
        split = Split.draw(people.names, ENROLLED, seed)
        vectors = centred(people.averaged(PLAIN, MIRRORED), people.names, split.tuning)
        values[ONE].append(one_of_several(vectors, split))
        values[f"{ONE}, plain"].append(one_of_several(people.views[PLAIN], split))
        single = vectors[split.strangers] @ vectors[split.enrolled[:, 0]].T
        thresholds = np.quantile(single, 1 - np.array(FALSE_MATCH_RATES))
        spoilt = with_wrong_faces(split, seed)
        for fusion in Fusion:
            mated, strangers = fused(vectors, split, split.enrolled, fusion, people.qualities)
            values[fusion.value].append(fnir(mated, split.mates, strangers))
            rates[fusion.value].append([float(np.mean(strangers > t)) for t in thresholds])
            mated, strangers = fused(vectors, split, spoilt, fusion, people.qualities)
            name = f"{fusion.value}, a wrong face in {WRONG_SHARE:.0%}"
            values[name].append(fnir(mated, split.mates, strangers))
        values["PLDA of the faces"].append(plda_of_several(vectors, people.names, split))
    sizes = f"gallery {len(split.enrolled)}, {len(split.probes)} mated, {len(split.strangers)} not"
    names = sorted(values, key=lambda name: "wrong" in name)
    figures = {name: Figure.of(values[name], values[ONE]) for name in names}
    return figures, sizes, {name: np.mean(found, axis=0).tolist() for name, found in rates.items()}


def one_of_several(vectors: Vectors, split: Split) -> float:
    """The mean over which one it is."""
    errors = []
    for place in range(ENROLLED):
        enrolled = vectors[split.enrolled[:, place]].T
        mated, strangers = vectors[split.probes] @ enrolled, vectors[split.strangers] @ enrolled
        errors.append(fnir(mated, split.mates, strangers))
    return float(np.mean(errors))


def with_wrong_faces(split: Split, seed: int) -> NDArray[np.int64]:
    """The enrolled faces, some identities' last one replaced by that of a person for tuning."""
    random = np.random.default_rng(seed)
    enrolled = split.enrolled.copy()
    spoilt = random.random(len(enrolled)) < WRONG_SHARE
    enrolled[spoilt, -1] = random.choice(np.flatnonzero(split.tuning), spoilt.sum())
    return enrolled


def fused(
    vectors: Vectors,
    split: Split,
    enrolled: NDArray[np.int64],
    fusion: Fusion,
    qualities: NDArray[np.float32],
) -> tuple[Scores, Scores]:
    """Scores of the mated probes and the strangers, with the product's own fusion."""
    faces = vectors[enrolled.ravel()]
    starts = np.arange(0, enrolled.size, enrolled.shape[1])
    known = qualities[enrolled.ravel()]

    def scores(probes: NDArray[np.int64]) -> Scores:
        cosines = vectors[probes] @ faces.T
        return np.stack([fused_scores(row, faces, starts, fusion, known) for row in cosines])

    return scores(split.probes), scores(split.strangers)


def plda_of_several(vectors: Vectors, names: NDArray[np.str_], split: Split) -> float:
    model = fit(vectors[split.tuning], names[split.tuning])
    sums = model.project(vectors[split.enrolled.ravel()])
    sums = sums.reshape(len(split.enrolled), ENROLLED, -1).sum(axis=1)
    mated, strangers = (
        plda_scores(model, model.project(vectors[rows]), sums, ENROLLED)
        for rows in (split.probes, split.strangers)
    )
    return fnir(mated, split.mates, strangers)


def figures_table(title: str, reference: str, figures: dict[str, Figure]) -> Table:
    table = Table("method", "FNIR", "95% interval", "lower than", "95% interval", title=title)
    table.columns[3].header = f"lower than {reference}"
    for name, figure in figures.items():
        table.add_row(
            name,
            f"{figure.fnir:.2%}",
            f"{figure.lower:.2%} to {figure.upper:.2%}",
            f"{figure.reduction:.1%}",
            f"{figure.reduction_lower:.0%} to {figure.reduction_upper:.0%}",
        )
    return table


if __name__ == "__main__":
    main()
