"""Planted label errors, and how many of them an audit of the gallery finds.

    python benchmarks/gallery_audit.py lfw-devtest/images --cache FOLDER [--server]

In each of several seeded draws some people are split under two ids, and some faces of other
people are moved to a wrong id, of a person who is not touched otherwise. Both kinds of people
have at least so many photographs as --photographs says: with two, an id may be left with one.
The findings of each kind are read from the top, as far as nine in ten are right: how many of
the planted errors are among them?

The photographs have label errors of their own. What the audit finds of the untouched labels
with a probability of a half is listed, so that it can be looked at. `KNOWN` holds those that
are errors beyond doubt to our eyes. Nothing is planted on these people, because two photographs
of two persons are no duplicate when they are parted; a finding of theirs counts neither as
right nor as false. Everything else that was not planted counts as false.

With --server the planted gallery goes through a running server, as vectors.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from common import running_server, write_results
from numpy.typing import NDArray
from photographs import MIRRORED, PLAIN, Vectors, embedded, unit
from rich.console import Console
from rich.table import Table

import visagedb
from visagedb_indexer.clustering import GraphBuilder, for_gallery
from visagedb_indexer.faces.registry import ModelRegistry
from visagedb_indexer.gallery_audit import Finding, LabelledFaces, find
from visagedb_indexer.values import FindingKind

NEIGHBOURS: Final = 30
PRECISION: Final = 0.9
DUPLICATE, MISLABELLED = FindingKind.DUPLICATE_IDENTITIES, FindingKind.MISLABELLED_FACE

KNOWN: Final = frozenset(
    {
        # One person under two names.
        "Harold_Scott", "Jeff_Roehm", "Mireya_Elisa_Moscoso_Rodriguez", "Mireya_Moscoso",
        "Ruano_Pascual", "Virgina_Ruano_Pascal",
        # Two persons under one name; the names of two of them were exchanged in one photograph.
        "Cristina_Fernandez", "Elisabeth_Schumacher", "Flor_Montulo", "Janica_Kostelic",
        "Mahmoud_Abbas", "Nora_Bendijo",
    }
)  # fmt: skip

Errors = set[frozenset[str] | int]
"""Pairs of ids that are one person, or rows of faces under a wrong id."""


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """Labels with errors.

    Attributes:
        names: The ids, shape (n,).
        errors: By kind.
    """

    names: NDArray[np.str_]
    errors: dict[FindingKind, Errors]


def plant(names: NDArray[np.str_], count: int, least: int, seed: int) -> Planted:
    """Splits people under two ids, and moves faces of others to wrong ids."""
    random = np.random.default_rng(seed)
    labels = names.astype(object)
    people, counts = np.unique(names, return_counts=True)
    known = np.isin(people, list(KNOWN))
    several = random.permutation(people[(counts >= least) & ~known])
    split, robbed = several[:count], several[count : 2 * count]
    untouched = np.setdiff1d(people[~known], several[: 2 * count])
    pairs: Errors = set()
    for person in split:
        rows = random.permutation(np.flatnonzero(names == person))
        labels[rows[: len(rows) // 2]] = f"{person}-again"
        pairs.add(frozenset({str(person), f"{person}-again"}))
    moved: Errors = set()
    for person, target in zip(robbed, random.choice(untouched, count, replace=False), strict=True):
        row = int(random.choice(np.flatnonzero(names == person)))
        labels[row] = target
        moved.add(row)
    return Planted(labels.astype(str), {DUPLICATE: pairs, MISLABELLED: moved})


def audited(vectors: Vectors, names: NDArray[np.str_]) -> list[Finding]:
    """The findings of the product's own audit."""
    _, owners = np.unique(names, return_inverse=True)
    builder = GraphBuilder(vectors, neighbours=NEIGHBOURS)
    for _ in builder.run():
        pass
    edges = builder.edges()
    model = for_gallery(vectors, owners, edges=edges)
    return find(LabelledFaces.of(vectors, owners, model, edges, builder.floor))


def through_server(vectors: Vectors, names: NDArray[np.str_]) -> list[Finding]:
    """The same, from a running server that was given the vectors."""
    with running_server("--workers", "0") as address, visagedb.Client(address) as client:
        client.create_gallery("audited", model="vectors", dimension=vectors.shape[1])
        items = [
            visagedb.EnrollItem(str(name), vector=vector, source=str(row))
            for row, (name, vector) in enumerate(zip(names, vectors, strict=True))
        ]
        for result in client.enroll_many("audited", items):
            if result.error is not None:
                raise result.error
        audit = client.audit_gallery("audited").result()
        return [as_finding(one) for one in client.gallery_findings(audit)]


def as_finding(one: visagedb.GalleryFinding) -> Finding:
    """Rows are the sources of the faces."""
    return Finding(
        FindingKind(one.kind.value), int(one.source), int(one.other_source or -1), one.evidence,
        one.probability, one.score, one.template_score, one.supporting_count, one.compared_count,
    )  # fmt: skip


def what(finding: Finding, names: NDArray[np.str_]) -> frozenset[str] | int:
    """Of a finding, what can be compared with an error."""
    if finding.kind is DUPLICATE:
        return frozenset({str(names[finding.face]), str(names[finding.other])})
    return finding.face


def is_known(finding: Finding, names: NDArray[np.str_]) -> bool:
    """Whether a finding is about people whose labels were wrong before."""
    about = [finding.face, finding.other] if finding.kind is DUPLICATE else [finding.face]
    return all(str(names[row]) in KNOWN for row in about)


@dataclass(frozen=True, slots=True)
class Found:
    """How one kind of errors was found.

    Attributes:
        recall: Among the findings from the top, as far as `PRECISION` of them are right.
        precision: Of these.
        probable_recall: Among the findings with a probability of a half or more.
        probable_precision: Of these.
        precision_known_false: Of the same with the known errors counted as false.
    """

    recall: float
    precision: float
    probable_recall: float
    probable_precision: float
    precision_known_false: float


def measure(findings: list[Finding], names: NDArray[np.str_], planted: Errors) -> Found:
    """Recall and precision from the top of a list."""
    counted = [finding for finding in findings if not is_known(finding, names)]
    right = np.array([what(finding, names) in planted for finding in counted], bool)
    likely = np.array([finding.probability >= 0.5 for finding in counted], bool)
    everything = sum(finding.probability >= 0.5 for finding in findings)
    hits = np.cumsum(right)
    precisions = hits / np.arange(1, len(hits) + 1)
    good = np.flatnonzero(precisions >= PRECISION)
    last = int(good[-1]) if len(good) else -1
    return Found(
        recall=float(hits[last]) / len(planted) if last >= 0 else 0.0,
        precision=float(precisions[last]) if last >= 0 else 0.0,
        probable_recall=float((likely & right).sum()) / len(planted),
        probable_precision=float((likely & right).sum()) / max(int(likely.sum()), 1),
        precision_known_false=float((likely & right).sum()) / max(everything, 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("images", type=Path, help="one folder per person")
    parser.add_argument("--cache", type=Path, help="folder that keeps the embeddings")
    parser.add_argument("--planted", type=int, default=50, help="errors of each kind")
    parser.add_argument(
        "--photographs", type=int, nargs="+", default=[2, 4], help="least numbers per person"
    )
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--server", action="store_true", help="through a running server")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    registry = ModelRegistry()
    card = registry.get("sface")
    people = embedded(arguments.images, registry, card, (PLAIN, MIRRORED), arguments.cache)
    assert card.centre is not None
    vectors = unit(people.averaged(PLAIN, MIRRORED) - card.centre)
    audit = through_server if arguments.server else audited
    console = Console()
    started = time.perf_counter()
    untouched = audit(vectors, people.names)
    console.print(f"{len(vectors):,} faces audited in {time.perf_counter() - started:.1f} s")
    console.print(listing(untouched, people.files))
    draws = {
        least: list(measured(vectors, people.names, least, arguments, audit))
        for least in arguments.photographs
    }
    for least, of_least in draws.items():
        console.print(summary(of_least, least))
    figures = {
        "through_server": arguments.server,
        "planted_of_each_kind": arguments.planted,
        "seed": arguments.seed,
        "draws_by_least_photographs": {
            least: [
                {kind.value: dataclasses.asdict(found) for kind, found in draw.items()}
                for draw in of_least
            ]
            for least, of_least in draws.items()
        },
        "found_in_the_untouched_labels": [
            {
                "kind": f.kind.value,
                "face": str(people.files[f.face]),
                "other": str(people.files[f.other]),
                "probability": f.probability,
            }
            for f in untouched
            if f.probability >= 0.5
        ],
    }
    console.print(f"written to {write_results('gallery_audit', figures)}")


def measured(
    vectors: Vectors,
    names: NDArray[np.str_],
    least: int,
    arguments: argparse.Namespace,
    audit: Callable[[Vectors, NDArray[np.str_]], list[Finding]],
) -> Iterator[dict[FindingKind, Found]]:
    for seed in range(arguments.seed, arguments.seed + arguments.draws):
        planted = plant(names, arguments.planted, least, seed)
        findings = audit(vectors, planted.names)
        yield {
            kind: measure(
                [finding for finding in findings if finding.kind is kind],
                planted.names, errors,
            )
            for kind, errors in planted.errors.items()
        }  # fmt: skip


def listing(findings: list[Finding], files: NDArray[np.str_]) -> Table:
    table = Table(
        "kind", "probability", "face", "other", "cosine", "templates",
        title="found in the untouched labels",
    )  # fmt: skip
    for one in findings:
        if one.probability >= 0.5:
            table.add_row(
                one.kind.value, f"{one.probability:.1%}", str(files[one.face]),
                str(files[one.other]), f"{one.score:.2f}", f"{one.template_score:.2f}",
            )  # fmt: skip
    return table


def summary(draws: list[dict[FindingKind, Found]], least: int) -> Table:
    table = Table(
        "kind",
        "figure",
        "mean",
        "worst",
        title=f"{len(draws)} draws, people with {least} or more photographs",
    )
    for kind in (DUPLICATE, MISLABELLED):
        found = [draw[kind] for draw in draws]
        rows = {
            f"recall at precision {PRECISION:.0%}": [f.recall for f in found],
            "precision there": [f.precision for f in found],
            "draws with a recall of 95%": [float(f.recall >= 0.95) for f in found],
            "recall of the probable": [f.probable_recall for f in found],
            "precision of the probable": [f.probable_precision for f in found],
            "the same, known errors counted as false": [f.precision_known_false for f in found],
        }
        for name, values in rows.items():
            table.add_row(kind.value, name, f"{np.mean(values):.3f}", f"{min(values):.3f}")
    return table


if __name__ == "__main__":
    main()
