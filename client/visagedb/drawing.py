"""Draws faces into a picture.

The only module of the client that needs Pillow, so it is imported by its own name.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont, ImageOps

from visagedb._values import DetectedFace

COLOUR: Final = (46, 204, 113)
TEXT_COLOUR: Final = (0, 0, 0)
LINE_PIXELS_MAX: Final = 5
TEXT_PIXELS_MIN, TEXT_PIXELS_MAX = 11.0, 26.0


def annotate(
    image: Path | bytes,
    faces: Sequence[tuple[DetectedFace, str]],
    output: Path,
    colours: Sequence[tuple[int, int, int]] = (),
) -> None:
    """Writes a copy of an image with a box, five points and a caption for each face.

    Args:
        image: The image that the faces were found in.
        faces: Each face with its caption; an empty caption is left out.
        output: Where to write; the suffix gives the format.
        colours: RGB for each face; green where there are fewer.

    Raises:
        OSError: The image cannot be read or the copy not written.
    """
    content = image if isinstance(image, bytes) else image.read_bytes()
    with Image.open(io.BytesIO(content)) as opened:
        # Positions are those of the upright image, as the server sees it.
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for number, (face, caption) in enumerate(faces):
        colour = colours[number] if number < len(colours) else COLOUR
        _draw_face(draw, face, colour)
        if caption:
            _draw_caption(draw, face, caption, colour, picture.width)
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        picture.save(output)
    except ValueError as error:
        raise OSError(f"cannot write {output}: {error}") from error


def _draw_face(draw: ImageDraw.ImageDraw, face: DetectedFace, colour: tuple[int, int, int]) -> None:
    box = face.box
    line = min(max(2, round(box.height / 60)), LINE_PIXELS_MAX)
    draw.rectangle((box.x, box.y, box.x + box.width, box.y + box.height), None, colour, line)
    if face.landmarks is not None:
        radius = min(max(1.5, box.height / 60), float(LINE_PIXELS_MAX))
        for point in face.landmarks.points:
            draw.ellipse(
                (point.x - radius, point.y - radius, point.x + radius, point.y + radius), colour
            )


def _draw_caption(
    draw: ImageDraw.ImageDraw,
    face: DetectedFace,
    caption: str,
    colour: tuple[int, int, int],
    picture_width: int,
) -> None:
    font = ImageFont.load_default(
        size=min(max(TEXT_PIXELS_MIN, face.box.height / 7), TEXT_PIXELS_MAX)
    )
    left, top, right, bottom = draw.textbbox((0, 0), caption, font=font)
    width, height = right - left + 8, bottom - top + 8
    # Above the box, or inside it where the picture ends.
    y = face.box.y - height if face.box.y >= height else max(0.0, face.box.y)
    x = max(0.0, min(face.box.x, picture_width - width))
    draw.rectangle((x, y, x + width, y + height), colour)
    draw.text((x + 4 - left, y + 4 - top), caption, TEXT_COLOUR, font=font)
