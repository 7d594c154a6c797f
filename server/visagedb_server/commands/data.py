"""visagedb data: data directories that no server uses."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from visagedb_indexer.errors import IndexerError

if TYPE_CHECKING:
    from visagedb_indexer.backup import Manifest
    from visagedb_indexer.integrity import Finding, Progress, Report

app = typer.Typer(
    name="data",
    help="Data directories on this machine: check, back up, restore.",
    no_args_is_help=True,
)
_SHOWN_MAX: Final = 10


@app.command("verify")
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
    with _reported("verifying", as_json=as_json) as progress:
        from visagedb_indexer.integrity import verify_directory

        found = verify_directory(data, progress, repair=repair, drop_damaged=drop_damaged)
        reports = list(found)
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


@app.command("backup")
def backup(
    data: Annotated[Path, typer.Argument(help="The data directory; no server may run on it.")],
    root: Annotated[Path, typer.Argument(help="The folder of backups.")],
    name: Annotated[
        str, typer.Option(help="Name of the backup; made of the time if left out.")
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of text.")
    ] = False,
) -> None:
    """Write a checked backup of a data directory. Of a running server: visagedb backup create."""
    with _reported("backing up", as_json=as_json) as progress:
        from visagedb_indexer.backup import BackupFolder, back_up_directory, new_backup_id

        manifest = back_up_directory(data, BackupFolder(root), name or new_backup_id(), progress)
    _show_backup(manifest, f"{manifest.id} written", as_json=as_json)


@app.command("restore")
def restore(
    root: Annotated[Path, typer.Argument(help="The folder of backups.")],
    name: Annotated[str, typer.Argument(help="Name of the backup.")],
    data: Annotated[Path, typer.Argument(help="The data directory to make.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of text.")
    ] = False,
) -> None:
    """Make a data directory of a backup of one."""
    with _reported("restoring", as_json=as_json) as progress:
        from visagedb_indexer.backup import BackupFolder, restore_directory

        manifest = restore_directory(BackupFolder(root), name, data, progress)
    _show_backup(manifest, f"{data} made of {manifest.id}", as_json=as_json)


def _show_backup(manifest: "Manifest", what: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"backup": dataclasses.asdict(manifest)}, indent=2, ensure_ascii=False))
        return
    out = Console(highlight=False, soft_wrap=True)
    faces = sum(gallery.face_count for gallery in manifest.galleries)
    out.print(
        f"{escape(what)}: galleries {len(manifest.galleries)}, faces {faces:,}, "
        f"{manifest.size_bytes / 1e6:,.1f} MB"
    )
    for gallery in manifest.galleries:
        if gallery.broken_invariants:
            broken = ", ".join(gallery.broken_invariants)
            out.print(f"[red]{escape(gallery.id)} is not sound: {escape(broken)}[/]")


@contextmanager
def _reported(what: str, *, as_json: bool) -> Iterator["Progress"]:
    """Shows how far it is on standard error, and ends the program with what went wrong."""
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        with err.status(what) as status:

            def progress(done: float, stage: str) -> None:
                status.update(f"{escape(stage)} {done:.0%}")

            yield progress
    except ModuleNotFoundError as error:
        err.print(f"visagedb data needs the package {error.name}: pip install 'visagedb\\[all]'")
        raise typer.Exit(4) from error
    except IndexerError as error:
        if as_json:
            print(json.dumps({"error": {"reason": error.reason, "message": error.message}}))
        else:
            err.print(f"[bold red]error:[/] {escape(error.message)}")
        raise typer.Exit(1) from error
