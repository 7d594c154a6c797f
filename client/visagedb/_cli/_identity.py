"""visagedb identity ..."""

from itertools import islice
from typing import Annotated

import typer

from visagedb._cli import _changes
from visagedb._cli._options import FilterOption, GalleryArgument, YesOption
from visagedb._cli._session import Session, command, confirm
from visagedb._cli._tables import counted, face_text, facts, labels_text, listing, when

app = typer.Typer(name="identity", help="Identities: people in a gallery.", no_args_is_help=True)

IdentityArgument = Annotated[str, typer.Argument(help="Id of the identity.", show_default=False)]


@command(app, "list")
def list_(
    session: Session,
    gallery: GalleryArgument,
    label_filter: FilterOption = "",
    limit: Annotated[int, typer.Option(help="At most this many; 0 for all.", min=0)] = 100,
) -> None:
    """List the people of a gallery in the order of creation."""
    page = min(limit + 1, 1000) if limit else 1000
    everybody = session.client.list_identities(gallery, filter=label_filter, page_size=page)
    found = list(islice(everybody, limit + 1 if limit else None))
    more = bool(limit) and len(found) > limit
    people = found[:limit] if limit else found
    table = listing("identity", "name", "faces", "labels", "created", "expires", right={"faces"})
    for person in people:
        table.add_row(
            person.id,
            person.display_name,
            f"{person.face_count:,}",
            labels_text(person.labels),
            when(person.create_time),
            when(person.expire_time),
        )
    if more:
        table.caption = f"the first {limit}; --limit 0 for all"
    session.show({"identities": people, "more": more}, table)


@command(app, "show")
def show(session: Session, gallery: GalleryArgument, identity: IdentityArgument) -> None:
    """Show a person and the enrolled faces."""
    person = session.client.get_identity(gallery, identity)
    faces = list(session.client.list_faces(gallery, identity))
    rows = {
        "identity": person.id,
        "display name": person.display_name,
        "labels": labels_text(person.labels),
        "metadata": str(dict(person.metadata)) if person.metadata else "",
        "created": when(person.create_time),
        "expires": when(person.expire_time),
    }
    table = listing("face", "source", "found", "enrolled")
    for face in faces:
        table.add_row(face.id, face.source, face_text(face.detection), when(face.create_time))
    session.show({"identity": person, "faces": faces}, facts(rows), table)


@command(app, "delete")
def delete(
    session: Session,
    gallery: GalleryArgument,
    identity: IdentityArgument,
    yes: YesOption = False,
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="Succeed if absent.")] = False,
) -> None:
    """Delete a person and all faces of hers or his."""
    confirm(session, f"Delete {identity} with all faces?", yes=yes)
    receipt = session.client.delete_identity(gallery, identity, missing_ok=missing_ok)
    count = 0 if receipt is None else receipt.face_count
    session.show(
        {"deleted": identity, "deleted_face_count": count, "erasure": receipt},
        f"deleted {identity} with {counted(count, 'face', 'faces')}"
        + ("" if receipt is None else f"; receipt {receipt.id}"),
    )


_changes.register(app)
