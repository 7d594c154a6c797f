"""Image bytes to upright RGB pixels, with limits checked before anything is decoded.

Formats: JPEG, PNG, WebP, BMP, TIFF, GIF, ICO, PBM, PGM, PPM; of several frames the first (of an
ICO file the largest). Orientation tags are applied. Transparent pixels are laid over white, as a
viewer shows them; where an image is transparent throughout, its alpha channel is taken for
unused. 16-bit grey is scaled to 8 bits, not clipped. Colour profiles are ignored.
"""

import io
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from visagedb_indexer import limits
from visagedb_indexer.errors import (
    OUT_OF_MEMORY,
    CorruptImageError,
    EmptyImageError,
    ImageError,
    ImageTooLargeError,
    UnsupportedImageError,
)
from visagedb_indexer.faces import netpbm

Pixels: TypeAlias = NDArray[np.uint8]
"""An upright image, shape (height, width, 3), RGB."""

_SIGNATURES: Final = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "WEBP": (b"RIFF",),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*"),
    "GIF": (b"GIF87a", b"GIF89a"),
    "ICO": (b"\0\0\1\0",),
    **netpbm.SIGNATURES,
}

FORMATS: Final = tuple(_SIGNATURES)

_ORIENTATION_TAG: Final = 0x0112
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_PILLOW_LOCK: Final = threading.Lock()


def decode(content: bytes) -> Pixels:
    """Decodes an image file.

    Returns:
        Shape (height, width, 3), uint8, RGB, upright, contiguous.

    Raises:
        EmptyImageError: There are no bytes.
        UnsupportedImageError: It is not an image in one of `FORMATS`.
        CorruptImageError: It is damaged or cut short.
        ImageTooLargeError: It has more bytes, pixels, or longer sides than `limits` allow.
    """
    if not content:
        raise EmptyImageError("the image has no bytes")
    if len(content) > limits.IMAGE_BYTES_MAX:
        raise ImageTooLargeError(
            f"the image has {len(content)} bytes; {limits.IMAGE_BYTES_MAX} are allowed"
        )
    kind = sniff(content)
    if kind is None:
        raise UnsupportedImageError(
            f"the bytes are not an image in one of the formats {', '.join(FORMATS)}"
        )
    with _pillow():
        try:
            if kind == "ICO":
                return _decode_icon(content)
            if kind in netpbm.SIGNATURES:
                return _decode_netpbm(content)
            return _decode_one(content, kind)
        except ImageError:
            raise
        except UnidentifiedImageError as error:
            raise CorruptImageError(f"the {kind} image has a damaged header") from error
        except MemoryError as error:
            raise ImageTooLargeError(
                "the image does not fit into memory", {"cause": OUT_OF_MEMORY}
            ) from error
        except Exception as error:
            raise CorruptImageError(f"the {kind} image is damaged: {error}") from error


def sniff(content: bytes) -> str | None:
    """The format that the first bytes claim; None if it is not a supported one."""
    for kind, signatures in _SIGNATURES.items():
        if content.startswith(signatures) and (kind != "WEBP" or content[8:12] == b"WEBP"):
            return kind
    return None


@contextmanager
def _pillow() -> Iterator[None]:
    """Pillow with our limits instead of its own.

    Its pixel limit and Python's warning filters are global, so decoding is serialised within
    a process; the embedding workers decode in one thread each anyway.
    """
    with _PILLOW_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _check_size(width: int, height: int) -> None:
    sides, pixels = limits.IMAGE_SIDE_PIXELS_MAX, limits.IMAGE_PIXELS_MAX
    if width < 1 or height < 1:
        raise CorruptImageError(f"the image says it has {width} x {height} pixels")
    if max(width, height) > sides or width * height > pixels:
        raise ImageTooLargeError(
            f"the image has {width} x {height} pixels; sides up to {sides} "
            f"and {pixels} pixels in all are allowed"
        )


def _decode_one(content: bytes, kind: str) -> Pixels:
    with Image.open(io.BytesIO(content), formats=[kind]) as image:
        _check_size(*image.size)
        if kind == "PNG":
            _check_png(content)
        image.load()
        return _to_array(_upright(image))


def _check_png(content: bytes) -> None:
    """Compares the checksums of all chunks; decoding alone would skip those of the pixels."""
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        image.verify()


def _decode_icon(content: bytes) -> Pixels:
    """The largest picture of an icon file.

    The sizes in the file's directory need not be those of the pictures in it, so the
    picture's own header is what the limits are held against.
    """
    (count,) = struct.unpack_from("<H", content, 4)
    entries = [struct.unpack_from("<BBBBHHII", content, 6 + 16 * index) for index in range(count)]
    if not entries:
        raise CorruptImageError("the ICO image has no pictures in it")
    best = max(entries, key=lambda entry: ((entry[0] or 256) * (entry[1] or 256), entry[5]))
    size, offset = best[6], best[7]
    picture = content[offset : offset + size]
    if len(picture) < size:
        raise CorruptImageError("the ICO image is cut short")
    if sniff(picture) == "PNG":
        return _decode_one(picture, "PNG")
    header, width, height = struct.unpack_from("<Iii", picture)
    if header < 40:
        raise CorruptImageError("the ICO image has a damaged picture header")
    _check_size(width, abs(height) // 2)
    # A file with this picture alone, so that no other one is decoded instead.
    entry = struct.pack("<BBBBHHII", *best[:6], size, 22)
    single = struct.pack("<HHH", 0, 1, 1) + entry + picture
    with Image.open(io.BytesIO(single), formats=["ICO"]) as image:
        image.load()
        return _to_array(_upright(image))


def _decode_netpbm(content: bytes) -> Pixels:
    header = netpbm.read_header(content)
    _check_size(header.width, header.height)
    return netpbm.read_pixels(content, header)


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - a damaged tag block says nothing about the pixels
        return image
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _to_array(image: Image.Image) -> Pixels:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        grey = _scaled_to_bytes(np.asarray(image), image.mode)
        return np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2))
    if image.has_transparency_data:
        image = _over_white(image.convert("RGBA"))
    pixels = np.array(image.convert("RGB"), dtype=np.uint8, order="C")
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise UnsupportedImageError(f"images of mode {image.mode} are not supported")
    return pixels


def _scaled_to_bytes(values: NDArray[Any], mode: str) -> Pixels:
    """Grey values of more than 8 bits, scaled so that the whole range is kept.

    16-bit values keep their meaning (65,535 is white). Wider integers and floats have no
    agreed white: 0 to 1 and 0 to 65,535 are recognised, anything else uses its own range.
    """
    real = values.astype(np.float64)
    if not np.isfinite(real).all():
        raise CorruptImageError("the image has pixels that are not numbers")
    low, high = float(real.min()), float(real.max())
    if mode.startswith("I;16") or (mode == "I" and low >= 0 and high <= 65535):
        low, high = 0.0, 65535.0
    elif mode == "F" and low >= 0.0 and high <= 1.0:
        low, high = 0.0, 1.0
    span = high - low
    scaled = (real - low) * (255.0 / span) if span > 0 else np.zeros_like(real)
    return np.rint(scaled).astype(np.uint8)


def _over_white(image: Image.Image) -> Image.Image:
    _, most_opaque = image.getchannel("A").getextrema()
    if not most_opaque:
        return image
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image)
