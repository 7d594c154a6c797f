"""visagedb backup ..., and the commands of galleries about what is stored."""

from typing import Annotated

import typer
from rich.console import Group, RenderableType

from visagedb._backups import Backup, IntegrityFinding, IntegrityReport, RestoredGallery
from visagedb._cli._options import GalleryArgument
from visagedb._cli._progress import waited
from visagedb._cli._session import Session, command
from visagedb._cli._tables import counted, listing, when
from visagedb._names import last_id, segment

app = typer.Typer(
    name="backup", help="Backups in the server's folder for them.", no_args_is_help=True
)

BackupArgument = Annotated[
    str, typer.Argument(help="Name of the backup, as list shows it.", show_default=False)
]


def register(galleries: typer.Typer) -> None:
    """Adds ``verify`` and ``snapshot`` to the commands of galleries."""
    command(galleries, "verify")(verify)
    command(galleries, "snapshot")(snapshot)


def verify(
    session: Session,
    gallery: GalleryArgument,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Make anew what follows from other data; out of use then."),
    ] = False,
    drop_damaged: Annotated[
        bool,
        typer.Option("--drop-damaged", help="With --repair: drop people and faces that are lost."),
    ] = False,
) -> None:
    """Prove that what is stored of a gallery is what it should be. Exits with 1 if not."""
    if drop_damaged and not repair:
        raise typer.BadParameter("--drop-damaged goes with --repair")
    operation = session.client.verify_integrity(gallery, repair=repair, drop_damaged=drop_damaged)
    report = waited(session, operation, "verifying")
    session.show({"integrity": report}, report_text(report))
    if not report.ok:
        raise typer.Exit(1)


def report_text(report: IntegrityReport) -> RenderableType:
    """A report as text, with a table of what is broken."""
    parts: list[RenderableType] = [f"repaired {repair}" for repair in report.repairs]
    parts += [f"dropped {_line(finding)}" for finding in report.dropped]
    if report.ok:
        parts.append(f"{report.gallery}: sound, {len(report.results)} invariants hold")
        return Group(*parts)
    table = listing("invariant", "kind", "places", "what was found", right={"places"})
    for result in report.broken:
        lines = [_line(finding) for finding in result.findings[:10]]
        if result.broken_count > len(lines):
            lines.append(f"and {result.broken_count - len(lines):,} more")
        table.add_row(
            result.invariant, result.kind.value, f"{result.broken_count:,}", "\n".join(lines)
        )
    return Group(*parts, table)


def _line(finding: IntegrityFinding) -> str:
    where = [f"identity {segment(finding.identity, 'identities')}"] if finding.identity else []
    where += [f"face {last_id(finding.face)}"] if finding.face else []
    return f"{', '.join(where)}: {finding.message}" if where else finding.message


def snapshot(
    session: Session,
    gallery: GalleryArgument,
    name: Annotated[
        str, typer.Option(help="Name of the backup; made of the gallery and the time if left out.")
    ] = "",
) -> None:
    """Write a backup of a gallery on the server, while it is in use."""
    done = waited(session, session.client.snapshot_gallery(gallery, backup=name), "copying")
    session.show({"backup": done}, _written(done))


@command(app, "create")
def create(
    session: Session,
    name: Annotated[
        str, typer.Option(help="Name of the backup; made of the time if left out.")
    ] = "",
) -> None:
    """Write a backup of the whole server, while it is in use."""
    done = waited(session, session.client.create_backup(name), "copying")
    session.show({"backup": done}, _written(done))


@command(app, "list")
def list_(session: Session) -> None:
    """List the backups, oldest first."""
    found = list(session.client.list_backups())
    table = listing("backup", "made", "galleries", "faces", "MB", right={"faces", "MB"})
    for one in found:
        names = ", ".join(gallery.gallery for gallery in one.galleries[:5])
        more = f" and {len(one.galleries) - 5} more" if len(one.galleries) > 5 else ""
        faces = sum(gallery.face_count for gallery in one.galleries)
        table.add_row(
            one.id,
            when(one.create_time),
            names + more,
            f"{faces:,}",
            f"{one.size_bytes / 1e6:,.1f}",
        )
    session.show({"backups": found}, table)


@command(app, "restore")
def restore(
    session: Session,
    backup: BackupArgument,
    gallery: Annotated[
        str, typer.Option(help="Gallery to make; by default of the name that it had.")
    ] = "",
    source: Annotated[
        str, typer.Option(help="Which gallery of the backup, where it has several.")
    ] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of a gallery of this name.")
    ] = False,
) -> None:
    """Make a gallery of one in a backup."""
    operation = session.client.restore_gallery(
        backup, source=source, gallery=gallery, replace_existing=replace
    )
    done = waited(session, operation, "restoring")
    session.show({"restored": done}, _restored(done))


def _written(backup: Backup) -> str:
    broken = sorted({name for one in backup.galleries for name in one.broken_invariants})
    sound = f"; NOT SOUND, run verify: {', '.join(broken)}" if broken else ""
    faces = sum(gallery.face_count for gallery in backup.galleries)
    return (
        f"{backup.id}: {counted(len(backup.galleries), 'gallery', 'galleries')}, "
        f"{counted(faces, 'face', 'faces')}, {backup.size_bytes / 1e6:,.1f} MB{sound}"
    )


def _restored(done: RestoredGallery) -> str:
    how = "replaced" if done.replaced else "made"
    return (
        f"{done.id} {how}: {counted(done.identity_count, 'identity', 'identities')}, "
        f"{counted(done.face_count, 'face', 'faces')}"
    )
