"""visagedb import and visagedb export."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from visagedb._answers import OperationStatus
from visagedb._cli._exit import ExitCode
from visagedb._cli._options import GalleryArgument, OneFace
from visagedb._cli._progress import waited
from visagedb._cli._session import Session, command
from visagedb._cli._tables import counted, facts
from visagedb._errors import GalleryExistsError
from visagedb._imports import Import, ImportMode, SourceFormat
from visagedb._operation import Operation

_BAR_WIDTH: Final = 40
_REASONS_SHOWN: Final = 8


class OnInterrupt(StrEnum):
    """What Ctrl-C does to an import."""

    LEAVE = "leave"
    CANCEL = "cancel"


class _Format(StrEnum):
    """`SourceFormat` without the unknown one."""

    FOLDER = "folder"
    TAR = "tar"
    PARQUET = "parquet"
    NPZ = "npz"


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    command(app, "import")(import_)
    command(app, "export")(export)


def import_(
    session: Session,
    gallery: GalleryArgument,
    path: Annotated[
        Path,
        typer.Argument(
            help="Folder or tar of images, or Parquet or NPZ file of vectors, on the server.",
            show_default=False,
        ),
    ],
    source_format: Annotated[
        _Format | None, typer.Option("--format", help="What PATH is; by its name if not given.")
    ] = None,
    mode: Annotated[
        ImportMode, typer.Option(help="What to do with what is there already.")
    ] = ImportMode.INSERT,
    naming: Annotated[
        str,
        typer.Option(
            help="How the path of an image names its person, for example '{identity}_*.jpg'.",
            show_default="{identity}/**",
        ),
    ] = "",
    face: Annotated[
        OneFace, typer.Option("--face", help="Which face of an image that shows several.")
    ] = OneFace.ONLY,
    loose: Annotated[
        bool, typer.Option("--loose", help="Enrol every face without a person: to be clustered.")
    ] = False,
    label: Annotated[
        list[str] | None, typer.Option(help="key=value for people that are created; repeatable.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="What is in a column: identity_id=person, vector=emb; repeatable."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="What made the vectors, name or name@version; checked.")
    ] = "",
    create_gallery: Annotated[
        bool, typer.Option("--create-gallery", help="Create the gallery if there is none.")
    ] = False,
    on_interrupt: Annotated[
        OnInterrupt, typer.Option(help="Whether Ctrl-C leaves the import running or cancels it.")
    ] = OnInterrupt.LEAVE,
    detach: Annotated[
        bool, typer.Option("--detach", help="Start the import and do not wait for it.")
    ] = False,
) -> None:
    """Enrol what is in a file or folder that the server reads itself.

    The server must have been started with --import-root for a folder above PATH. The import
    goes on after a restart of the server; `visagedb imports` shows, holds and resumes it.
    Exits with 1 if some entry failed; the others are enrolled.
    """
    if create_gallery:
        with suppress(GalleryExistsError):
            session.client.create_gallery(gallery)
    operation = session.client.import_faces(
        gallery,
        path.absolute(),
        format=None if source_format is None else SourceFormat(source_format.value),
        mode=mode,
        naming=naming,
        face_selection=face,
        loose=loose,
        labels=pairs(label, "--label"),
        columns=pairs(column, "--column"),
        model=model,
    )
    if detach:
        session.show({"operation": operation.status}, f"import {operation.id} runs")
        return
    done = _watched(session, operation, on_interrupt)
    session.show({"import": done}, summary(done))
    if done.failed_count:
        _advise(session, gallery, done)
        raise typer.Exit(ExitCode.FAILED)


def export(
    session: Session,
    gallery: GalleryArgument,
    path: Annotated[
        Path, typer.Argument(help="Parquet file to write, on the server.", show_default=False)
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is there.")
    ] = False,
) -> None:
    """Write a gallery, as it is at this moment, into a Parquet file that the server writes.

    The server must have been started with --export-root for a folder above PATH. Importing the
    file into a new gallery of the same model makes an equal one.
    """
    operation = session.client.export_faces(gallery, path.absolute(), overwrite=overwrite)
    done = waited(session, operation, "exporting")
    rows = {
        "file": done.path,
        "identities": f"{done.identity_count:,}",
        "faces": f"{done.face_count:,}",
        "bytes": f"{done.file_bytes:,}",
    }
    session.show({"export": done}, facts(rows))


def pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    """``key=value`` texts as a mapping."""
    found = {}
    for text in texts or ():
        key, separator, value = text.partition("=")
        if not separator or not key or not value:
            raise typer.BadParameter(f"{text!r} is not key=value", param_hint=option)
        found[key] = value
    return found


def summary(done: Import) -> RenderableType:
    """An import in a few lines."""
    return facts(
        {
            "import": done.id,
            "state": str(done.state),
            "entries": f"{done.done_count:,}",
            "enrolled": _count(done.enrolled_count),
            "already enrolled": _count(done.already_enrolled_count),
            "replaced": _count(done.replaced_count),
            "skipped": _count(done.skipped_count),
            "quarantined": _count(done.quarantined_count),
            "new people": _count(done.identity_created_count),
            "ignored files": _count(done.ignored_count),
            "failed": _count(done.failed_count),
            **{f"  {reason}": f"{n:,}" for reason, n in _by_reason(done)},
            "error": done.error_message,
        }
    )


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _by_reason(done: Import) -> list[tuple[str, int]]:
    return sorted(done.failures_by_reason.items(), key=lambda one: (-one[1], one[0]))


def _watched(session: Session, operation: Operation[Import], on_interrupt: OnInterrupt) -> Import:
    """The result of an import, with a live view; Ctrl-C leaves it or cancels it."""
    with _view(session) as view:

        def advance(status: OperationStatus) -> None:
            if view is not None:
                view.update(_shown(status))

        try:
            return operation.result(progress=advance)
        except KeyboardInterrupt:
            if on_interrupt is OnInterrupt.CANCEL:
                operation.cancel()
            else:
                session.err.print(
                    f"the import goes on: visagedb operation show {operation.id}; "
                    f"visagedb operation cancel {operation.id} ends it"
                )
            raise


@contextmanager
def _view(session: Session) -> Iterator[Live | None]:
    if session.as_json or not session.err.is_terminal:
        yield None
        return
    with Live(console=session.err, refresh_per_second=4, transient=True) as view:
        yield view


def _shown(status: OperationStatus) -> RenderableType:
    """An import that runs: a bar, what came of the entries, and failures by reason."""
    found = status.imported
    if found is None:
        return Text(status.stage)
    line = Table.grid(padding=(0, 2))
    total = f" of {found.entry_count:,}" if found.entry_count else ""
    line.add_row(
        status.stage,
        ProgressBar(total=1.0, completed=found.progress, width=_BAR_WIDTH),
        f"{found.progress:.0%}",
        f"{found.done_count:,}{total}",
        f"{found.entries_per_second:,.0f}/s" if found.entries_per_second else "",
        _left(found.remaining_seconds),
    )
    failures = _by_reason(found)[:_REASONS_SHOWN]
    text = "  ".join(f"{reason} {number:,}" for reason, number in failures)
    return Group(line, Text(text, style="red")) if text else line


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{timedelta(seconds=round(seconds))} left"


def _advise(session: Session, gallery: str, done: Import) -> None:
    if not session.as_json:
        session.err.print(
            f"{counted(done.failed_count, 'entry', 'entries')} failed: "
            f"visagedb imports failures {escape(gallery)} {done.id}",
            soft_wrap=True,
        )
