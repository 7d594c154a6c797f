"""visagedb identity merge, split, move, history and undo."""

from itertools import islice
from typing import Annotated

import typer

from visagedb._cli._options import GalleryArgument
from visagedb._cli._session import Session, command
from visagedb._cli._tables import counted, listing, when
from visagedb._lineage import Change, ChangeKind, LineageEntry

IdentityArgument = Annotated[str, typer.Argument(help="Id of the identity.", show_default=False)]
FacesArgument = Annotated[
    list[str],
    typer.Argument(help="The faces: galleries/.../faces/...", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Adds the commands to the group of identities."""
    for name, function in (
        ("merge", merge),
        ("split", split),
        ("move", move),
        ("history", history),
        ("undo", undo),
    ):
        command(app, name)(function)


def merge(
    session: Session,
    gallery: GalleryArgument,
    identity: IdentityArgument,
    others: Annotated[
        list[str], typer.Argument(help="Ids of those who are the same.", show_default=False)
    ],
) -> None:
    """Make other identities part of one. Can be undone."""
    change = session.client.merge_identities(gallery, identity, others)
    _show(session, gallery, change, f"{identity} is {' and '.join(others)}, too")


def split(
    session: Session,
    gallery: GalleryArgument,
    identity: IdentityArgument,
    faces: FacesArgument,
    to: Annotated[str, typer.Option(help="Id of the new identity; made if not given.")] = "",
) -> None:
    """Found a new identity from some faces of one. Can be undone."""
    change = session.client.split_identity(gallery, identity, faces, new_identity=to)
    founded = change.identity.id if change.identity else to
    _show(session, gallery, change, f"{founded} is somebody else")


def move(
    session: Session,
    gallery: GalleryArgument,
    faces: FacesArgument,
    to: Annotated[
        str, typer.Option(help="Id of the identity; created if missing. None makes them loose.")
    ] = "",
) -> None:
    """Give faces to one identity, or make them loose. Can be undone."""
    change = session.client.move_faces(gallery, faces, to)
    moved = counted(change.face_count, "face", "faces")
    _show(session, gallery, change, f"moved {moved} to {to or 'nobody'}")


def history(
    session: Session,
    gallery: GalleryArgument,
    identity: Annotated[str, typer.Argument(help="Only changes of this identity.")] = "",
    limit: Annotated[int, typer.Option(help="At most this many; 0 for all.", min=0)] = 50,
) -> None:
    """List who came from where, the newest change first."""
    found = list(islice(session.client.list_lineage(gallery, identity), limit or None))
    table = listing("change", "made", "kind", "faces", "from", "to", "", right={"faces"})
    for entry in found:
        table.add_row(
            entry.id,
            when(entry.create_time),
            f"undo of {entry.undoes.rpartition('/')[2]}" if entry.undoes else str(entry.kind),
            f"{entry.face_count:,}",
            *_way(entry),
            "undone" if entry.undone else "",
        )
    session.show({"lineage": found}, table)


def undo(
    session: Session,
    gallery: GalleryArgument,
    change: Annotated[str, typer.Argument(help="Number of the change.", show_default=False)],
) -> None:
    """Send the faces of a change back to where they came from."""
    name = change if "/" in change else f"galleries/{gallery}/lineage/{change}"
    entry = session.client.undo_change(name)
    moved = counted(entry.face_count, "face", "faces")
    session.show({"lineage": entry}, f"undone: {moved} went back")


def _way(entry: LineageEntry) -> tuple[str, str]:
    sources = ", ".join(source.identity or "nobody" for source in entry.sources)
    there = entry.identity or "nobody"
    return (there, sources) if entry.kind is ChangeKind.UNDO else (sources, there)


def _show(session: Session, gallery: str, change: Change, text: str) -> None:
    if change.lineage is not None:
        text += f"; undo with: visagedb identity undo {gallery} {change.lineage.id}"
    session.show(change, text)
