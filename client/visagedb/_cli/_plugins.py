"""Commands of other packages: serve, data, models, doctor, top, evaluate."""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final, cast

import typer
from rich.console import Console

from visagedb._cli._exit import ExitCode

GROUP: Final = "visagedb.commands"
INSTALL_HINT: Final = "pip install 'visagedb[all]'"

EXPECTED: Final = {
    "serve": "Run a server.",
    "data": "Check, back up and restore data directories.",
    "models": "List, describe and check face models.",
    "doctor": "Check this machine for running a server.",
    "top": "Watch a running server.",
    "evaluate": "Measure error rates on images or a gallery.",
}


def add_plugins(app: typer.Typer) -> None:
    """Lets every installed package of the group add its commands.

    For those that should be there and are not, a command is added that says how to
    install them.
    """
    problem = ""
    for entry in entry_points(group=GROUP):
        try:
            entry.load()(app)
        except Exception as error:  # noqa: BLE001 (broken packages raise anything)
            # Whatever is wrong with a server must not take the client's commands with it.
            problem = str(error).partition("\n")[0]
    present = _names(app)
    for name in EXPECTED:
        if name not in present:
            _add_placeholder(app, name, problem)


def local(name: str) -> Callable[..., Any]:
    """What an installed package of the group offers for work on a data directory.

    Args:
        name: A function beside that which adds its commands.

    Raises:
        typer.Exit: There is none; what to install was said.
    """
    problem = ""
    for entry in entry_points(group=GROUP):
        try:
            function = getattr(import_module(entry.module), name, None)
        except ImportError as error:
            problem = str(error).partition("\n")[0]
        else:
            if callable(function):
                return cast("Callable[..., Any]", function)
    raise typer.Exit(not_installed("work on a data directory", problem))


def not_installed(what: str, problem: str = "") -> ExitCode:
    """Says on stderr that packages are missing and how to get them."""
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    because = f" ({problem})" if problem else ""
    console.print(f"{what} needs packages that are not installed{because}.")
    console.print(f"Install them with: {INSTALL_HINT}")
    return ExitCode.NOT_INSTALLED


def _names(app: typer.Typer) -> set[str]:
    """Names of the commands and groups that are registered already."""
    names = {
        info.name or getattr(info.callback, "__name__", "") for info in app.registered_commands
    }
    for group in app.registered_groups:
        names.add(group.name or (group.typer_instance and group.typer_instance.info.name) or "")
    return {str(name) for name in names}


def _add_placeholder(app: typer.Typer, name: str, problem: str) -> None:
    settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

    @app.command(name, help=f"{EXPECTED[name]} (not installed)", context_settings=settings)
    def placeholder() -> None:
        raise typer.Exit(not_installed(f"visagedb {name}", problem))
