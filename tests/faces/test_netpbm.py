"""PBM, PGM and PPM: plain and binary, of 8 and 16 bits, damaged and hostile."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from visagedb_indexer import limits
from visagedb_indexer.errors import CorruptImageError, ImageTooLargeError
from visagedb_indexer.faces.decode import decode, sniff

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 23
COLOURS = np.arange(36, dtype=np.uint8).reshape(3, 4, 3) * 7
BITS = np.random.default_rng(3).random((5, 11)) < 0.5


def in_three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[:, :, None], 3, axis=2)


def plain(number: int, size: str, samples: np.ndarray) -> bytes:
    return f"P{number}\n{size}\n{' '.join(map(str, samples.ravel().tolist()))}\n".encode()


def test_binary_and_plain_files_have_the_same_pixels() -> None:
    binary = b"P5\n4 3\n255\n" + GREY.tobytes()
    assert sniff(binary) == "PGM"
    np.testing.assert_array_equal(decode(binary), in_three(GREY))
    np.testing.assert_array_equal(decode(plain(2, "4 3 255", GREY)), in_three(GREY))
    binary = b"P6\n4 3\n255\n" + COLOURS.tobytes()
    assert sniff(binary) == "PPM"
    np.testing.assert_array_equal(decode(binary), COLOURS)
    np.testing.assert_array_equal(decode(plain(3, "4 3 255", COLOURS)), COLOURS)


def test_bitmaps_have_black_ones() -> None:
    expected = in_three(np.where(BITS, 0, 255))
    binary = b"P4\n11 5\n" + np.packbits(BITS, axis=1).tobytes()
    assert sniff(binary) == "PBM"
    np.testing.assert_array_equal(decode(binary), expected)
    spaced = plain(1, "11 5", BITS.astype(int))
    np.testing.assert_array_equal(decode(spaced), expected)
    # The digits of a plain bitmap need no space between them.
    tight = b"P1\n11 5\n" + re.sub(rb"\s", b"", spaced[8:])
    np.testing.assert_array_equal(decode(tight), expected)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "I;16"])
def test_what_pillow_writes(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(GREY.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(COLOURS).convert(mode)
    stream = io.BytesIO()
    image.save(stream, "PPM")
    png = io.BytesIO()
    image.save(png, "PNG")
    np.testing.assert_array_equal(decode(stream.getvalue()), decode(png.getvalue()))


@pytest.mark.parametrize("largest", [1, 100, 256, 4095, 65535])
def test_samples_are_scaled_by_the_largest(largest: int) -> None:
    samples = np.linspace(0, largest, 36).astype(int).reshape(3, 4, 3)
    expected = np.rint(samples * (255 / largest))
    raw = samples.astype("u1" if largest < 256 else ">u2").tobytes()
    np.testing.assert_array_equal(decode(b"P6 4 3 %d\n" % largest + raw), expected)
    np.testing.assert_array_equal(decode(plain(3, f"4 3 {largest}", samples)), expected)
    grey, expected = samples[:, :, 0], in_three(expected[:, :, 0])
    raw = grey.astype("u1" if largest < 256 else ">u2").tobytes()
    np.testing.assert_array_equal(decode(b"P5 4 3 %d\n" % largest + raw), expected)


def test_comments_are_passed_over() -> None:
    header = b"P5# made by hand\n4 # wide\r\n#\n3\n# white:\n255\n"
    np.testing.assert_array_equal(decode(header + GREY.tobytes()), in_three(GREY))
    text = plain(2, "4 3 255", GREY).replace(b" 23 ", b" 23 # 99 a comment\n")
    np.testing.assert_array_equal(decode(text), in_three(GREY))


def test_the_first_of_several_images_counts() -> None:
    one = b"P5 4 3 255\n" + GREY.tobytes()
    np.testing.assert_array_equal(decode(one + one), in_three(GREY))


@pytest.mark.parametrize(
    "content",
    [
        b"P5 ",
        b"P5 4 3\n",
        b"P5 4 x 255\n" + bytes(12),
        b"P5 -4 3 255\n" + bytes(12),
        b"P5 0 3 255\n" + bytes(12),
        b"P5 4 3 0\n" + bytes(12),
        b"P5 4 3 65536\n" + bytes(24),
        b"P5 4 3 255\n" + bytes(11),
        b"P5 4 3 65535\n" + bytes(23),
        b"P6 4 3 255\n" + bytes(35),
        b"P4 9 3\n" + bytes(5),
        b"P1 2 2 1 0 1",
        b"P1 2 2 1 0 1 2",
        b"P2 2 2 255 1 2 3",
        b"P2 2 2 255 1 2 3 256",
        b"P2 2 2 255 1 2 3 -4",
        b"P2 2 2 255 1 2 3 99999999999999999999999",
        b"P2 2 2 255 1 2 3.5 4",
        b"P3 1 1 255 1 2",
        b"P5 4 3 100\n" + bytes([101] * 12),
        b"P5 " + b"#\n" * 40_000 + b"4 3 255\n" + bytes(12),
        b"P5 " + b"1" * 1000 + b" 3 255\n" + bytes(12),
    ],
)
def test_damaged_files_are_refused(content: bytes) -> None:
    with pytest.raises(CorruptImageError):
        decode(content)


@pytest.mark.parametrize("number", range(1, 7))
@pytest.mark.parametrize("size", ["30000 30000", "20001 10", "15000 15000", "999999999 999999999"])
def test_bombs_are_refused_by_their_headers(number: int, size: str) -> None:
    with pytest.raises(ImageTooLargeError):
        decode(f"P{number}\n{size}\n255\n0".encode())


def test_a_large_size_with_next_to_nothing_in_it_takes_no_memory() -> None:
    side = int(limits.IMAGE_PIXELS_MAX**0.5)
    for number in range(1, 7):
        with pytest.raises(CorruptImageError, match="missing"):
            decode(f"P{number}\n{side} {side}\n1\n0 ".encode())
