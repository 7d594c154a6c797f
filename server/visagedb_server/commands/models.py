"""visagedb models: which face models there are, and whether their files are right."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from visagedb_indexer.errors import IndexerError
from visagedb_indexer.faces.cards import ModelCard
from visagedb_indexer.faces.registry import ModelRegistry

T = TypeVar("T")

app = typer.Typer(name="models", help="List, describe and check face models.", no_args_is_help=True)

CardOption = Annotated[
    list[Path] | None,
    typer.Option("--card", help="Another model card, or a folder of them; repeatable."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of tables.")
]


@app.command("list")
def list_(card: CardOption = None, as_json: JsonOption = False) -> None:
    """List the models that this machine knows."""
    registry = _registry(card, as_json=as_json)
    cards = [registry.get(name) for name in registry.names()]
    table = Table("model", "version", "kind", "dimension", "licence")
    table.add_column("files", overflow="fold")
    summaries = []
    for model in cards:
        problem = _problem(registry.check_files, model)
        table.add_row(
            model.name,
            model.identity().version,
            model.kind,
            str(model.dimension or ""),
            escape(model.licence),
            escape(problem or "found"),
        )
        summaries.append({**_summary(model), "problem": problem})
    _show({"models": summaries}, table, as_json=as_json)


@app.command("describe")
def describe(
    name: Annotated[str, typer.Argument(help="Name of the model.", show_default=False)],
    card: CardOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show everything that a model's card says."""
    registry = _registry(card, as_json=as_json)
    model = _or_exit(lambda: registry.get(name), as_json=as_json)
    table = Table(show_header=False, box=box.SIMPLE)
    table.add_column(style="bold")
    table.add_column()
    facts = {**_summary(model), **_details(model)}
    for key, value in facts.items():
        if value not in ("", None, {}, []):
            table.add_row(key.replace("_", " "), escape(_text(value)))
    _show({"model": facts}, table, as_json=as_json)


@app.command("check")
def check(
    name: Annotated[
        list[str] | None, typer.Argument(help="Models to check; all if none is named.")
    ] = None,
    files_only: Annotated[
        bool, typer.Option("--files-only", help="Compare digests, but do not run the networks.")
    ] = False,
    card: CardOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the digests of models' files and run each network once. Exits with 1 on failure."""
    registry = _registry(card, as_json=as_json)
    cards = _or_exit(
        lambda: [registry.get(model) for model in name or registry.names()], as_json=as_json
    )
    run = registry.check_files if files_only else registry.check
    problems = {model.name: _problem(run, model) for model in cards}
    table = Table("model")
    table.add_column("result", overflow="fold")
    for model_name, problem in problems.items():
        table.add_row(model_name, f"[red]{escape(problem)}[/]" if problem else "[green]OK[/]")
    document = {
        "checks": [
            {"model": model_name, "ok": not problem, "problem": problem}
            for model_name, problem in problems.items()
        ]
    }
    _show(document, table, as_json=as_json)
    if any(problems.values()):
        raise typer.Exit(1)


def _registry(cards: Sequence[Path] | None, *, as_json: bool) -> ModelRegistry:
    return _or_exit(lambda: ModelRegistry(tuple(cards or ())), as_json=as_json)


def _or_exit(function: Callable[[], T], *, as_json: bool) -> T:
    """The function's value; its error is shown and ends the program with 1."""
    try:
        return function()
    except IndexerError as error:
        if as_json:
            print(json.dumps({"error": _error(error)}, indent=2))
        else:
            console = Console(stderr=True, highlight=False, soft_wrap=True)
            console.print(f"[bold red]error:[/] {escape(error.message)}")
        raise typer.Exit(1) from error


def _error(error: IndexerError) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "reason": error.reason,
        "message": error.message,
        "metadata": error.metadata,
    }


def _problem(run: Callable[[ModelCard], None], card: ModelCard) -> str:
    try:
        run(card)
    except IndexerError as error:
        return f"{error.reason}: {error.message}"
    return ""


def _summary(card: ModelCard) -> dict[str, Any]:
    return {
        "name": card.name,
        "version": card.identity().version,
        "kind": card.kind,
        "dimension": card.dimension,
        "licence": card.licence,
        "source": card.source,
        "description": card.description,
    }


def _details(card: ModelCard) -> dict[str, Any]:
    thresholds = card.thresholds
    return {
        "file": card.weights.file,
        "folder": "" if card.weights.folder is None else str(card.weights.folder),
        "package": card.weights.package,
        "sha256": card.weights.sha256,
        "data_files": dict(card.weights.data_files),
        "input": dataclasses.asdict(card.input),
        "alignment": [list(point) for point in card.template],
        "centred": card.centre is not None,
        "thresholds": None
        if thresholds is None
        else {
            "verify": thresholds.verify,
            "identify": thresholds.identify,
            "false_match_rates": {
                f"{rate:g}": score for rate, score in thresholds.false_match_rates.items()
            },
        },
        "detection": None if card.detector is None else dataclasses.asdict(card.detector),
    }


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(
            f"({_text(item)})" if isinstance(item, (list, tuple)) else _text(item) for item in value
        )
    return str(value)


def _show(document: Any, table: Table, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        Console(highlight=False).print(table)
