"""visagedb top: what a running server does at this moment, in the terminal."""

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from visagedb_server import DEFAULT_PORT, limits

if TYPE_CHECKING:
    from visagedb_server.commands.top_view import View

_METHODS_SHOWN = 12
_GALLERIES_SHOWN = 12


def top(
    address: Annotated[
        str, typer.Option(envvar="VISAGEDB_ADDRESS", help="The server, host:port.")
    ] = f"127.0.0.1:{DEFAULT_PORT}",
    metrics: Annotated[
        str,
        typer.Option(help="Where its metrics are, if not 1000 ports above the server."),
    ] = "",
    interval: Annotated[
        float, typer.Option(help="Seconds between two looks.", min=0.1, max=3600)
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show one interval and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document for each interval.")
    ] = False,
) -> None:
    """Watch a running server: calls, queues, workers, galleries. Ctrl-C ends it.

    Rates and times are those of the last interval.
    """
    from visagedb_server.commands.top_view import ScrapeError, scrape, view

    console = Console(highlight=False)
    metrics = metrics or _metrics_of(address)
    try:
        before = scrape(metrics)
        if once or as_json:
            while True:
                time.sleep(interval)
                after = scrape(metrics)
                found = view(before, after)
                if as_json:
                    print(json.dumps(asdict(found)), flush=True)
                else:
                    console.print(render(found, metrics))
                if once:
                    return
                before = after
        with Live(console=console, screen=True) as live:
            while True:
                time.sleep(interval)
                after = scrape(metrics)
                live.update(render(view(before, after), metrics), refresh=True)
                before = after
    except ScrapeError as error:
        if as_json:
            print(json.dumps({"error": {"type": "ScrapeError", "message": str(error)}}))
        else:
            Console(stderr=True, highlight=False).print(f"[bold red]error:[/] {error}")
        raise typer.Exit(3) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _metrics_of(address: str) -> str:
    """Where a server has its metrics unless it was told otherwise."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise typer.BadParameter(f"{address!r} is not host:port")
    return f"{host}:{int(port) + limits.METRICS_PORT_OFFSET}"


def render(found: "View", where: str) -> RenderableType:
    """What is shown of one interval.

    Args:
        found: The interval.
        where: Address of the metrics.
    """
    return Group(_summary(found, where), _calls(found), _stages(found), _galleries(found))


def _summary(found: "View", where: str) -> Table:
    table = Table.grid(padding=(0, 3))
    state = "[green]ready[/]" if found.ready else "[bold red]not ready[/]"
    lanes = ", ".join(
        f"{lane.name} {lane.running}/{lane.threads}" + (f" +{lane.waiting}" if lane.waiting else "")
        for lane in found.lanes
        if lane.running or lane.waiting or lane.name == "work"
    )
    workers = found.workers
    table.add_row(
        f"[bold]VisageDB {found.version}[/] at {where}",
        state,
        f"up {found.uptime_seconds / 3600:.1f} h",
        f"{found.memory_bytes / 1e6:,.0f} MB"
        + (f" + {workers.memory_bytes / 1e6:,.0f} MB in workers" if workers.count else ""),
        f"{found.cpu_share:.0%} CPU",
        f"{found.open_files} files",
    )
    table.add_row(
        f"{found.calls_per_second:,.1f} calls/s",
        f"{found.refused_per_second:,.1f} refused/s",
        f"lanes: {lanes}",
        f"workers {workers.ready}/{workers.count}, {workers.images_per_second:,.1f} images/s",
        f"{workers.images_waiting} images wait",
        f"{found.operations_running} operations",
    )
    return table


def _table(title: str, first: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", expand=False)
    table.add_column(first)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _calls(found: "View") -> Table:
    table = _table("Calls", "method", "per second", "mean ms", "99% under ms", "failed/s")
    for call in found.calls[:_METHODS_SHOWN]:
        table.add_row(
            call.method.rpartition(".")[2],
            f"{call.per_second:,.1f}",
            f"{call.mean_ms:,.1f}",
            "" if call.p99_ms is None else f"{call.p99_ms:,.0f}",
            f"{call.failed_per_second:,.1f}" if call.failed_per_second else "",
        )
    return table


def _stages(found: "View") -> Table:
    table = _table("Stages", "stage", "per second", "mean ms", "99% under ms")
    for stage in found.stages:
        table.add_row(
            stage.name,
            f"{stage.per_second:,.1f}",
            f"{stage.mean_ms:,.2f}",
            "" if stage.p99_ms is None else f"{stage.p99_ms:,.1f}",
        )
    return table


def _galleries(found: "View") -> Table:
    table = _table(
        "Galleries", "gallery", "people", "faces", "index MB", "store MB", "lost mates", "queue"
    )
    for gallery in found.galleries[:_GALLERIES_SHOWN]:
        loss = "" if gallery.mate_loss is None else f"{gallery.mate_loss:.3%}"
        table.add_row(
            gallery.name,
            f"{gallery.identities:,.0f}",
            f"{gallery.faces:,.0f}",
            f"{gallery.index_bytes / 1e6:,.1f}",
            f"{gallery.store_bytes / 1e6:,.1f}",
            loss,
            f"{gallery.writes_waiting:,.0f}",
        )
    return table
