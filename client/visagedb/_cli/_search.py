"""visagedb identify and visagedb verify."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from visagedb._answers import Identification, Verification
from visagedb._cli._options import (
    FilterOption,
    GalleryArgument,
    ImageArgument,
    OneFace,
    RateOption,
    ThresholdOption,
)
from visagedb._cli._session import Session, command
from visagedb._cli._tables import (
    decision_text,
    face_text,
    facts,
    labels_text,
    listing,
    rate_text,
    threshold_text,
)
from visagedb._values import FaceSelection


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    command(app, "identify")(identify)
    command(app, "verify")(verify)


def identify(
    session: Session,
    gallery: GalleryArgument,
    image: ImageArgument,
    face: Annotated[
        FaceSelection, typer.Option("--face", help="Which faces of the image.")
    ] = FaceSelection.ALL,
    top_k: Annotated[int, typer.Option(help="Candidates per face.", min=1, max=1000)] = 5,
    label_filter: FilterOption = "",
    min_score: Annotated[float | None, typer.Option(help="Leave out lower cosines.")] = None,
    threshold: ThresholdOption = None,
    max_false_positive_rate: RateOption = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with every stored vector.")
    ] = False,
) -> None:
    """Who is this? Search a gallery for every face of an image."""
    result = session.client.identify(
        gallery,
        image=image,
        face_selection=face,
        top_k=top_k,
        filter=label_filter,
        min_score=min_score,
        threshold=threshold,
        max_false_positive_rate=max_false_positive_rate,
        exact=exact,
    )
    session.show(result, *(_identification(i, number) for number, i in enumerate(result, start=1)))


def verify(
    session: Session,
    image: ImageArgument,
    other: Annotated[
        Path | None,
        typer.Argument(help="Second image.", exists=True, dir_okay=False, show_default=False),
    ] = None,
    gallery: Annotated[str, typer.Option(help="Gives the model and the threshold.")] = "",
    identity: Annotated[
        str | None, typer.Option(help="Compare with this person of --gallery instead.")
    ] = None,
    face: Annotated[
        OneFace, typer.Option("--face", help="Which face of each image.")
    ] = OneFace.ONLY,
    threshold: ThresholdOption = None,
    max_false_positive_rate: RateOption = None,
) -> None:
    """Are these the same person? Two images, or an image and an enrolled person."""
    if (other is None) == (identity is None):
        raise typer.BadParameter("give a second image or --identity, not both")
    if identity is not None and not gallery:
        raise typer.BadParameter("--identity needs --gallery")
    result = session.client.verify(
        image,
        other,
        gallery=gallery,
        identity=identity,
        face_selection=face,
        threshold=threshold,
        max_false_positive_rate=max_false_positive_rate,
    )
    session.show(result, decision_text(result.decision), _verification(result))


def _identification(identification: Identification, number: int) -> RenderableType:
    heading = Text.assemble(
        (f"Face {number} ", "bold"),
        f"{face_text(identification.face)} ",
        decision_text(identification.decision),
    )
    table = listing("rank", "identity", "name", "score", "labels", right={"rank", "score"})
    for rank, candidate in enumerate(identification.candidates, start=1):
        matches = identification.is_match and (candidate.score >= identification.basis.threshold)
        table.add_row(
            str(rank),
            candidate.id,
            candidate.display_name,
            f"{candidate.score:.3f}",
            labels_text(candidate.labels),
            style="green" if matches else None,
        )
    table.caption = f"threshold {threshold_text(identification.basis)}"
    if identification.false_positive_probability is not None:
        chance = rate_text(identification.false_positive_probability)
        table.caption += f"; a stranger reaches the best score with probability {chance}"
    return Group(heading, table if identification.candidates else Text("  no candidates"))


def _verification(result: Verification) -> Table:
    return facts(
        {
            "score": f"{result.score:.3f}",
            "threshold": threshold_text(result.basis),
            "false match probability": rate_text(result.false_match_probability),
            "first face": face_text(result.probe_face),
            "second face": face_text(result.other_face),
            "best enrolled face": result.face,
        }
    )
