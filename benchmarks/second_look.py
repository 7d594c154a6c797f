"""What the second look at doubtful faces costs: faces found without it, and kept with it.

    python benchmarks/second_look.py FOLDER [--images 120]

FOLDER is a tree of portraits. Each is shown as it is and made worse in several ways; the largest
face counts. A face that is found without the second look and not with it was dropped by it.
"""

import argparse
import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import write_results
from PIL import Image, ImageFilter
from rich.console import Console
from rich.table import Table

from visagedb_indexer.faces.decode import Pixels, decode
from visagedb_indexer.faces.detect import Detector
from visagedb_indexer.faces.registry import ModelRegistry

SEED = 1
console = Console()


def pasted(image: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    """The image with a grey rectangle, given in fractions of its size."""
    copy = image.copy()
    width, height = image.size
    left, top, right, bottom = box
    copy.paste(
        (128, 128, 128),
        (int(left * width), int(top * height), int(right * width), int(bottom * height)),
    )
    return copy


def noisy(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(SEED).normal(0, 40, (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda image: image,
    "blurred, 5 pixels": lambda image: image.filter(ImageFilter.GaussianBlur(5)),
    "a fifth of the size": lambda image: image.resize((image.width // 5, image.height // 5)),
    "turned by 30 degrees": lambda image: image.rotate(30, Image.Resampling.BILINEAR),
    "turned by 60 degrees": lambda image: image.rotate(60, Image.Resampling.BILINEAR),
    "lower part hidden": lambda image: pasted(image, (0, 0.55, 1, 1)),
    "one side hidden": lambda image: pasted(image, (0, 0, 0.5, 1)),
    "dark": lambda image: image.point(lambda value: value * 0.12),
    "strong noise": noisy,
}


def found(detector: Detector, pictures: list[Pixels]) -> int:
    return sum(bool(detector.detect([picture])[0]) for picture in pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=120)
    arguments = parser.parse_args()
    paths = sorted(arguments.folder.rglob("*.jpg"))
    paths = random.Random(SEED).sample(paths, min(arguments.images, len(paths)))
    portraits = [Image.fromarray(decode(path.read_bytes())) for path in paths]
    card = ModelRegistry().get("yunet")
    assert card.detector is not None
    never_doubtful = dataclasses.replace(card.detector, certain_score=0.0)
    without = Detector(dataclasses.replace(card, detector=never_doubtful))
    with_it = Detector(card)
    table = Table("portraits", "found without", "kept with", title=f"{len(portraits)} images")
    figures = {}
    for name, change in CHANGES.items():
        pictures = [np.array(change(portrait)) for portrait in portraits]
        before, after = found(without, pictures), found(with_it, pictures)
        table.add_row(name, str(before), str(after))
        figures[name] = {"without": before, "with": after}
    console.print(table)
    console.print(f"written to {write_results('second_look', figures)}")


if __name__ == "__main__":
    main()
