"""visagedb data: data directories that no server uses."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from visagedb_indexer.errors import IndexerError

if TYPE_CHECKING:
    from visagedb_indexer.integrity import Finding, Report

app = typer.Typer(
    name="data",
    help="Data directories on this machine: check, back up, restore.",
    no_args_is_help=True,
)
_SHOWN_MAX: Final = 10


@app.command()
def verify(
    data: Annotated[Path, typer.Argument(help="The data directory; no server may run on it.")],
    repair: Annotated[
        bool, typer.Option("--repair", help="Make anew what follows from other data.")
    ] = False,
    drop_damaged: Annotated[
        bool,
        typer.Option(
            "--drop-damaged",
            help="With --repair: drop the identities and faces that are damaged, and list them.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of a table.")
    ] = False,
) -> None:
    """Check every gallery of a data directory. Exits with 1 if something is wrong."""
    if drop_damaged and not repair:
        raise typer.BadParameter("--drop-damaged goes with --repair")
    try:
        from visagedb_indexer.integrity import verify_directory
    except ModuleNotFoundError as error:
        typer.echo(
            f"visagedb data needs the package {error.name}: pip install 'visagedb[all]'", err=True
        )
        raise typer.Exit(4) from error
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        with err.status("verifying") as status:

            def progress(done: float, stage: str) -> None:
                status.update(f"{escape(stage)} {done:.0%}")

            reports = list(
                verify_directory(data, progress, repair=repair, drop_damaged=drop_damaged)
            )
    except IndexerError as error:
        if as_json:
            print(json.dumps({"error": {"reason": error.reason, "message": error.message}}))
        else:
            err.print(f"[bold red]error:[/] {escape(error.message)}")
        raise typer.Exit(1) from error
    if as_json:
        print(json.dumps(document(reports), indent=2, ensure_ascii=False))
    else:
        show(reports)
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


def document(reports: "list[Report]") -> dict[str, Any]:
    """The reports as plain values, ready for JSON."""
    return {
        "ok": all(report.ok for report in reports),
        "galleries": [{"ok": report.ok, **dataclasses.asdict(report)} for report in reports],
    }


def show(reports: "list[Report]") -> None:
    """Prints the reports for people."""
    out = Console(highlight=False)
    for report in reports:
        for done in report.repairs:
            out.print(f"{escape(report.gallery)}: repaired {escape(done)}")
        for finding in report.dropped:
            out.print(f"{escape(report.gallery)}: [red]dropped[/] {_line(finding)}")
        if report.ok:
            count = len(report.results)
            out.print(f"{escape(report.gallery)}: [green]sound[/], {count} invariants hold")
        else:
            out.print(_table(report))
    if not reports:
        out.print("no galleries")


def _table(report: "Report") -> Table:
    table = Table("invariant", "kind", "places", "what was found", title=escape(report.gallery))
    for result in report.broken:
        lines = [_line(finding) for finding in result.findings[:_SHOWN_MAX]]
        if result.broken_count > len(lines):
            lines.append(f"and {result.broken_count - len(lines)} more")
        table.add_row(result.invariant, result.kind, str(result.broken_count), "\n".join(lines))
    return table


def _line(finding: "Finding") -> str:
    where = [f"identity {finding.identity!r}"] if finding.identity else []
    where += [f"face {finding.face!r}"] if finding.face else []
    where += [f"ordinal {finding.ordinal}"] if finding.ordinal >= 0 else []
    return escape(f"{', '.join(where)}: {finding.message}" if where else finding.message)
