"""Tables of a run."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

Run = dict[str, Any]
"""All figures of one gallery size; see `search.__main__`."""


def shown(run: Run) -> Iterator[tuple[Run, Run]]:
    """An engine and one of its settings: the stock one, and the tuned one if another.

    Engines that are not judged by their losses show all settings.
    """
    for engine in run["engines"]:
        for position, setting in enumerate(engine.get("settings", ())):
            if position == 0 or setting.get("tuned") or not engine["judged"]:
                yield engine, setting


def print_run(console: Console, run: Run) -> None:
    """Everything about one gallery size."""
    title = f"{run['rows']:,} vectors of {run['dimension']} dimensions"
    console.print(_speed(run, title))
    console.print(_losses(run, title))
    console.print(_costs(run, title))
    ratio = time_over_bare(run)
    if ratio is not None:
        console.print(f"VisageDB engine: {ratio:.2f} times the bare scan for as many candidates")
    for engine in run["engines"]:
        if "skipped" in engine:
            console.print(f"[yellow]{engine['title']} skipped:[/] {engine['skipped']}")
        elif engine["notes"]:
            console.print(f"[dim]{engine['title']}: {engine['notes']}[/]")


def time_over_bare(run: Run) -> float | None:
    """Median latency of our engine over that of the bare scan, if both were measured."""
    last = {
        engine["engine"]: engine["settings"][-1]["p50_ms"]
        for engine in run["engines"]
        if engine.get("settings")
    }
    if "ours-engine" in last and "fastscan" in last:
        return float(last["ours-engine"] / last["fastscan"])
    return None


def _speed(run: Run, title: str) -> Table:
    clients = run["clients"]
    table = Table(title=f"Speed, {title}")
    table.add_column("engine", no_wrap=True)
    table.add_column("setting")
    for name in ("p50 ms", "p99 ms", *(f"q/s, {c} clients" for c in clients)):
        table.add_column(name, justify="right")
    table.add_column(f"lost at ≥ {run['judged_cosine_min']}", justify="right")
    table.add_column("bound kept")
    for engine, setting in shown(run):
        rates = setting.get("queries_per_second", {})
        table.add_row(
            engine["title"],
            setting["label"],
            f"{setting['p50_ms']:.2f}",
            f"{setting['p99_ms']:.2f}",
            *(f"{rates[str(c)]:,.0f}" if str(c) in rates else "" for c in clients),
            _loss(setting["judged"]),
            "yes" if setting["within_bound"] else "[red]no[/]",
        )
    return table


def _losses(run: Run, title: str) -> Table:
    table = Table(title=f"Mates lost by cosine, % (95% upper bound), {title}")
    table.add_column("engine", no_wrap=True)
    table.add_column("setting")
    cosines = list(run["probes"])
    for cosine in cosines:
        table.add_column(cosine, justify="right")
    table.add_row("", "[dim]probes[/]", *(f"[dim]{run['probes'][c]:,}[/]" for c in cosines))
    for engine, setting in shown(run):
        cells = [_loss(setting["losses"][cosine]) for cosine in cosines]
        table.add_row(engine["title"], setting["label"], *cells)
    return table


def _costs(run: Run, title: str) -> Table:
    table = Table(title=f"Building and memory, {title}")
    table.add_column("engine", no_wrap=True)
    for name in ("store s", "index s", "memory MiB", "mapped files MiB"):
        table.add_column(name, justify="right")
    for engine in run["engines"]:
        if "skipped" not in engine:
            names = ("load_seconds", "build_seconds", "memory_mib", "mapped_mib")
            table.add_row(engine["title"], *(f"{engine[name]:,.1f}" for name in names))
    return table


def _loss(figures: dict[str, float]) -> str:
    lost, probes = figures["lost"], figures["probes"]
    if not probes:
        return "-"
    rate = 100 * lost / probes
    return f"{rate:.3g} (≤ {100 * figures['rate_max']:.2g})"
