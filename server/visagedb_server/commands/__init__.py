"""The commands that the server adds to ``visagedb``; found through an entry point."""

import typer

from visagedb_server.commands import data, evaluate, models
from visagedb_server.commands.doctor import doctor
from visagedb_server.commands.local_audit import local_audit
from visagedb_server.commands.local_keys import local_keys
from visagedb_server.commands.serve import serve
from visagedb_server.commands.top import top

__all__ = ["local_audit", "local_keys", "register"]


def register(app: typer.Typer) -> None:
    """Adds serve, data, models, doctor, top and evaluate to the command line."""
    app.command()(serve)
    app.add_typer(data.app, name="data")
    app.add_typer(models.app, name="models")
    app.command()(doctor)
    app.command()(top)
    evaluate.register(app)
