"""A small picture of a face, for people to look at."""

import io
from typing import Final

from PIL import Image

from visagedb_indexer.faces.decode import decode
from visagedb_indexer.values import Box

MARGIN: Final = 0.35
"""Shown around the box, as a fraction of its longer side."""
_JPEG_QUALITY: Final = 82


def thumbnail(content: bytes, box: Box | None, side: int) -> bytes:
    """The face and a little around it, as a square JPEG.

    Args:
        content: The encoded image.
        box: Where the face is; None for the whole image.
        side: Of the picture in pixels; what lies outside the image stays black.

    Raises:
        ImageError: The image cannot be decoded.
    """
    pixels = decode(content)
    height, width = pixels.shape[:2]
    if box is None:
        box = Box(0, 0, width, height)
    reach = max(box.width, box.height) * (0.5 + (0 if box.width == width else MARGIN))
    middle_x, middle_y = box.x + box.width / 2, box.y + box.height / 2
    frame = (middle_x - reach, middle_y - reach, middle_x + reach, middle_y + reach)
    picture = Image.fromarray(pixels).transform(
        (side, side), Image.Transform.EXTENT, frame, Image.Resampling.BILINEAR
    )
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_JPEG_QUALITY)
    return stream.getvalue()
