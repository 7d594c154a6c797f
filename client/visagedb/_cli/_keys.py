"""visagedb keys ..."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from visagedb._access import ApiKey
from visagedb._cli._plugins import local
from visagedb._cli._session import Session, command
from visagedb._cli._tables import facts, listing, when
from visagedb._values import Role

app = typer.Typer(name="keys", help="API keys: who may do what.", no_args_is_help=True)

DataOption = Annotated[
    Path | None,
    typer.Option(
        help="Work on this data directory, which no server uses, instead of asking a server.",
        show_default=False,
    ),
]


class GivenRole(StrEnum):
    """`Role` without the unknown one."""

    READER = "reader"
    ENROLLER = "enroller"
    ADMIN = "admin"
    AUDITOR = "auditor"


@contextmanager
def _keys(session: Session, data: Path | None) -> Iterator[Any]:
    """The client, or what has its methods about keys for a data directory."""
    if data is None:
        yield session.client
        return
    with local("local_keys")(data) as keys:
        yield keys


@command(app, "create")
def create(
    session: Session,
    role: Annotated[GivenRole, typer.Option(help="What the key is for.", show_default=False)],
    gallery: Annotated[
        list[str] | None,
        typer.Option(help="A gallery that the key sees; repeatable.", show_default=False),
    ] = None,
    all_galleries: Annotated[
        bool,
        typer.Option(
            "--all-galleries", help="The key sees all galleries. Admins and auditors do by default."
        ),
    ] = False,
    name: Annotated[str, typer.Option(help="What the key is called, for people.")] = "",
    days: Annotated[
        float | None, typer.Option(help="The key expires after so many days.", min=0.001)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write the key to this new file, for its owner only, not to the screen."),
    ] = None,
    data: DataOption = None,
) -> None:
    """Make an API key. Its text is shown once and cannot be had again.

    The first key is an admin's, made before the server starts: visagedb keys create --data DIR
    --role admin. From then on every caller needs a key.
    """
    if gallery and all_galleries:
        raise typer.BadParameter("give --gallery or --all-galleries, not both")
    if not gallery and not all_galleries and role in (GivenRole.READER, GivenRole.ENROLLER):
        raise typer.BadParameter("give --gallery, once for each, or --all-galleries")
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with _written(output) as write, _keys(session, data) as keys:
        made = keys.create_api_key(
            Role(role.value), gallery or None, display_name=name, expire_time=expires
        )
        write(made.secret)
    document = {"api_key": made.key, "secret": "" if output else made.secret}
    session.show(
        document,
        facts({"key": made.key.id, **_facts(made.key), "written to": str(output or "")}),
        *([] if output else [made.secret]),
    )
    if output is None and not session.as_json:
        session.err.print("keep it now: it is not shown again")


@command(app, "list")
def list_(session: Session, data: DataOption = None) -> None:
    """List the API keys, also those that are revoked or expired."""
    with _keys(session, data) as keys:
        found = list(keys.list_api_keys())
    table = listing("key", "name", "role", "galleries", "created", "state")
    for one in found:
        row = _facts(one)
        table.add_row(
            one.id, row["name"], row["role"], row["galleries"], row["created"], _state(one)
        )
    session.show({"api_keys": found}, table)


@command(app, "revoke")
def revoke(
    session: Session,
    key: Annotated[str, typer.Argument(help="Id of the key, as list shows it.")],
    data: DataOption = None,
) -> None:
    """Refuse a key from now on, for ever."""
    with _keys(session, data) as keys:
        revoked = keys.revoke_api_key(key)
    session.show({"api_key": revoked}, f"{revoked.id} is revoked")


@command(app, "whoami")
def whoami(session: Session) -> None:
    """Show who the server takes you for."""
    caller = session.client.get_caller()
    rows = {
        "key": caller.api_key or "none; this server needs none",
        "role": caller.role.value,
        "galleries": _galleries(caller.galleries),
    }
    session.show({"caller": caller}, facts(rows))


@contextmanager
def _written(path: Path | None) -> Iterator[Callable[[str], object]]:
    """Writes a line to a new file for its owner only; no file is left where something fails.

    It is opened first, because a key that cannot be written down is of no use.
    """
    if path is None:
        yield lambda line: None
        return
    file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w")
    try:
        with file:
            yield lambda line: file.write(f"{line}\n")
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _facts(key: ApiKey) -> dict[str, str]:
    return {
        "name": key.display_name,
        "role": key.role.value,
        "galleries": _galleries(key.galleries),
        "created": when(key.create_time),
        "expires": when(key.expire_time),
    }


def _galleries(galleries: tuple[str, ...] | None) -> str:
    return "all" if galleries is None else " ".join(galleries)


def _state(key: ApiKey) -> str:
    if key.revoke_time is not None:
        return f"revoked {when(key.revoke_time)}"
    if key.expire_time is None:
        return "valid"
    word = "expired" if key.expire_time <= datetime.now(UTC) else "valid until"
    return f"{word} {when(key.expire_time)}"
