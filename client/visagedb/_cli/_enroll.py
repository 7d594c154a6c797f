"""visagedb enroll: one photograph, or a folder of people."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from visagedb._bulk import DEFAULT_CONCURRENCY, DEFAULT_PATIENCE_SECONDS, EnrollItem, EnrollResult
from visagedb._cli._exit import ExitCode, advice_on, describe
from visagedb._cli._gate import finding_text
from visagedb._cli._options import GalleryArgument, OneFace
from visagedb._cli._people import Album, read_album, read_archive, read_person
from visagedb._cli._session import Session, command
from visagedb._cli._tables import counted
from visagedb._errors import GalleryExistsError, VisageError
from visagedb._gate import GateFinding
from visagedb._values import EnrollMode

FAILURES_SHOWN = 50


class _RateColumn(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s", style="progress.data.speed")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "enroll")(enroll)


def enroll(
    session: Session,
    gallery: GalleryArgument,
    path: Annotated[
        Path,
        typer.Argument(
            help="An image, or a folder whose sub-folders have the people's names.",
            exists=True,
            show_default=False,
        ),
    ],
    loose: Annotated[
        bool,
        typer.Option(
            "--loose", help="Enrol every face of every image, without a person: to be clustered."
        ),
    ] = False,
    identity: Annotated[
        str, typer.Option(help="Id of the person; every image of PATH is then hers or his.")
    ] = "",
    face: Annotated[
        OneFace, typer.Option("--face", help="Which face of an image that shows several.")
    ] = OneFace.ONLY,
    label: Annotated[
        list[str] | None, typer.Option(help="key=value for people that are created; repeatable.")
    ] = None,
    create_gallery: Annotated[
        bool, typer.Option("--create-gallery", help="Create the gallery if there is none.")
    ] = False,
    source: Annotated[
        str, typer.Option(help="Reference to keep; the path relative to PATH if not given.")
    ] = "",
    mode: Annotated[
        EnrollMode,
        typer.Option(help="What to do with people and faces that are there already."),
    ] = EnrollMode.INSERT,
    concurrency: Annotated[
        int, typer.Option(help="Images in flight together.", min=1, max=256)
    ] = DEFAULT_CONCURRENCY,
) -> None:
    """Enrol photographs. Exits with 1 if some file failed; the others are enrolled.

    With --loose any folder of photographs will do: all faces in them are enrolled without a
    person, and `visagedb cluster` finds out who is who.

    Hidden files and files that are no images are skipped and counted. Enrolling the same
    file again changes nothing, so an interrupted run can simply be repeated.
    """
    labels = dict(_label(text) for text in label or ())
    if loose and (identity or label):
        raise typer.BadParameter("loose faces have no person and no labels", param_hint="--loose")
    album = _read_loose(path) if loose else _read(path, identity)
    if create_gallery:
        _ensure_gallery(session, gallery)
    # Asked first, so that a wrong name is one error and not one for each file.
    session.client.get_gallery(gallery)
    items = [photo.item(labels) for photo in album.photos]
    if source:
        items = [_with_source(item, source, single=len(items) == 1) for item in items]
    results = _run(session, gallery, items, face, mode, concurrency)
    _report(session, album, results)
    if any(not result.ok for result in results):
        raise typer.Exit(ExitCode.FAILED)


def _label(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise typer.BadParameter(f"{text!r} is not key=value", param_hint="--label")
    return key, value


def _read(path: Path, identity: str) -> Album:
    if identity:
        return read_person(path, identity)
    if path.is_file():
        raise typer.BadParameter("one image needs --identity", param_hint="--identity")
    album = read_album(path)
    if not album.photos:
        raise typer.BadParameter(
            f"no images in sub-folders of {path}; for images of one person give --identity",
            param_hint="PATH",
        )
    return album


def _read_loose(path: Path) -> Album:
    album = read_archive(path)
    if not album.photos:
        raise typer.BadParameter(f"no images in {path}", param_hint="PATH")
    return album


def _ensure_gallery(session: Session, gallery: str) -> None:
    try:
        session.client.create_gallery(gallery)
    except GalleryExistsError:
        return


def _with_source(item: EnrollItem, source: str, *, single: bool) -> EnrollItem:
    return replace(item, source=source if single else f"{source.rstrip('/')}/{item.source}")


def _run(
    session: Session,
    gallery: str,
    items: Sequence[EnrollItem],
    face: OneFace,
    mode: EnrollMode,
    concurrency: int,
) -> list[EnrollResult]:
    columns = (
        TextColumn("enrolling"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}", style="red"),
    )
    results: list[EnrollResult] = []
    failed = 0
    with Progress(*columns, console=session.err, disable=session.as_json) as progress:
        task = progress.add_task("enrolling", total=len(items), failed="")
        outcomes = session.client.enroll_many(
            gallery,
            items,
            concurrency=concurrency,
            face_selection=face,
            mode=mode,
            waiting=_waiting(session),
        )
        for result in outcomes:
            results.append(result)
            failed += not result.ok
            progress.update(task, advance=1, failed=f"{failed} failed" if failed else "")
    return results


def _waiting(session: Session) -> Callable[[VisageError], None]:
    """Says once on standard error that the server has gone; it may come back."""
    said = threading.Event()

    def say(error: VisageError) -> None:
        if said.is_set():
            return
        said.set()
        session.err.print(
            f"[yellow]{escape(error.message)}; trying again for "
            f"{DEFAULT_PATIENCE_SECONDS:.0f} seconds[/]",
            soft_wrap=True,
        )

    return say


def _report(session: Session, album: Album, results: Sequence[EnrollResult]) -> None:
    outcomes = Counter(result.outcome for result in results)
    if album.skipped:
        outcomes["skipped"] += album.skipped
    failures = sorted((r for r in results if not r.ok), key=lambda r: r.item.key)
    people = {photo.identity for photo in album.photos if photo.identity}
    faces = sum(len(result.loose.faces) for result in results if result.loose)
    if not session.as_json:
        _warn(session, album, failures)
        _show_findings(session, results)
    summary = Table("outcome", "files")
    summary.columns[1].justify = "right"
    for outcome, count in outcomes.most_common():
        summary.add_row(outcome, f"{count:,}")
    found = counted(faces, "face", "faces")
    summary.caption = counted(len(people), "person", "people") if people else found
    document = {
        "faces": faces,
        "people": len(people),
        "outcomes": dict(outcomes),
        "collisions": album.collisions,
        "failures": [_failure(result) for result in failures],
        "findings": [
            {"file": result.item.key, "outcome": result.outcome, "findings": objections}
            for result in results
            if (objections := _findings(result))
        ],
    }
    session.show(document, summary)


def _warn(session: Session, album: Album, failures: Sequence[EnrollResult]) -> None:
    for name, given in album.collisions.items():
        session.err.print(
            f"[yellow]folder {escape(name)}: its id is taken by another folder, enrolled as "
            f"{given}[/]"
        )
    for result in failures[:FAILURES_SHOWN]:
        session.err.print(
            f"[red]{result.outcome}[/] {escape(result.item.key)}: {escape(str(result.error))}",
            soft_wrap=True,
        )
    if len(failures) > FAILURES_SHOWN:
        session.err.print(f"... and {len(failures) - FAILURES_SHOWN} more; --json lists all")
    for advice in sorted({advice_on(result.error) for result in failures} - {""}):
        session.err.print(advice)


def _findings(result: EnrollResult) -> list[GateFinding]:
    """What the gallery's checks object to in a file that is not refused."""
    if result.enrollment is not None:
        return list(result.enrollment.findings)
    gated = result.loose.gated_faces if result.loose is not None else ()
    return [finding for face in gated for finding in face.findings]


def _show_findings(session: Session, results: Sequence[EnrollResult]) -> None:
    objected = [result for result in results if _findings(result)]
    for result in objected[:FAILURES_SHOWN]:
        why = "; ".join(map(finding_text, _findings(result)))
        session.err.print(
            f"[yellow]{result.outcome}[/] {escape(result.item.key)}: {escape(why)}", soft_wrap=True
        )
    if len(objected) > FAILURES_SHOWN:
        session.err.print(f"... and {len(objected) - FAILURES_SHOWN} more; --json lists all")


def _failure(result: EnrollResult) -> dict[str, Any]:
    error = result.error or RuntimeError("unknown")
    return {
        "file": result.item.key,
        "identity": result.item.identity,
        "outcome": result.outcome,
        "error": describe(error),
    }
