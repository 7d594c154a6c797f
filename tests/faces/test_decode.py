import io
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from visagedb_indexer import limits
from visagedb_indexer.errors import (
    CorruptImageError,
    EmptyImageError,
    ImageError,
    ImageTooLargeError,
    UnsupportedImageError,
)
from visagedb_indexer.faces.decode import FORMATS, decode
from visagedb_indexer.faces.pipeline import FacePipeline
from visagedb_indexer.values import Extraction

FORMAT_NAMES = ("bmp", "gif", "ico", "jpeg", "png", "tiff", "webp")


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    if kind in ("PBM", "PGM"):
        image = image.convert("1" if kind == "PBM" else "L")
    image.save(stream, "PPM" if kind in ("PBM", "PGM") else kind, **options)
    return stream.getvalue()


def ramp(width: int = 40, height: int = 30) -> np.ndarray:
    """Each pixel differs from its neighbours, so that a wrong turn shows."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 6, y * 8, (x + y) * 3], axis=2).astype(np.uint8)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has next to nothing in it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_every_format_gives_the_same_face(
    name: str, shared_faces: Path, pipeline: FacePipeline
) -> None:
    folder = shared_faces / "formats"
    files = [(folder / f"einstein.{end}").read_bytes() for end in ("png", name)]
    expected, found = pipeline.extract(files)
    assert isinstance(expected, Extraction)
    assert isinstance(found, Extraction)
    assert len(expected.faces) == len(found.faces) == 1
    assert float(expected.faces[0].vector @ found.faces[0].vector) >= 0.98


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "PPM"])
def test_lossless_formats_give_the_exact_pixels(kind: str) -> None:
    pixels = ramp()
    options = {"lossless": True} if kind == "WEBP" else {}
    found = decode(encode(Image.fromarray(pixels), kind, **options))
    assert np.array_equal(found, pixels)
    assert found.flags.c_contiguous


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation: int) -> None:
    pixels = ramp()
    turned = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: np.rot90(pixels, 2).transpose(1, 0, 2),
        8: np.rot90(pixels, 1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("PNG", "TIFF"):
        content = encode(Image.fromarray(pixels), kind, exif=exif)
        assert np.array_equal(decode(content), turned[orientation]), kind


def test_damaged_orientation_is_ignored() -> None:
    content = encode(Image.fromarray(ramp()), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(content).shape == (30, 40, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    kind = "PNG" if mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else "TIFF"
    if mode == "I;16":
        image = Image.fromarray(ramp()[:, :, 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(ramp()).convert(mode)
    found = decode(encode(image, kind))
    assert found.shape == (30, 40, 3)
    assert found.dtype == np.uint8
    assert found.max() > found.min()


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 1200).reshape(30, 40).astype(np.uint16)
    found = decode(encode(Image.fromarray(values)))
    assert np.abs(found[:, :, 0] - values / 257).max() <= 0.5
    assert np.array_equal(found[:, :, 0], found[:, :, 2])


def test_cmyk_jpeg_keeps_its_colours() -> None:
    pixels = np.zeros((32, 32, 3), dtype=np.uint8)
    pixels[:, :16] = (200, 30, 30)
    content = encode(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=95)
    found = decode(content).astype(int)
    assert np.abs(found[16, 4] - (200, 30, 30)).max() < 25
    assert found[16, 28].max() < 25


def test_transparent_pixels_lie_over_white() -> None:
    pixels = np.zeros((8, 8, 4), dtype=np.uint8)
    pixels[:4, :, 3] = 255
    found = decode(encode(Image.fromarray(pixels)))
    assert found[0, 0].tolist() == [0, 0, 0]
    assert found[7, 7].tolist() == [255, 255, 255]


def test_unused_alpha_channel_is_ignored() -> None:
    pixels = np.dstack([ramp(), np.zeros((30, 40), dtype=np.uint8)])
    assert np.array_equal(decode(encode(Image.fromarray(pixels))), ramp())


def test_first_frame_of_an_animation() -> None:
    first, second = Image.new("RGB", (20, 20), (255, 0, 0)), Image.new("RGB", (20, 20))
    content = encode(first, "GIF", save_all=True, append_images=[second])
    assert decode(content)[5, 5].tolist() == [255, 0, 0]


def test_largest_picture_of_an_icon() -> None:
    image = Image.fromarray(ramp(64, 64))
    for bitmap in ("png", "bmp"):
        content = encode(image, "ICO", sizes=[(16, 16), (64, 64)], bitmap_format=bitmap)
        assert np.array_equal(decode(content), ramp(64, 64)), bitmap


def test_one_pixel() -> None:
    assert decode(encode(Image.new("RGB", (1, 1)))).shape == (1, 1, 3)


def test_broken_files(shared_faces: Path) -> None:
    found = {}
    for path in sorted((shared_faces / "broken").iterdir()):
        with pytest.raises(ImageError) as caught:
            decode(path.read_bytes())
        found[path.name] = caught.type
    assert found == {
        "corrupted.png": CorruptImageError,
        "empty.png": UnsupportedImageError,
        "truncated.jpg": CorruptImageError,
    }


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_cut_short_is_refused(kind: str) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    content = encode(Image.fromarray(noise), kind)
    for share in (0.1, 0.5, 0.8):
        with pytest.raises(CorruptImageError):
            decode(content[: int(len(content) * share)])


def test_damaged_pixels_of_a_png_are_noticed() -> None:
    content = bytearray(encode(Image.fromarray(ramp())))
    content[content.index(b"IDAT") + 60] ^= 0xFF
    with pytest.raises(CorruptImageError):
        decode(bytes(content))


def test_empty_and_foreign_bytes() -> None:
    with pytest.raises(EmptyImageError):
        decode(b"")
    for content in (b"hello", b"%PDF-1.7", b"\0" * 100, b"RIFF\0\0\0\0WAVEfmt ", b"P7\n", b"P65 1"):
        with pytest.raises(UnsupportedImageError):
            decode(content)


@pytest.mark.parametrize("size", [(30_000, 30_000), (20_001, 10), (15_000, 15_000)])
def test_bombs_are_refused_by_their_headers(size: tuple[int, int]) -> None:
    with pytest.raises(ImageTooLargeError):
        decode(png_header(*size))
    with pytest.raises(ImageTooLargeError):
        decode(_icon(png_header(*size)))


def _icon(picture: bytes) -> bytes:
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(picture), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + picture


def test_icon_with_a_bitmap_of_another_size() -> None:
    header = struct.pack("<IiiHHIIiiII", 40, 30_000, 60_000, 1, 32, 0, 0, 0, 0, 0, 0)
    with pytest.raises(ImageTooLargeError):
        decode(_icon(header + b"\0" * 100))


def test_too_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encode(Image.fromarray(ramp()))
    monkeypatch.setattr(limits, "IMAGE_BYTES_MAX", len(content) - 1)
    with pytest.raises(ImageTooLargeError):
        decode(content)


def test_pillow_is_left_as_it_was() -> None:
    before = Image.MAX_IMAGE_PIXELS
    content = encode(Image.fromarray(ramp()))
    threads = [threading.Thread(target=decode, args=(content,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == Image.MAX_IMAGE_PIXELS


SIGNATURES = [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBPVP8 ", b"BM", b"II*\0"]
SIGNATURES += [b"MM\0*", b"GIF89a", b"\0\0\1\0\1\0", b"", b"P1 2 2 ", b"P2 2 2 300 ", b"P6 "]


@given(st.sampled_from(SIGNATURES), st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_garbage_gives_pixels_or_a_typed_error(signature: bytes, rest: bytes) -> None:
    try:
        pixels = decode(signature + rest)
    except ImageError:
        return
    assert pixels.ndim == 3


@given(
    st.sampled_from(FORMATS),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
)
@settings(max_examples=200, deadline=None)
def test_damaged_files_give_pixels_or_a_typed_error(
    kind: str, damage: list[tuple[float, int]]
) -> None:
    content = bytearray(encode(Image.fromarray(ramp()), kind))
    for place, value in damage:
        content[int(place * (len(content) - 1))] = value
    try:
        pixels = decode(bytes(content))
    except ImageError:
        return
    assert pixels.ndim == 3
