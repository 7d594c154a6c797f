"""Clusters faces and compares the result with the truth, with peers, and with itself.

    cd benchmarks
    python -m clustering quality LFW --unseen ORL     # the default against peers
    python -m clustering scale --rows 10000 100000    # growth on synthetic people
    python -m clustering hidden LFW --rows 1000000    # real faces among synthetic people
    python -m clustering fusion LFW                   # PLDA to identify with
    python -m clustering models LFW                   # how many people a model needs

LFW and ORL are folders of photographs, one per person, or .npz files with the embeddings `V`,
shape (n, dimension), and the names `N`, shape (n,), which `embed FOLDER FILE` makes. Peers
that are not installed are left out; `pip install 'visagedb[bench]'` has them all. Prints tables
and writes results/clustering_*.json and plots beside them.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, write_results
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from clustering import embeddings, fusion, models, plots, quality, scale

console = Console(width=150)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m clustering",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("embed", help="embeddings of a folder's photographs")
    command.add_argument("faces", type=Path)
    command.add_argument("output", type=Path)
    command.add_argument("--model", default="sface")
    command.add_argument("--card", type=Path, action="append", default=[])
    command = commands.add_parser("quality", help="the default against peers on real faces")
    command.add_argument("faces", type=Path)
    command.add_argument("--unseen", type=Path, help="a collection that nothing was fitted on")
    command.add_argument("--seeds", type=int, default=3, help="random splits in halves")
    command = commands.add_parser("scale", help="growth on synthetic people")
    command.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    command.add_argument("--new", type=int, default=10_000, help="faces that come later")
    command.add_argument("--spread", type=Path, help="embeddings to take the covariances from")
    command.add_argument("--seed", type=int, default=1)
    command = commands.add_parser("hidden", help="real faces among synthetic people")
    command.add_argument("faces", type=Path)
    command.add_argument("--rows", type=int, default=1_000_000)
    command.add_argument("--seed", type=int, default=1)
    for long in ("scale", "hidden"):
        commands.choices[long].add_argument(
            "--checkpoints", type=Path, help="folder from which an ended run goes on"
        )
    command = commands.add_parser("fusion", help="PLDA to identify with")
    command.add_argument("faces", type=Path)
    command.add_argument("--seeds", type=int, default=10)
    command = commands.add_parser("models", help="how many people a PLDA model needs")
    command.add_argument("faces", type=Path)
    command.add_argument("--seeds", type=int, default=3)
    return parser.parse_args()


def print_rows(title: str, rows: dict[str, dict[str, Any]]) -> None:
    """One line per figure, one column per row of the title's subject."""
    table = Table("", *rows, title=title)
    for figure in next(iter(rows.values())):
        table.add_row(figure, *[_text(row[figure]) for row in rows.values()])
    console.print(table)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def run_quality(arguments: argparse.Namespace) -> None:
    faces = embeddings.load(arguments.faces)
    runs = []
    for title, judged in quality.halves(faces, arguments.seeds):
        console.print(f"{title}: {judged[0].agreement.b_cubed_f:.4f}")
        runs.append(judged)
    figures: dict[str, Any] = {
        "halves": quality.summary(runs),
        "values": {
            judged.method: [
                other.value for run in runs for other in run if other.method == judged.method
            ]
            for judged in runs[0]
        },
    }
    print_rows(f"{arguments.faces.stem}: halves of people, {len(runs)} runs", figures["halves"])
    if arguments.unseen is not None:
        unseen = embeddings.load(arguments.unseen)
        judged = list(quality.all_methods(faces, unseen))
        figures["unseen"] = quality.summary([judged])
        print_rows(f"{arguments.unseen.stem}: fitted on {arguments.faces.stem}", figures["unseen"])
    finish("clustering_quality", figures)
    plots.quality(figures, RESULTS / "clustering_quality.png")


def run_scale(arguments: argparse.Namespace) -> None:
    spread = scale.spread_of(arguments.spread)
    rows = {}
    for count in arguments.rows:
        figures = scale.measure(spread, count, arguments.new, arguments.seed, arguments.checkpoints)
        rows[f"{count:,} faces"] = figures
        print_rows("synthetic people", {f"{count:,} faces": figures})
    print_rows("synthetic people", rows)
    finish("clustering_scale", rows)
    plots.growth(rows, RESULTS / "clustering_scale.png")


def run_hidden(arguments: argparse.Namespace) -> None:
    faces = embeddings.load(arguments.faces)
    rows = scale.hidden(faces, arguments.rows, arguments.seed, arguments.checkpoints)
    print_rows(f"{arguments.faces.stem} among {arguments.rows:,} synthetic people", rows)
    finish("clustering_hidden", rows)


def run_fusion(arguments: argparse.Namespace) -> None:
    rows = fusion.measure(embeddings.load(arguments.faces), arguments.seeds)
    print_rows("FNIR of identities with several faces", rows)
    finish("clustering_fusion", rows)


def run_models(arguments: argparse.Namespace) -> None:
    rows = models.measure(embeddings.load(arguments.faces), arguments.seeds)
    print_rows(f"{arguments.faces.stem}: what the model was fitted on", rows)
    finish("clustering_models", rows)


def run_embed(arguments: argparse.Namespace) -> None:
    vectors, names = embeddings.embed(arguments.faces, arguments.model, tuple(arguments.card))
    np.savez(arguments.output, V=vectors, N=names)
    console.print(f"{len(vectors):,} faces written to {arguments.output}")


def finish(name: str, figures: dict[str, Any]) -> None:
    console.print(f"written to {write_results(name, figures)}")


def main() -> None:
    arguments = parse_arguments()
    # As in the server: work is divided among threads of our own.
    threadpool_limits(1, user_api="blas")
    {
        "embed": run_embed,
        "quality": run_quality,
        "scale": run_scale,
        "hidden": run_hidden,
        "fusion": run_fusion,
        "models": run_models,
    }[arguments.command](arguments)


if __name__ == "__main__":
    main()
