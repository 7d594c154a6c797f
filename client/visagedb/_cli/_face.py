"""visagedb face detect and visagedb face embed."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from visagedb._answers import DetectResult
from visagedb._cli._options import ImageArgument
from visagedb._cli._plugins import not_installed
from visagedb._cli._session import Session, command
from visagedb._cli._tables import box_text, counted, face_text
from visagedb._values import DetectedFace

app = typer.Typer(name="face", help="Look at the faces of an image.", no_args_is_help=True)


@command(app, "detect")
def detect(
    session: Session,
    image: ImageArgument,
    output: Annotated[
        Path | None, typer.Option(help="Write a copy with boxes, points and quality drawn in.")
    ] = None,
) -> None:
    """Find the faces of an image."""
    result = session.client.detect(image)
    if output is not None:
        _annotate(image, result, output)
    session.show(result, _table(result))


@command(app, "embed")
def embed(
    session: Session,
    image: ImageArgument,
    gallery: Annotated[str, typer.Option(help="Use this gallery's model and options.")] = "",
    output: Annotated[
        Path | None, typer.Option(help="Write the vectors to this .npy file, one row per face.")
    ] = None,
) -> None:
    """Make vectors of the faces of an image; nothing is stored."""
    result = session.client.embed(image, gallery)
    if output is not None:
        rows = [face.template.vector for face in result]
        matrix = np.stack(rows) if rows else np.empty((0, result.model.dimension), np.float32)
        np.save(output, matrix)
    table = Table("face", "found", "vector")
    for number, face in enumerate(result, start=1):
        values = " ".join(f"{value:+.3f}" for value in face.template.vector[:4])
        table.add_row(str(number), face_text(face.face), f"{values} ...")
    model = result.model
    table.caption = f"{model.name}@{model.version}, {model.dimension}-d"
    session.show(result, table)


def _table(result: DetectResult) -> Table:
    table = Table("face", "box", "confidence", "quality", "remarks")
    for number, face in enumerate(result, start=1):
        quality = face.quality
        table.add_row(
            str(number),
            box_text(face),
            f"{face.detection_score:.2f}",
            "" if quality is None else f"{quality.score:.2f}",
            "" if quality is None else ", ".join(quality.reasons),
        )
    faces = counted(len(result), "face", "faces")
    table.caption = f"{faces} in {result.image_width}x{result.image_height} pixels"
    return table


def _annotate(image: Path, result: DetectResult, output: Path) -> None:
    try:
        from visagedb.drawing import annotate
    except ImportError as error:
        raise typer.Exit(not_installed("--output", str(error))) from error
    annotate(image, [(face, _caption(face)) for face in result], output)


def _caption(face: DetectedFace) -> str:
    return "" if face.quality is None else f"{face.quality.score:.2f}"
