"""visagedb doctor: is this machine fit to run a server, and if not, what to do."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from visagedb_server.commands import checks, machine_checks, security_checks
from visagedb_server.commands.checks import Check, Status

_STYLES: Final = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red"}


def doctor(
    data: Annotated[
        Path | None, typer.Option(help="The data directory that a server would use.")
    ] = None,
    card: Annotated[
        list[Path] | None,
        typer.Option("--card", help="Another model card, or a folder of them; repeatable."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Also look for a server there.", envvar="VISAGEDB_ADDRESS"),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(help="The server's certificate chain, PEM.", envvar="VISAGEDB_TLS_CERT"),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="Its private key, PEM.", envvar="VISAGEDB_TLS_KEY")
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            help="Who signs the certificates of clients, PEM.", envvar="VISAGEDB_TLS_CLIENT_CA"
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the self-test.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of a table.")
    ] = False,
) -> None:
    """Check this machine for running a server. Exits with 1 if something must be mended."""
    security = [
        lambda: security_checks.certificates(tls_cert, tls_key, tls_client_ca),
        lambda: security_checks.permissions(data),
        lambda: security_checks.audit_log(data),
    ]
    found = list(_run(data, tuple(card or ()), address, security, quick=quick))
    if as_json:
        ok = all(check.status is not Status.FAIL for check in found)
        print(json.dumps({"ok": ok, "checks": [check.to_dict() for check in found]}, indent=2))
    else:
        Console(highlight=False).print(_table(found))
    if any(check.status is Status.FAIL for check in found):
        raise typer.Exit(1)


def _run(
    data: Path | None,
    cards: tuple[Path, ...],
    address: str | None,
    security: list[Callable[[], Iterator[Check]]],
    *,
    quick: bool,
) -> Iterator[Check]:
    steps: list[Callable[[], Iterator[Check]]] = [
        checks.python,
        checks.packages,
        checks.processor,
        lambda: checks.models(cards),
        lambda: checks.disk(data or Path.cwd(), is_data=data is not None),
        lambda: machine_checks.settings(os.environ),
        machine_checks.open_files,
        machine_checks.address_space,
        lambda: machine_checks.clock(data),
        *security,
        lambda: checks.galleries(data),
        lambda: checks.server(address),
        lambda: security_checks.api_key(address),
    ]
    if not quick:
        steps.append(lambda: checks.self_test(cards))
    for step in steps:
        yield from step()


def _table(found: list[Check]) -> Table:
    table = Table("check", "result")
    for heading in ("what was found", "what to do"):
        table.add_column(heading, overflow="fold")
    for check in found:
        table.add_row(
            check.name,
            f"[{_STYLES[check.status]}]{check.status}[/]",
            escape(check.detail),
            escape(check.fix),
        )
    worst = [check.status for check in found]
    table.caption = (
        f"{worst.count(Status.OK)} fine, {worst.count(Status.WARN)} to look at, "
        f"{worst.count(Status.FAIL)} to mend; {os.cpu_count()} processors"
    )
    return table
