"""Contact sheets: the faces of people, cut out of their photographs, person by person.

Needs Pillow, so it is imported by its own name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from visagedb._values import Box

FACES_PER_PERSON: Final = 10
PEOPLE_PER_SHEET: Final = 12
_TILE, _GAP, _MARGIN, _CAPTION = 112, 10, 36, 196
_ROUNDING: Final = 10
_CONTEXT: Final = 1.5
"""Side of a cut-out in longer sides of the face's box."""
_OVERSAMPLING: Final = 4
_PAPER, _INK, _FAINT, _LINE = (250, 249, 246), (33, 37, 41), (134, 142, 150), (233, 231, 225)
_BLANK: Final = (236, 234, 229)


@dataclass(frozen=True, slots=True)
class SheetFace:
    """A face in a photograph; without a box the whole photograph stands for it."""

    photo: Path
    box: Box | None


@dataclass(frozen=True, slots=True)
class SheetPerson:
    """A person on a sheet.

    Attributes:
        title: The name.
        remarks: Lines under it, in smaller letters.
        faces: The most typical first. Where there are more than fit, evenly many of all
            degrees are shown: who does not belong is among the last.
    """

    title: str
    remarks: tuple[str, ...]
    faces: tuple[SheetFace, ...]


def write_sheets(
    people: Sequence[SheetPerson],
    folder: Path,
    name: str = "people",
    advance: Callable[[], None] = lambda: None,
) -> list[Path]:
    """Writes the people to PNG files, some to each; returns the files.

    Args:
        people: In the order in which they are shown.
        folder: Where to write; made if missing.
        name: What the files' names begin with.
        advance: Called after each person.

    Raises:
        OSError: A file cannot be written. A photograph that cannot be read is left blank.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    digits = len(str(-(-len(people) // PEOPLE_PER_SHEET)))
    for start in range(0, len(people), PEOPLE_PER_SHEET):
        part = people[start : start + PEOPLE_PER_SHEET]
        path = folder / f"{name}-{start // PEOPLE_PER_SHEET + 1:0{digits}}.png"
        _sheet(part, advance).save(path, optimize=True)
        written.append(path)
    return written


def shown_faces(count: int, most: int = FACES_PER_PERSON) -> list[int]:
    """Which of so many faces are shown: the first, the last, and evenly many between them."""
    if count <= most:
        return list(range(count))
    return [int(place) for place in np.linspace(0, count - 1, most).round()]


def cut_out(photo: Image.Image, box: Box | None, side: int) -> Image.Image:
    """A face with some of its surroundings, as a square of `side` pixels."""
    if box is None:
        return ImageOps.fit(photo, (side, side), Image.Resampling.LANCZOS)
    reach = max(box.width, box.height, 1.0) * _CONTEXT / 2
    x, y = box.x + box.width / 2, box.y + box.height / 2
    # At the edge of the photograph less of the surroundings: the face stays in the middle.
    room = min(x, y, photo.width - x, photo.height - y)
    reach = max(min(reach, room), min(reach, max(box.width, box.height) / 2))
    x = min(max(x, reach), max(photo.width - reach, photo.width / 2))
    y = min(max(y, reach), max(photo.height - reach, photo.height / 2))
    corners = (x - reach, y - reach, x + reach, y + reach)
    edges = tuple(round(value) for value in corners)
    inside = (
        max(edges[0], 0),
        max(edges[1], 0),
        min(edges[2], photo.width),
        min(edges[3], photo.height),
    )
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        return Image.new("RGB", (side, side), _BLANK)
    return ImageOps.fit(photo.crop(inside), (side, side), Image.Resampling.LANCZOS)


def _sheet(people: Sequence[SheetPerson], advance: Callable[[], None]) -> Image.Image:
    most = max((min(len(person.faces), FACES_PER_PERSON) for person in people), default=1)
    row = _TILE + 2 * _GAP
    width = 2 * _MARGIN + _CAPTION + most * (_TILE + _GAP) - _GAP
    sheet = Image.new("RGB", (width, 2 * _MARGIN - _GAP + len(people) * row), _PAPER)
    draw = ImageDraw.Draw(sheet)
    mask = _rounded()
    for place, person in enumerate(people):
        top = _MARGIN - _GAP + place * row
        if place:
            draw.line((_MARGIN, top, width - _MARGIN, top), _LINE)
        _caption(draw, person, top + _GAP)
        for column, number in enumerate(shown_faces(len(person.faces))):
            tile = _tile(person.faces[number])
            sheet.paste(tile, (_MARGIN + _CAPTION + column * (_TILE + _GAP), top + _GAP), mask)
        advance()
    return sheet


def _tile(face: SheetFace) -> Image.Image:
    try:
        with Image.open(face.photo) as opened:
            upright = ImageOps.exif_transpose(opened)
            return cut_out(upright.convert("RGB"), face.box, _TILE)
    except (OSError, ValueError, Image.DecompressionBombError):
        return Image.new("RGB", (_TILE, _TILE), _BLANK)


def _caption(draw: ImageDraw.ImageDraw, person: SheetPerson, top: int) -> None:
    title, small = ImageFont.load_default(size=18), ImageFont.load_default(size=13)
    draw.text((_MARGIN, top + 18), _fitting(draw, person.title, title), _INK, font=title)
    for line, remark in enumerate(person.remarks):
        text = _fitting(draw, remark, small)
        draw.text((_MARGIN, top + 46 + 19 * line), text, _FAINT, font=small)


def _fitting(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """The text, cut where the caption's column ends."""
    room = _CAPTION - 2 * _GAP
    if draw.textlength(text, font) <= room:
        return text
    while text and draw.textlength(text + "...", font) > room:
        text = text[:-1]
    return text + "..."


def _rounded() -> Image.Image:
    """A mask with rounded corners, drawn large so that they come out smooth."""
    side = _TILE * _OVERSAMPLING
    mask = Image.new("L", (side, side), 0)
    ImageDraw.Draw(mask).rounded_rectangle(
        (0, 0, side - 1, side - 1), _ROUNDING * _OVERSAMPLING, 255
    )
    return mask.resize((_TILE, _TILE), Image.Resampling.LANCZOS)
