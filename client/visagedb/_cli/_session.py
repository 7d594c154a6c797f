"""What every command shares: the address, the output, the client, the errors."""

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from visagedb._channel import DEFAULT_ADDRESS
from visagedb._cli._exit import ExitCode, show_error
from visagedb._cli._plain import plain
from visagedb._client import Client
from visagedb._errors import VisageError
from visagedb._security import Tls

ADDRESS_VARIABLE = "VISAGEDB_ADDRESS"

AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        help=f"Server to talk to, host:port. [env: {ADDRESS_VARIABLE}; default: {DEFAULT_ADDRESS}]",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of tables.")
]


@dataclass(frozen=True, slots=True)
class Target:
    """Which server to talk to, and how; what the root of the command line was given.

    Attributes:
        address: Where it is.
        api_key: None for that of the environment.
        tls: None for what the environment says.
    """

    address: str = DEFAULT_ADDRESS
    api_key: str | None = field(default=None, repr=False)
    tls: Tls | None = None


class Session:
    """One run of a command.

    Attributes:
        address: Where the server is.
        as_json: Print JSON instead of tables.
        out: Standard output.
        err: Standard error, for progress and warnings.
    """

    def __init__(self, target: Target, *, as_json: bool) -> None:
        self._target = target
        self.address = target.address
        self.as_json = as_json
        # Names and references are shown as they are, whatever brackets and colons they hold.
        self.out = Console(highlight=False, markup=False, emoji=False)
        self.err = Console(stderr=True, highlight=False, emoji=False)
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The connection, made when it is first needed."""
        if self._client is None:
            target = self._target
            self._client = Client(target.address, api_key=target.api_key, tls=target.tls)
        return self._client

    def show(self, document: Any, *renderables: RenderableType) -> None:
        """Prints the document as JSON, or the renderables for people."""
        if self.as_json:
            print(json.dumps(plain(document), indent=2, ensure_ascii=False))
            return
        for renderable in renderables:
            self.out.print(renderable)

    def show_line(self, document: Any, text: str) -> None:
        """Prints a document as one line of JSON, or a text for people; at once."""
        line = json.dumps(plain(document), ensure_ascii=False) if self.as_json else text
        print(line, flush=True)

    def close(self) -> None:
        """Closes the connection if there is one."""
        if self._client is not None:
            self._client.close()


def confirm(session: Session, question: str, *, yes: bool) -> None:
    """Asks before something is lost for ever.

    Args:
        session: Of the command.
        question: What is about to happen.
        yes: The answer has been given already.

    Raises:
        typer.BadParameter: A program that reads JSON cannot be asked, and did not say `--yes`.
    """
    if yes:
        return
    if session.as_json:
        raise typer.BadParameter("with --json nobody is asked; add --yes", param_hint="--yes")
    typer.confirm(question, abort=True, err=True)


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a function as a command that also takes --address and --json.

    The function's first parameter is the `Session`; its errors become a message and an
    exit code.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        run = _with_session(function)
        app.command(name)(run)
        return run

    return register


def _with_session(function: Callable[..., None]) -> Callable[..., None]:
    def run(
        ctx: typer.Context, *, address: str | None = None, as_json: bool = False, **options: Any
    ) -> None:
        target = ctx.obj or Target()
        if address:
            target = replace(target, address=address)
        session = Session(target, as_json=as_json)
        try:
            function(session, **options)
        except (VisageError, OSError) as error:
            raise typer.Exit(show_error(error, as_json=as_json)) from error
        except KeyboardInterrupt:
            session.err.print("interrupted")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        finally:
            session.close()

    # Typer reads a command's options from its signature and annotations.
    own = list(inspect.signature(function).parameters.values())[1:]
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter("address", keyword, default=None, annotation=AddressOption),
        inspect.Parameter("as_json", keyword, default=False, annotation=JsonOption),
    ]
    context = inspect.Parameter(
        "ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    parameters = [context, *(p.replace(kind=keyword) for p in own), *shared]
    setattr(run, "__signature__", inspect.Signature(parameters))  # noqa: B010
    run.__name__ = function.__name__
    run.__doc__ = function.__doc__
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run
