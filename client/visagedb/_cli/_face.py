"""visagedb face detect and visagedb face embed."""

from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from visagedb._answers import DetectResult
from visagedb._cli._options import FilterOption, GalleryArgument, ImageArgument, OneFace
from visagedb._cli._plugins import not_installed
from visagedb._cli._session import Session, command
from visagedb._cli._tables import box_text, counted, face_text, listing, when
from visagedb._values import DetectedFace, FaceScope

app = typer.Typer(
    name="face", help="Look at the faces of an image or a gallery.", no_args_is_help=True
)


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


@command(app, "find")
def find(
    session: Session,
    gallery: GalleryArgument,
    image: ImageArgument,
    face: Annotated[
        OneFace, typer.Option("--face", help="Which face of an image that shows several.")
    ] = OneFace.ONLY,
    scope: Annotated[FaceScope | None, typer.Option(help="Which faces; all if not given.")] = None,
    top_k: Annotated[int, typer.Option(help="How many faces.", min=1, max=1000)] = 10,
    min_score: Annotated[float | None, typer.Option(help="Least cosine.")] = None,
    label_filter: FilterOption = "",
) -> None:
    """Find the stored faces that are like one, loose ones included; nothing is decided."""
    found = session.client.find_faces(
        gallery,
        image=image,
        face_selection=face,
        scope=scope,
        top_k=top_k,
        min_score=min_score,
        filter=label_filter,
    )
    table = listing("face", "identity", "score", "source", right={"score"})
    for one in found:
        table.add_row(one.name, one.identity, f"{one.score:.3f}", one.source)
    session.show({"faces": found}, table)


@command(app, "loose")
def loose(
    session: Session,
    gallery: GalleryArgument,
    limit: Annotated[int, typer.Option(help="At most this many; 0 for all.", min=0)] = 100,
) -> None:
    """List the faces that belong to nobody, in the order of enrolment."""
    faces = list(islice(session.client.list_faces(gallery), limit or None))
    table = listing("face", "source", "found", "enrolled")
    for one in faces:
        table.add_row(one.id, one.source, face_text(one.detection), when(one.create_time))
    session.show({"faces": faces}, table)


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
