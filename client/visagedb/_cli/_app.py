"""The root of the command line."""

import json
from pathlib import Path
from typing import Annotated, Final, cast

import typer

from visagedb._channel import DEFAULT_ADDRESS
from visagedb._cli import (
    _audit_log,
    _backup,
    _cluster,
    _clusters,
    _enroll,
    _erasure,
    _face,
    _gallery,
    _identity,
    _import,
    _imports,
    _keys,
    _operation,
    _quarantine,
    _search,
)
from visagedb._cli._exit import ExitCode
from visagedb._cli._plugins import EXPECTED, add_plugins, not_installed
from visagedb._cli._session import ADDRESS_VARIABLE, Target
from visagedb._security import (
    API_KEY_VARIABLE,
    CA_VARIABLE,
    CERTIFICATE_VARIABLE,
    KEY_VARIABLE,
    Tls,
)
from visagedb._version import __version__

# Typer brings its own copy of click in newer releases, so the base of all usage errors
# is found through the one class that it exports.
_UsageError = cast("type[Exception]", typer.BadParameter.__bases__[0])

_SERVER_PACKAGES: Final = frozenset(
    {
        "PIL",
        "cryptography",
        "faiss",
        "grpc_health",
        "grpc_reflection",
        "grpc_status",
        "jinja2",
        "lmdb",
        "matplotlib",
        "msgspec",
        "onnx",
        "prometheus_client",
        "pyarrow",
        "pydantic",
        "pydantic_settings",
        "pyroaring",
        "scipy",
        "structlog",
        "torch",
    }
)

_OWN: Final = frozenset(
    {
        "audit",
        "backup",
        "cluster",
        "clusters",
        "enroll",
        "erasure",
        "export",
        "face",
        "gallery",
        "identify",
        "identity",
        "import",
        "imports",
        "keys",
        "operation",
        "quarantine",
        "verify",
    }
)


def _print_version(value: bool) -> None:
    if value:
        print(f"visagedb {__version__}")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    address: Annotated[
        str,
        typer.Option(envvar=ADDRESS_VARIABLE, help="Server to talk to, host:port."),
    ] = DEFAULT_ADDRESS,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help=f"File with the API key. It may also be in the environment: {API_KEY_VARIABLE}."
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(envvar=CA_VARIABLE, help="Encrypt; this CA signed the server's certificate."),
    ] = None,
    client_cert: Annotated[
        Path | None,
        typer.Option(envvar=CERTIFICATE_VARIABLE, help="Certificate to show to the server."),
    ] = None,
    client_key: Annotated[
        Path | None,
        typer.Option(envvar=KEY_VARIABLE, help="Private key of that certificate."),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """VisageDB, a face identity database: enrol, identify, verify and cluster faces.

    Exit codes: 0 fine, 1 refused or partly failed, 2 wrong usage, 3 no server answers,
    4 packages are missing, 130 interrupted.
    """
    try:
        key = None if api_key_file is None else api_key_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"--api-key-file: {error}") from error
    tls = Tls(ca, client_cert, client_key) if ca or client_cert else None
    ctx.obj = Target(address, key, tls)


def build(arguments: list[str]) -> typer.Typer:
    """The command line for some arguments.

    Commands of other packages are left out when one of our own is called: a server's
    imports take longer than most of our commands.
    """
    app = typer.Typer(
        name="visagedb",
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    commands = (argument for argument in arguments if argument in EXPECTED or argument in _OWN)
    if next(commands, None) not in _OWN:
        add_plugins(app)
    for module in (
        _gallery,
        _identity,
        _face,
        _clusters,
        _operation,
        _backup,
        _erasure,
        _quarantine,
        _keys,
        _audit_log,
        _imports,
    ):
        app.add_typer(module.app)
    for register in (_enroll.register, _search.register, _cluster.register, _import.register):
        register(app)
    return app


def run(arguments: list[str]) -> int:
    """Runs one command line and returns its exit code."""
    app = build(arguments)
    try:
        code = app(arguments, standalone_mode="--json" not in arguments)
    except _UsageError as error:
        message = getattr(error, "format_message", error.__str__)()
        document = {"type": "UsageError", "code": "", "reason": "USAGE", "message": message}
        print(json.dumps({"error": document}, indent=2))
        return ExitCode.USAGE
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _SERVER_PACKAGES:
            raise
        return not_installed("this command", str(error))
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(bool(error.code))
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return code if isinstance(code, int) else ExitCode.OK
