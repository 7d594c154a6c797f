"""Do the confidence intervals of `visagedb evaluate` hold? And would simpler ones?

    python benchmarks/evaluation_intervals.py [--samples 100] [--seed 0]

Makes large populations of people who, as in real collections, have very different numbers of
photographs and are not equally easy to recognise. Their mean error rate is taken for the
truth. Then draws many small samples, evaluates each, and counts how often the 95% interval of
the sample holds the truth: of the evaluation's intervals, of the plain percentiles that they are
made of, and of the usual interval of a proportion (Wilson), which takes the pairs for independent.
"""

import argparse
from typing import Any

import numpy as np
from common import write_results
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.special import expit, logit

from visagedb_indexer.evaluation import (
    Bootstrap,
    LabelledFaces,
    OpenSet,
    Settings,
    evaluate_faces,
    labelled_faces,
)
from visagedb_indexer.evaluation.bootstrap import stretch_for

DIMENSION = 64
TRUTH_PEOPLE = 1000
TRUTH_POPULATIONS = 10
SAMPLE_PEOPLE = 80
FACES_MAX = 40
RATE = 0.01
console = Console()


def population(people: int, random: np.random.Generator) -> LabelledFaces:
    """People with 2 to 40 faces, most of them with few; a face's noise depends on its person."""
    counts = np.minimum(1 + random.zipf(1.8, people), FACES_MAX)
    owners = np.repeat(np.arange(people), counts)
    centres = random.standard_normal((people, DIMENSION))
    hardness = random.lognormal(-0.15, 0.3, people)
    noise = random.standard_normal((len(owners), DIMENSION)) * hardness[owners, None]
    vectors = centres[owners] + noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return labelled_faces(vectors.astype(np.float32), [str(owner) for owner in owners])


def wilson(rate: float, count: int) -> tuple[float, float]:
    """The 95% interval of a proportion of so many independent trials."""
    z = 1.96
    middle = (rate + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * np.sqrt(rate * (1 - rate) / count + (z / count / 2) ** 2)
    return float(middle - reach), float(middle + reach)


def plain(faces: LabelledFaces, rate: float, ends: tuple[float, float]) -> tuple[float, float]:
    """The interval before it was stretched."""
    counts = np.bincount(faces.owners)
    stretch = stretch_for(counts * (counts - 1) // 2)
    lower, upper = expit(logit(rate) + (logit(np.array(ends)) - logit(rate)) / stretch)
    return float(lower), float(upper)


def measure(samples: int, seed: int) -> dict[str, float]:
    random = np.random.default_rng(seed)
    truth = np.mean(
        [
            evaluate_faces(
                population(TRUTH_PEOPLE, random), Settings(OpenSet(splits=1), Bootstrap(0))
            )
            .verification.points[0]
            .fnmr
            for _ in range(TRUTH_POPULATIONS)
        ]
    )
    by_people: list[tuple[float, float]] = []
    by_percentiles: list[tuple[float, float]] = []
    by_pairs: list[tuple[float, float]] = []
    for number in track(range(samples), "samples", console=console):
        faces = population(SAMPLE_PEOPLE, random)
        found = evaluate_faces(faces, Settings(OpenSet(splits=1), Bootstrap(100, seed=number)))
        point = found.verification.points[0]
        assert point.target_fmr == RATE
        assert point.fnmr_interval is not None
        by_people.append((point.fnmr_interval.lower, point.fnmr_interval.upper))
        by_percentiles.append(plain(faces, point.fnmr, by_people[-1]))
        by_pairs.append(wilson(point.fnmr, found.verification.mate_count))
    return {
        "true_fnmr": float(truth),
        "samples": samples,
        "covered_by_people": covered(np.array(by_people), float(truth)),
        "covered_by_percentiles": covered(np.array(by_percentiles), float(truth)),
        "covered_by_pairs": covered(np.array(by_pairs), float(truth)),
        "width_by_people": float(np.mean(np.diff(by_people))),
        "width_by_percentiles": float(np.mean(np.diff(by_percentiles))),
        "width_by_pairs": float(np.mean(np.diff(by_pairs))),
    }


def covered(intervals: NDArray[Any], truth: float) -> float:
    return float(np.mean((intervals[:, 0] <= truth) & (truth <= intervals[:, 1])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    figures = measure(arguments.samples, arguments.seed)
    table = Table("figure", "value", title=f"FNMR at FMR {RATE:.0%}, 95% intervals")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:.4g}")
    console.print(table)
    console.print(f"written to {write_results('evaluation_intervals', figures)}")


if __name__ == "__main__":
    main()
