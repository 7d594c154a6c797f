"""visagedb cluster: group a gallery's faces by person."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from visagedb._answers import Cluster, Clustering, ClusterMember, OperationStatus
from visagedb._cli import _people_folders as folders
from visagedb._cli._exit import ExitCode
from visagedb._cli._options import FilterOption, GalleryArgument
from visagedb._cli._people_folders import Person, Written
from visagedb._cli._plugins import not_installed
from visagedb._cli._session import Session, command
from visagedb._cli._tables import counted, listing
from visagedb._operation import Operation
from visagedb._values import FaceScope

MEMBERS_SHOWN = 4
MISSING_SHOWN = 10
PEOPLE_ON_SHEETS = 60
LATEST = "latest"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "cluster")(cluster)


def cluster(
    session: Session,
    gallery: GalleryArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Make a folder for each person here, with the photos, and contact sheets.",
            file_okay=False,
        ),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Link the photos into the folders, do not copy them.")
    ] = False,
    photos: Annotated[
        Path, typer.Option(help="Folder of the photos, if they were enrolled by relative paths.")
    ] = Path(),
    scope: Annotated[FaceScope | None, typer.Option(help="Which faces; all if not given.")] = None,
    label_filter: FilterOption = "",
    method: Annotated[
        str,
        typer.Option(
            help="plda, average-linkage, infomap, leiden, chinese-whispers or components.",
            show_default="plda",
        ),
    ] = "",
    threshold: Annotated[
        float | None, typer.Option(help="Cosine for the methods that need one.")
    ] = None,
    base: Annotated[
        str,
        typer.Option(
            "--from",
            help="Only add new faces to this earlier clustering: its id, or latest.",
            show_default=False,
        ),
    ] = "",
    min_size: Annotated[int, typer.Option(help="Leave out smaller clusters.", min=1)] = 2,
    limit: Annotated[int, typer.Option(help="Show at most this many; 0 for all.", min=0)] = 20,
) -> None:
    """Group the faces of a gallery by person, without regard to who they are enrolled as.

    No number of people and no threshold is needed. With --output the photos are sorted into
    a folder for each person, with contact sheets to look the result over.
    """
    if output is not None:
        folders.check_empty(output)
    operation = session.client.cluster(
        gallery,
        scope=scope,
        filter=label_filter,
        method=method,
        threshold=threshold,
        base=clustering_name(session, gallery, base) if base else "",
    )
    clustering = _wait(session, operation)
    groups = _groups(session, clustering, min_size, 0 if output else limit)
    document: dict[str, Any] = {
        "clustering": clustering,
        "clusters": [
            {"cluster": group, "members": members} for group, members in groups[: limit or None]
        ],
    }
    table = _table(clustering, groups[: limit or None])
    if output is None:
        session.show(document, table)
        return
    people = folders.named(_placed(groups, photos), len(groups))
    written, sheets = _write(session, clustering, people, output, photos, link=link)
    document["written"], document["sheets"] = written, [str(sheet) for sheet in sheets]
    session.show(document, table, _summary(written, output, sheets))
    if written.missing:
        _warn(session, written)
        raise typer.Exit(ExitCode.FAILED)


def clustering_name(session: Session, gallery: str, clustering: str) -> str:
    """The resource name of a clustering, given as a name, an id, or ``latest``."""
    if clustering != LATEST:
        full = f"galleries/{gallery}/clusterings/{clustering}"
        return clustering if "/" in clustering else full
    found = list(session.client.list_clusterings(gallery))
    if not found:
        raise typer.BadParameter(f"gallery {gallery} has no clustering yet; run visagedb cluster")
    return found[-1].name


def _groups(
    session: Session, clustering: Clustering, min_size: int, limit: int
) -> list[tuple[Cluster, list[ClusterMember]]]:
    found = session.client.clusters(clustering, min_size=min_size, page_size=limit)
    return [
        (group, list(session.client.cluster_members(group)))
        for group in islice(found, limit or None)
    ]


def _placed(
    groups: list[tuple[Cluster, list[ClusterMember]]], photos: Path
) -> list[tuple[Cluster, list[ClusterMember]]]:
    return [(group, [_place(member, photos) for member in members]) for group, members in groups]


def _place(member: ClusterMember, photos: Path) -> ClusterMember:
    """A member whose source is where its photograph should be."""
    return replace(member, source=str(photos / member.source) if member.source else "")


def _write(
    session: Session,
    clustering: Clustering,
    people: list[Person],
    output: Path,
    photos: Path,
    *,
    link: bool,
) -> tuple[Written, list[Path]]:
    with _progress(session) as progress:
        task = progress.add_task("sorting the photos", total=max(1, len(people)))
        shown = {person.cluster.name for person in people}
        rest = (
            _place(member, photos)
            for group in session.client.clusters(clustering, page_size=1000)
            if group.name not in shown
            for member in session.client.cluster_members(group)
        )
        written = folders.write(
            people, rest, output, link=link, advance=lambda: progress.advance(task)
        )
        sheets = _sheets(progress, people[:PEOPLE_ON_SHEETS], output)
    return written, sheets


def _sheets(progress: Progress, people: list[Person], output: Path) -> list[Path]:
    try:
        from visagedb.contact_sheets import SheetFace, SheetPerson, write_sheets
    except ImportError as error:
        not_installed("a contact sheet", str(error))
        return []
    task = progress.add_task("contact sheets", total=max(1, len(people)))
    pages = [
        SheetPerson(
            title=person.folder,
            remarks=(
                f"{counted(len(person.members), 'face', 'faces')} in "
                f"{counted(len(person.photos), 'photo', 'photos')}",
                f"cohesion {person.cluster.cohesion:.2f}",
            ),
            faces=tuple(
                SheetFace(Path(member.source), member.detection.box if member.detection else None)
                for member in person.members
                if member.source
            ),
        )
        for person in people
    ]
    return write_sheets(
        [page for page in pages if page.faces],
        output,
        "contact-sheet",
        lambda: progress.advance(task),
    )


def _wait(session: Session, operation: Operation[Clustering]) -> Clustering:
    with _progress(session) as progress:
        task = progress.add_task("clustering", total=1.0)

        def advance(status: OperationStatus) -> None:
            progress.update(
                task, completed=status.progress, description=status.stage or "clustering"
            )

        try:
            return operation.result(progress=advance)
        except KeyboardInterrupt:
            operation.cancel()
            raise


def _progress(session: Session) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    return Progress(*columns, console=session.err, disable=session.as_json)


def _table(clustering: Clustering, groups: list[tuple[Cluster, list[ClusterMember]]]) -> Table:
    table = listing(
        "cluster", "faces", "cohesion", "nearest", "members", right={"faces", "cohesion"}
    )
    table.show_lines = True
    for group, members in groups:
        names = [_short(member) for member in members]
        shown = "\n".join(names[:MEMBERS_SHOWN])
        if len(names) > MEMBERS_SHOWN:
            shown += f"\n... and {len(names) - MEMBERS_SHOWN} more"
        table.add_row(group.id, str(group.size), f"{group.cohesion:.3f}", _nearest(group), shown)
    table.caption = (
        f"{counted(clustering.cluster_count, 'cluster', 'clusters')} and "
        f"{counted(clustering.single_count, 'single face', 'single faces')} "
        f"of {clustering.face_count:,}; {clustering.method}"
    )
    if len(groups) < clustering.cluster_count:
        table.caption += f"; the first {len(groups)}, --limit 0 for all"
    return table


def _short(member: ClusterMember) -> str:
    """What a face is known by; of a whole path the last two parts."""
    path = Path(member.source)
    if path.is_absolute():
        return "/".join(path.parts[-2:])
    return member.source or member.face


def _nearest(group: Cluster) -> str:
    """The nearest other cluster and how near it is, for those who look for what to join."""
    if not group.nearest_cluster:
        return ""
    return f"{group.nearest_cluster.rpartition('/')[2]} ({group.nearest_score:.2f})"


def _summary(written: Written, output: Path, sheets: list[Path]) -> str:
    lines = [
        f"{output}: {counted(written.people, 'person', 'people')} in "
        f"{counted(written.photos, 'photo', 'photos')}",
        f"{output / folders.OTHERS}: {counted(written.others, 'photo', 'photos')} of people "
        "seen once",
    ]
    if sheets:
        more = f" and {len(sheets) - 1} more" if len(sheets) > 1 else ""
        lines.append(f"look it over: {sheets[0]}{more}")
    return "\n".join(lines)


def _warn(session: Session, written: Written) -> None:
    for source in written.missing[:MISSING_SHOWN]:
        session.err.print(f"[red]not found[/] {source}", soft_wrap=True)
    if len(written.missing) > MISSING_SHOWN:
        session.err.print(f"... and {len(written.missing) - MISSING_SHOWN} more")
    session.err.print(
        "Photos are found by the reference that they were enrolled with; for relative ones "
        "give --photos."
    )
