"""Exit codes and how errors are shown."""

import json
from enum import IntEnum
from typing import Any, Final

from rich.console import Console
from rich.markup import escape

from visagedb._errors import (
    GalleryNotFoundError,
    ServerUnreachableError,
    SeveralFacesError,
    VisageError,
)

_ADVICE: Final[dict[type[Exception], str]] = {
    GalleryNotFoundError: "visagedb gallery list shows what there is; gallery create makes one",
    SeveralFacesError: "--face largest or --face central chooses one",
}


class ExitCode(IntEnum):
    """What the program's end tells the shell."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_INSTALLED = 4
    INTERRUPTED = 130


def describe(error: Exception) -> dict[str, Any]:
    """An error as plain values, for ``{"error": ...}``."""
    if isinstance(error, VisageError):
        return error.to_dict()
    return {
        "type": type(error).__name__,
        "code": "",
        "reason": "",
        "message": str(error),
        "metadata": {},
        "field_violations": [],
    }


def advice_on(error: Exception | None) -> str:
    """What to do about an error on the command line; empty if the error says so itself."""
    return "" if error is None else _ADVICE.get(type(error), "")


def show_error(error: Exception, *, as_json: bool) -> ExitCode:
    """Shows an error: as JSON on stdout, or as a line on stderr.

    Returns:
        What the program should exit with.
    """
    if as_json:
        print(json.dumps({"error": describe(error)}, indent=2))
    else:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(f"[bold red]error:[/] {escape(str(error))}")
        if isinstance(error, VisageError):
            for violation in error.field_violations:
                if violation.description != error.message:
                    console.print(f"  {escape(violation.field)}: {escape(violation.description)}")
        if advice := advice_on(error):
            console.print(f"  {advice}")
    unreachable = isinstance(error, ServerUnreachableError)
    return ExitCode.UNREACHABLE if unreachable else ExitCode.FAILED
