"""visagedb quarantine ..."""

from itertools import islice
from typing import Annotated

import typer

from visagedb._cli._gate import finding_text
from visagedb._cli._options import GalleryArgument
from visagedb._cli._session import Session, command
from visagedb._cli._tables import counted, face_text, listing, when
from visagedb._gate import GateReason

app = typer.Typer(
    name="quarantine",
    help="Faces that a gallery's checks have set aside.",
    no_args_is_help=True,
)

NumbersArgument = Annotated[
    list[int] | None, typer.Argument(help="Numbers of the faces.", show_default=False)
]
ReasonOption = Annotated[
    GateReason | None, typer.Option(help="Only faces with this finding.", show_default=False)
]


@command(app, "list")
def list_(
    session: Session,
    gallery: GalleryArgument,
    reason: ReasonOption = None,
    limit: Annotated[int, typer.Option(help="At most this many; 0 for all.", min=0)] = 100,
) -> None:
    """List the faces in quarantine, oldest first."""
    found = session.client.list_quarantined_faces(gallery, reason=reason)
    faces = list(islice(found, limit or None))
    table = listing("number", "identity", "why", "source", "found", "since", right={"number"})
    for face in faces:
        table.add_row(
            str(face.number),
            face.identity,
            "\n".join(map(finding_text, face.findings)),
            face.source,
            face_text(face.detection),
            when(face.create_time),
        )
    table.caption = f"{counted(len(faces), 'face', 'faces')} in quarantine"
    document = [{"number": face.number, "identity": face.identity, "face": face} for face in faces]
    session.show({"faces": document}, table)


@command(app, "accept")
def accept(
    session: Session,
    gallery: GalleryArgument,
    numbers: NumbersArgument = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    reason: ReasonOption = None,
    identity: Annotated[
        str, typer.Option(help="Enrol them for this identity instead; created if missing.")
    ] = "",
) -> None:
    """Enrol faces that are in quarantine; the checks are not asked again."""
    chosen = _chosen(session, gallery, numbers, reason, every=every)
    enrolled = [
        session.client.accept_quarantined_face(gallery, number, identity=identity)
        for number in chosen
    ]
    session.show({"enrolled": enrolled}, f"enrolled {counted(len(enrolled), 'face', 'faces')}")


@command(app, "drop")
def drop(
    session: Session,
    gallery: GalleryArgument,
    numbers: NumbersArgument = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    reason: ReasonOption = None,
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="Succeed if absent.")] = False,
) -> None:
    """Remove faces from quarantine for good, with their vectors."""
    chosen = _chosen(session, gallery, numbers, reason, every=every)
    for number in chosen:
        session.client.drop_quarantined_face(gallery, number, missing_ok=missing_ok or every)
    session.show({"dropped": chosen}, f"dropped {counted(len(chosen), 'face', 'faces')}")


def _chosen(
    session: Session,
    gallery: str,
    numbers: list[int] | None,
    reason: GateReason | None,
    *,
    every: bool,
) -> list[int]:
    if every == bool(numbers):
        raise typer.BadParameter("give numbers of faces, or --all")
    if numbers:
        return numbers
    # Read to the end first: the listing must not lose its place.
    found = session.client.list_quarantined_faces(gallery, reason=reason)
    return [face.number for face in found]
