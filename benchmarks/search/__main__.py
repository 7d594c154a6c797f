"""Compares search engines on one gallery, or on several of growing size.

    cd benchmarks
    python -m search --rows 100000 --dimension 128 --peers all
    python -m search --sweep 10000 100000 1000000 --peers ours,fastscan,flat,faiss-hnsw

Engines that are not installed are skipped by name; `pip install 'visagedb[bench]'` has them
all. Prints tables; writes results/search_ROWSxDIMENSION.json and plots beside it.
"""

import argparse
import os
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import RESULTS, write_results
from galleries import Gallery, Spectrum
from rich.console import Console

from search.measure import JUDGED_COSINE_MIN, LOSS_RATE_MAX
from search.registry import ENGINES, chosen
from search.report import print_run
from search.runner import Plan, run
from search.workload import Workload, prepare

console = Console(width=150)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--sweep", type=int, nargs="+", help="several sizes instead of one")
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--peers", default="all", help=f"all, or some of {','.join(ENGINES)}")
    parser.add_argument("--probes", type=int, default=2000, help="for each cosine")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each throughput run")
    parser.add_argument(
        "--pass-seconds", type=float, default=60.0, help="at most, for the probes of a setting"
    )
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="to build an index with"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where temporary files go")
    return parser.parse_args()


def compare(rows: int, names: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of all engines at one size."""
    plan = Plan(
        tuple(arguments.clients), arguments.seconds, arguments.pass_seconds, arguments.threads
    )
    gallery = Gallery(Spectrum.of_dimension(arguments.dimension), rows, arguments.seed)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        shared = Path(folder)
        console.print(f"making {rows:,} vectors of {arguments.dimension} dimensions")
        workload = prepare(shared, gallery, arguments.probes)
        cosines = Counter(workload.cosines.tolist())
        engines = [_measured(name, workload, shared, plan) for name in names]
    return {
        "rows": rows,
        "dimension": arguments.dimension,
        "seed": arguments.seed,
        "plan": asdict(plan),
        "clients": list(plan.clients),
        "judged_cosine_min": JUDGED_COSINE_MIN,
        "loss_rate_max": LOSS_RATE_MAX,
        "probes": {str(cosine): cosines[cosine] for cosine in sorted(cosines)},
        "engines": engines,
    }


def _measured(name: str, workload: Workload, shared: Path, plan: Plan) -> dict[str, Any]:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=shared, prefix=name) as own:
        figures = run(name, workload, Path(own), shared, plan)
    load = os.getloadavg()[0]
    seconds = time.perf_counter() - started
    state = figures.get("skipped") or f"load average {load:.1f}"
    console.print(f"[dim]{ENGINES[name].title}: {seconds:.0f} s, {state}[/]")
    return {**figures, "load_average": load}


def plot(runs: list[dict[str, Any]]) -> None:
    """Plots beside the figures, if matplotlib is there."""
    try:
        from search.plots import plot_loss, plot_sweep

        for figures in runs:
            name = f"search_{figures['rows']}x{figures['dimension']}"
            plot_loss(figures, RESULTS / f"{name}.png")
        if len(runs) > 1:
            plot_sweep(runs, RESULTS / f"search_sweep_{runs[0]['dimension']}.png")
    except ModuleNotFoundError as error:
        console.print(f"no plots: {error.name} is not installed")


def main() -> None:
    arguments = parse_arguments()
    names = chosen(arguments.peers)
    runs = []
    for rows in arguments.sweep or [arguments.rows]:
        figures = compare(rows, names, arguments)
        print_run(console, figures)
        name = f"search_{rows}x{arguments.dimension}"
        console.print(f"written to {write_results(name, figures)}")
        runs.append(figures)
    plot(runs)


if __name__ == "__main__":
    main()
