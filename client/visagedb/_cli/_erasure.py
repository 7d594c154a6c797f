"""visagedb erasure ..., visagedb gallery compact."""

from itertools import islice
from typing import Annotated

import typer

from visagedb._cli._options import GalleryArgument
from visagedb._cli._progress import waited
from visagedb._cli._session import Session, command
from visagedb._cli._tables import counted, facts, listing, when
from visagedb._erasures import Erasure, ServerClock
from visagedb._names import last_id
from visagedb._values import ErasureState

app = typer.Typer(
    name="erasure", help="Receipts of what was deleted; is it gone for good?", no_args_is_help=True
)


def register_compact(galleries: typer.Typer) -> None:
    """Adds ``compact`` to the commands of galleries."""
    command(galleries, "compact")(compact)


def compact(
    session: Session,
    gallery: GalleryArgument,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write zeros over the old file first.")
    ] = False,
) -> None:
    """Leave no byte of what was deleted, and give free space back; the gallery stays in use."""
    operation = session.client.compact_gallery(gallery, overwrite=overwrite)
    done = waited(session, operation, "compacting")
    session.show(
        {"compaction": done},
        f"{gallery}: {done.bytes_before / 1e6:,.1f} MB before, {done.bytes_after / 1e6:,.1f} MB "
        f"after; {counted(done.completed_erasure_count, 'erasure', 'erasures')} completed",
    )


@command(app, "list")
def list_(
    session: Session,
    gallery: GalleryArgument,
    state: Annotated[
        ErasureState | None, typer.Option(help="Only those in this state.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(help="At most this many; 0 for all.", min=0)] = 100,
) -> None:
    """List the receipts of a gallery, newest first."""
    found = list(islice(session.client.list_erasures(gallery, state=state), limit or None))
    table = listing("erasure", "erased", "people", "faces", "cause", "state", "deleted")
    for one in found:
        table.add_row(
            one.id,
            one.target,
            f"{one.identity_count:,}",
            f"{one.face_count:,}",
            one.cause.value,
            one.state.value,
            when(one.delete_time),
        )
    session.show({"erasures": found}, table)


@command(app, "show")
def show(
    session: Session,
    gallery: GalleryArgument,
    erasure: Annotated[str, typer.Argument(help="Id of the receipt.", show_default=False)],
) -> None:
    """Show a receipt."""
    name = f"galleries/{gallery}/erasures/{last_id(erasure)}"
    found = session.client.get_erasure(name)
    session.show({"erasure": found}, facts(_rows(found)))


@command(app, "status")
def status(session: Session, gallery: GalleryArgument) -> None:
    """Show what is still to be erased, who expires next, and whether the clock is believed."""
    found = session.client.get_retention(gallery)
    rows = {
        "pending": counted(found.pending_erasure_count, "erasure", "erasures"),
        "oldest": when(found.oldest_pending_time),
        "compaction by": when(found.compaction_due_time),
        "next expiry": when(found.next_expire_time),
        "clock": _clock(found.clock),
    }
    session.show({"retention": found}, facts(rows))


@command(app, "confirm-clock")
def confirm_clock(
    session: Session,
    gallery: GalleryArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Make the server believe its clock, after it has jumped. Whoever has expired is erased."""
    clock = session.client.get_retention(gallery).clock
    assert clock.time is not None
    if not yes and not session.as_json:
        typer.confirm(f"The server's clock shows {when(clock.time)}. Is that right?", abort=True)
    confirmed = session.client.confirm_clock(clock.time)
    session.show({"clock": confirmed}, f"the server believes its clock: {when(confirmed.time)}")


def _clock(clock: ServerClock) -> str:
    if clock.trusted:
        return f"believed, {when(clock.time)}"
    return f"NOT believed, nobody expires: {clock.reason}"


def _rows(found: Erasure) -> dict[str, str]:
    return {
        "erasure": found.id,
        "erased": found.target,
        "uid": found.target_uid,
        "people": f"{found.identity_count:,}",
        "faces": f"{found.face_count:,}",
        "digest": found.content_digest,
        "cause": found.cause.value,
        "expired": when(found.expire_time),
        "deleted": when(found.delete_time),
        "state": found.state.value,
        "complete": when(found.complete_time),
        "overwritten": "yes" if found.overwritten else "no",
        "not reached": found.not_reached,
    }
