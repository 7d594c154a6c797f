"""PBM, PGM and PPM, the formats of Netpbm: plain (P1 to P3) and binary (P4 to P6).

Read here because Pillow reads plain files, and colours of 16 bits, number by number, and takes
comments out one at a time: a megabyte of nothing but comments keeps it busy for seconds.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.errors import CorruptImageError

_SPACE: Final = b" \t\n\v\f\r"
_KINDS: Final = {1: "PBM", 2: "PGM", 3: "PPM", 4: "PBM", 5: "PGM", 6: "PPM"}
SIGNATURES: Final = {
    kind: tuple(
        b"P%d%c" % (number, after)
        for number, of_kind in _KINDS.items()
        if of_kind == kind
        for after in _SPACE + b"#"
    )
    for kind in ("PBM", "PGM", "PPM")
}
"""How files of each kind begin."""

_HEADER_BYTES_MAX: Final = 65_536
_SAMPLE_MAX: Final = 65_535
_GAP: Final = rb"(?:[ \t\n\v\f\r]|#[^\r\n]*[\r\n])+"
_TWO_NUMBERS: Final = re.compile(rb"P([14])" + 2 * (_GAP + rb"(\d{1,9})"))
_THREE_NUMBERS: Final = re.compile(rb"P([2356])" + 3 * (_GAP + rb"(\d{1,9})"))
_COMMENT: Final = re.compile(rb"#[^\r\n]*")


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself.

    Attributes:
        number: 1 to 6, as in P1 to P6.
        width: In pixels, and not checked, as the next.
        height: In pixels.
        largest: The sample that is white, 1 to 65,535.
        offset: Where the samples begin.
    """

    number: int
    width: int
    height: int
    largest: int
    offset: int

    @property
    def bands(self) -> int:
        """Samples of a pixel."""
        return 3 if _KINDS[self.number] == "PPM" else 1


def read_header(content: bytes) -> Header:
    """Reads the numbers before the samples.

    Raises:
        CorruptImageError: They are missing or wrong.
    """
    start = content[:_HEADER_BYTES_MAX]
    found = _TWO_NUMBERS.match(start) or _THREE_NUMBERS.match(start)
    if found is None:
        raise CorruptImageError("the image of the Netpbm formats has a damaged header")
    number, width, height, *rest = (int(group) for group in found.groups())
    largest = rest[0] if rest else 1
    if not 1 <= largest <= _SAMPLE_MAX:
        raise CorruptImageError(f"the image's largest sample is {largest}, not 1 to {_SAMPLE_MAX}")
    # One character of white space ends the header.
    return Header(number, width, height, largest, found.end() + 1)


def read_pixels(content: bytes, header: Header) -> NDArray[np.uint8]:
    """Reads the samples, scaled to 0 to 255; what follows the first image is not read.

    Args:
        content: The file.
        header: Of it; its size is within what is allowed.

    Returns:
        Shape (height, width, 3).

    Raises:
        CorruptImageError: Samples are missing, or are none.
    """
    count = header.width * header.height * header.bands
    if header.number == 4:
        samples = _packed_bits(content, header)
    elif header.number in (5, 6):
        kind = np.dtype("u1") if header.largest < 256 else np.dtype(">u2")
        samples = _raw(content, header.offset, count, kind)
    else:
        text = _COMMENT.sub(b" ", content[header.offset :])
        samples = _plain_bits(text, count) if header.number == 1 else _plain_numbers(text, count)
    if int(samples.max()) > header.largest:
        raise CorruptImageError(f"the image has samples above its largest, {header.largest}")
    grey = np.rint(np.arange(header.largest + 1) * (255 / header.largest)).astype(np.uint8)
    if _KINDS[header.number] == "PBM":
        # In bitmaps 1 is black.
        grey = grey[::-1]
    pixels = grey[samples].reshape(header.height, header.width, header.bands)
    return np.ascontiguousarray(np.broadcast_to(pixels, (header.height, header.width, 3)))


def _raw(content: bytes, offset: int, count: int, kind: np.dtype[Any]) -> NDArray[Any]:
    if len(content) - offset < count * kind.itemsize:
        raise _cut_short()
    return np.frombuffer(content, kind, count, offset)


def _packed_bits(content: bytes, header: Header) -> NDArray[Any]:
    """Eight pixels to the byte; every row begins with a byte of its own."""
    row_bytes = -(-header.width // 8)
    packed = _raw(content, header.offset, row_bytes * header.height, np.dtype("u1"))
    bits = np.unpackbits(packed.reshape(header.height, row_bytes), axis=1, count=header.width)
    return bits.ravel()


def _plain_bits(text: bytes, count: int) -> NDArray[Any]:
    """Digits 0 and 1, with or without white space between them."""
    digits = text.translate(None, _SPACE)
    if digits.translate(None, b"01"):
        raise CorruptImageError("the image has something other than samples among its samples")
    return _raw(digits, 0, count, np.dtype("u1")) - ord("0")


def _plain_numbers(text: bytes, count: int) -> NDArray[Any]:
    if text.translate(None, _SPACE + b"0123456789"):
        raise CorruptImageError("the image has something other than samples among its samples")
    if len(text) < 2 * count - 1:
        raise _cut_short()
    samples = np.fromstring(text.decode("ascii"), dtype=np.int64, sep=" ")
    if len(samples) < count:
        raise _cut_short()
    return samples[:count]


def _cut_short() -> CorruptImageError:
    return CorruptImageError("the image is cut short: samples are missing")
