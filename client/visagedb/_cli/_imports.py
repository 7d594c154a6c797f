"""visagedb imports ..."""

import csv
import json
from dataclasses import asdict
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import IO, Annotated

import typer

from visagedb._cli._import import summary
from visagedb._cli._options import GalleryArgument
from visagedb._cli._session import Session, command
from visagedb._cli._tables import counted, listing, when

app = typer.Typer(
    name="imports", help="Imports of files, and their failures.", no_args_is_help=True
)

ImportArgument = Annotated[
    str, typer.Argument(help="Id of the import, as list shows it.", show_default=False)
]
SHOWN = 50


class ReportFormat(StrEnum):
    """How failures are written to a file."""

    JSONL = "jsonl"
    CSV = "csv"


@command(app, "list")
def list_(session: Session, gallery: GalleryArgument) -> None:
    """List the imports that a gallery keeps."""
    found = list(session.client.list_imports(gallery))
    table = listing("import", "source", "state", "progress", "enrolled", "failed", "started")
    for one in found:
        table.add_row(
            one.id,
            one.path,
            str(one.state),
            f"{one.progress:.0%}",
            f"{one.enrolled_count:,}",
            f"{one.failed_count:,}",
            when(one.create_time),
        )
    session.show({"imports": found}, table)


@command(app, "show")
def show(session: Session, gallery: GalleryArgument, import_id: ImportArgument) -> None:
    """Show how an import stands, or how it ended."""
    found = session.client.get_import(name_of(gallery, import_id))
    session.show({"import": found}, summary(found))


@command(app, "failures")
def failures(
    session: Session,
    gallery: GalleryArgument,
    import_id: ImportArgument,
    reason: Annotated[str, typer.Option(help="Only those with this reason.")] = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write all of them to this file.", dir_okay=False),
    ] = None,
    report_format: Annotated[
        ReportFormat | None,
        typer.Option("--format", help="Of the file; by its ending, or JSON lines."),
    ] = None,
) -> None:
    """Show or download what an import could not enrol, and why."""
    found = session.client.import_failures(
        name_of(gallery, import_id), reason=reason, page_size=1000
    )
    if output is None:
        shown = list(found) if session.as_json else list(islice(found, SHOWN + 1))
        table = listing("entry", "identity", "reason", "message")
        for one in shown[:SHOWN]:
            table.add_row(one.entry, one.identity, one.reason, one.message)
        if len(shown) > SHOWN:
            table.caption = f"the first {SHOWN}; --output writes all"
        session.show({"failures": shown}, table)
        return
    is_csv = report_format is ReportFormat.CSV
    if report_format is None:
        is_csv = output.suffix.lower() == ".csv"
    with output.open("w", newline="", encoding="utf-8") as file:
        count = 0
        for count, one in enumerate(found, start=1):
            _write(file, asdict(one), first=count == 1, is_csv=is_csv)
    session.show({"written": count}, f"{output}: {counted(count, 'failure', 'failures')}")


@command(app, "pause")
def pause(session: Session, gallery: GalleryArgument, import_id: ImportArgument) -> None:
    """Hold an import, also over a restart of the server, until it is resumed."""
    found = session.client.pause_import(name_of(gallery, import_id))
    session.show({"import": found}, f"import {import_id} is held")


@command(app, "resume")
def resume(session: Session, gallery: GalleryArgument, import_id: ImportArgument) -> None:
    """Let an import go on that was held."""
    found = session.client.resume_import(name_of(gallery, import_id))
    session.show({"import": found}, f"import {import_id} goes on")


def name_of(gallery: str, import_id: str) -> str:
    """The resource name of an import, given as a name or an id."""
    return import_id if "/" in import_id else f"galleries/{gallery}/imports/{import_id}"


def _write(file: IO[str], row: dict[str, str], *, first: bool, is_csv: bool) -> None:
    if not is_csv:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        return
    table = csv.DictWriter(file, fieldnames=list(row))
    if first:
        table.writeheader()
    # A spreadsheet takes what begins with these for a formula.
    table.writerow({k: f"'{v}" if v[:1] in {"=", "+", "-", "@"} else v for k, v in row.items()})
