"""visagedb evaluate: error rates on a folder of people, a list of pairs, or a gallery."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from visagedb import VisageError
from visagedb._cli._options import Fusion, OneFace
from visagedb._cli._session import Session
from visagedb._cli._session import command as session_command
from visagedb_indexer import defaults
from visagedb_indexer.errors import IndexerError


class PrecisionOption(StrEnum):
    """Arithmetic of the embedder."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    session_command(app, "evaluate")(evaluate)


def evaluate(
    session: Session,
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="A folder whose sub-folders have the people's names.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="A list of pairs: pairs.txt of LFW, or CSV of two paths and same or different. "
            "Paths are relative to FOLDER, or to the list.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    gallery: Annotated[
        str | None,
        typer.Option(help="The faces of a running server's gallery.", show_default=False),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write an HTML report: one file, with plots.", dir_okay=False, show_default=False
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="Model that embeds the images.")] = "sface",
    card: Annotated[
        list[Path] | None,
        typer.Option("--card", help="Another model card, or a folder of them; repeatable."),
    ] = None,
    face: Annotated[
        OneFace, typer.Option("--face", help="Which face of an image that shows several.")
    ] = OneFace.ONLY,
    flip: Annotated[
        bool,
        typer.Option(
            help="Average each template with that of the mirror image, as new galleries do."
        ),
    ] = defaults.FLIP_AVERAGING,
    precision: Annotated[
        PrecisionOption, typer.Option(help="Arithmetic of the model.")
    ] = PrecisionOption.FLOAT32,
    workers: Annotated[
        int | None, typer.Option(help="Embedding processes [one per core].", min=1, max=256)
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps the templates, so that a second run is quick.",
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    enrolled: Annotated[
        int, typer.Option(help="1:N: images enrolled of each person.", min=1, max=100)
    ] = 1,
    fusion: Annotated[
        Fusion | None,
        typer.Option(
            help="1:N: how several enrolled images of one person make one score; if not given, "
            f"as the gallery does, and {defaults.FUSION} for images.",
            show_default=False,
        ),
    ] = None,
    strangers: Annotated[
        float, typer.Option(help="1:N: fraction of the people held out.", min=0.01, max=0.9)
    ] = 0.33,
    splits: Annotated[
        int, typer.Option(help="1:N: random divisions of the people.", min=1, max=100)
    ] = 10,
    draws: Annotated[
        int, typer.Option(help="Repetitions for confidence intervals.", min=0, max=10_000)
    ] = 200,
    seed: Annotated[int, typer.Option(help="Of everything random.", min=0)] = 0,
) -> None:
    """Measure error rates: DET, CMC, FNIR at FPIR, and which pairs are confused.

    Give a FOLDER of people's folders, a list of --pairs, or a --gallery. Images without a
    usable face are counted and listed; nothing is enrolled or changed. Exits with 1 if there
    is nothing to measure.
    """
    if gallery is not None and (folder is not None or pairs is not None):
        raise typer.BadParameter("goes with neither FOLDER nor --pairs", param_hint="--gallery")
    if gallery is None and folder is None and pairs is None:
        raise typer.BadParameter("give a folder, --pairs or --gallery", param_hint="FOLDER")
    from visagedb_server.commands import evaluate_run as run

    request = run.Request(
        folder=folder,
        pairs=pairs,
        gallery=gallery,
        report=report,
        model=model,
        cards=tuple(card or ()),
        face=face.value,
        flip=flip,
        precision=precision.value,
        workers=workers,
        cache=cache,
        enrolled=enrolled,
        fusion=None if fusion is None else fusion.value,
        strangers=strangers,
        splits=splits,
        draws=draws,
        seed=seed,
    )
    try:
        run.run(session, request)
    except IndexerError as error:
        # The command line knows how to show the client's errors.
        raise VisageError(error.message, reason=error.reason, metadata=error.metadata) from error
