"""visagedb audit ...: the audit log. Audits of labels are ``visagedb gallery audit``."""

import time
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from visagedb._audit_log import AuditEntry, AuditLogVerification
from visagedb._cli._exit import ExitCode
from visagedb._cli._plugins import local
from visagedb._cli._session import Session, command
from visagedb._cli._tables import counted, listing, when

app = typer.Typer(
    name="audit", help="The audit log: what was done here, and by whom.", no_args_is_help=True
)

KeyOption = Annotated[str, typer.Option("--key", help="What this key did, by its id.")]
MethodOption = Annotated[str, typer.Option(help="The end of a method's name, as Identify.")]
ResourceOption = Annotated[
    str, typer.Option(help="A resource with all that is in it, as galleries/staff.")
]
OutcomeOption = Annotated[
    str, typer.Option(help="OK, or the status code or reason of refusals, as PERMISSION_DENIED.")
]


@command(app, "list")
def list_(
    session: Session,
    key: KeyOption = "",
    method: MethodOption = "",
    resource: ResourceOption = "",
    outcome: OutcomeOption = "",
    since: Annotated[
        datetime | None, typer.Option(help="From this moment on, in local time.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(help="Before this moment.")] = None,
    limit: Annotated[int, typer.Option(help="Show at most this many; 0 for all.", min=0)] = 50,
) -> None:
    """List entries, newest first."""
    entries = session.client.list_audit_entries(
        api_key=key,
        method=method,
        resource=resource,
        outcome=outcome,
        start_time=since and since.astimezone(),
        end_time=until and until.astimezone(),
    )
    found = list(islice(entries, limit or None))
    table = listing("entry", "when", "key", "method", "resource", "outcome", "what")
    for one in found:
        table.add_row(*_row(one))
    session.show({"entries": found}, table)


@command(app, "tail")
def tail(
    session: Session,
    key: KeyOption = "",
    method: MethodOption = "",
    resource: ResourceOption = "",
    outcome: OutcomeOption = "",
    count: Annotated[int, typer.Option(help="Begin with so many of the newest.", min=0)] = 10,
    follow: Annotated[bool, typer.Option(help="Go on until interrupted, as entries come.")] = True,
) -> None:
    """Show the newest entries, and then what comes; with --json one document each line."""
    entries = session.client.list_audit_entries
    wanted = partial(entries, api_key=key, method=method, resource=resource, outcome=outcome)
    newest = next(iter(entries(page_size=1)), None)
    last = 0 if newest is None else newest.sequence
    first = list(islice(wanted(), count))
    _print(session, reversed(first))
    last = max([last, *(one.sequence for one in first)])
    while follow:
        time.sleep(1)
        more = list(wanted(oldest_first=True, after_sequence=last))
        _print(session, more)
        last = max([last, *(one.sequence for one in more)])


@command(app, "verify")
def verify(
    session: Session,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Check the log of this data directory here, instead of asking a server. "
            "A server may be using it.",
            show_default=False,
        ),
    ] = None,
    audit_key: Annotated[
        Path | None, typer.Option(help="With --data: file with the log's key, if it lies apart.")
    ] = None,
    head: Annotated[
        str,
        typer.Option(help="A head that was noted earlier, which must still be in the log."),
    ] = "",
) -> None:
    """Prove that no entry was changed, removed, inserted, reordered or cut off.

    Exits with 1 if one was. Note the head that is shown, and give it to a later check.
    """
    if data is None:
        found = session.client.verify_audit_log(head)
    else:
        found = local("local_audit")(data, audit_key, head)
    session.show({"verification": found}, *_said(found))
    if found.findings:
        raise typer.Exit(ExitCode.FAILED)


def _said(found: AuditLogVerification) -> Iterable[str]:
    for finding in found.findings:
        yield f"{finding.file or 'log'}, entry {finding.sequence}: {finding.problem}"
    entries = counted(found.entry_count, "entry", "entries")
    verdict = "in order" if not found.findings else "NOT IN ORDER"
    yield f"{verdict}: {entries} from {found.first_sequence} on"
    yield f"head {found.head}"


def _print(session: Session, entries: Iterable[AuditEntry]) -> None:
    for one in entries:
        session.show_line(one, "  ".join(text for text in _row(one) if text))


def _row(entry: AuditEntry) -> tuple[str, ...]:
    outcome = entry.reason or entry.outcome or entry.event
    what = [entry.decision, *(f"{name}={number}" for name, number in entry.counts.items())]
    what += [f"{name}={text}" for name, text in entry.details.items()]
    return (
        str(entry.sequence),
        when(entry.time),
        entry.api_key,
        entry.method.rpartition(".")[2],
        entry.resource,
        outcome,
        " ".join(filter(None, what)),
    )
