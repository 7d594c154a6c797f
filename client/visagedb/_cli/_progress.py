"""Waiting for a long-running operation with a bar on standard error."""

from typing import TypeVar

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from visagedb._answers import OperationStatus
from visagedb._cli._session import Session
from visagedb._operation import Operation

Result = TypeVar("Result")


def waited(session: Session, operation: Operation[Result], what: str) -> Result:
    """The result of an operation; an interrupt cancels it.

    Args:
        session: Where the bar is drawn.
        operation: What is waited for.
        what: Shown until the server says what it does.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=session.err, disable=session.as_json) as progress:
        task = progress.add_task(what, total=1.0)

        def advance(status: OperationStatus) -> None:
            progress.update(task, completed=status.progress, description=status.stage or what)

        try:
            return operation.result(progress=advance)
        except KeyboardInterrupt:
            operation.cancel()
            raise
