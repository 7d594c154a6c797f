"""visagedb operation ..."""

from typing import Annotated

import typer

from visagedb._answers import OperationStatus
from visagedb._cli._session import Session, command
from visagedb._cli._tables import facts, listing, when

app = typer.Typer(name="operation", help="Long-running operations.", no_args_is_help=True)

OperationArgument = Annotated[
    str, typer.Argument(help="Id of the operation, as list shows it.", show_default=False)
]


@command(app, "list")
def list_(session: Session) -> None:
    """List the operations that the server knows of."""
    operations = list(session.client.list_operations())
    table = listing("operation", "gallery", "state", "progress", "started")
    for operation in operations:
        table.add_row(
            operation.id,
            operation.gallery,
            _state(operation),
            f"{operation.progress:.0%}",
            when(operation.create_time),
        )
    session.show({"operations": operations}, table)


@command(app, "show")
def show(session: Session, operation: OperationArgument) -> None:
    """Show how an operation stands."""
    found = session.client.get_operation(operation)
    rows = {
        "operation": found.id,
        "gallery": found.gallery,
        "state": _state(found),
        "progress": f"{found.progress:.0%}",
        "stage": found.stage,
        "started": when(found.create_time),
        "error": "" if found.error is None else str(found.error),
        "result": getattr(found.result, "name", ""),
    }
    session.show({"operation": found}, facts(rows))


@command(app, "cancel")
def cancel(session: Session, operation: OperationArgument) -> None:
    """Ask an operation to stop."""
    session.client.cancel_operation(operation)
    session.show({"cancelled": operation}, f"asked {operation} to stop")


def _state(operation: OperationStatus) -> str:
    if not operation.done:
        return "running"
    return "done" if operation.error is None else "failed"
