"""Lists of pairs of images, each with the word whether they show one person.

Two formats are read. The one of Labelled Faces in the Wild: a first line with the number of
folds and of pairs of each kind in a fold (or with the number of pairs of each kind alone), then
lines ``name number number`` or ``name number name number`` for the images
``name/name_0001.jpg``. And CSV: two paths and ``same`` or ``different`` (or 1 or 0).
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from visagedb_indexer import limits
from visagedb_indexer.evaluation import InvalidPairListError
from visagedb_indexer.evaluation.rates import Indices

_SUFFIXES: Final = (
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".bmp",
    ".tif",
    ".tiff",
    ".gif",
    ".pgm",
    ".ppm",
)
_WORDS: Final = {
    **dict.fromkeys(("1", "true", "yes", "same"), True),
    **dict.fromkeys(("0", "false", "no", "different"), False),
}
_MISSING_SHOWN: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class PairList:
    """Pairs of images.

    Attributes:
        images: Each once.
        pairs: Numbers of the two images of each pair, shape (n, 2).
        same: Whether a pair is said to show one person.
        owners: For each image a number that images of one person share, as far as the list
            tells; shape (images,).
        folds: Number of each pair's fold, shape (n,); None when the list names none.
    """

    images: tuple[Path, ...]
    pairs: Indices
    same: tuple[bool, ...]
    owners: Indices
    folds: Indices | None


def read_pair_list(path: Path, root: Path | None) -> PairList:
    """Reads a list of pairs.

    Args:
        path: Of the list; ``*.csv`` is CSV, anything else the format of LFW.
        root: Folder of the images; the list's own if not given.

    Raises:
        InvalidPairListError: It cannot be read, or names images that do not exist.
    """
    folder = path.parent if root is None else root
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidPairListError(f"{path} cannot be read: {error}") from error
    rows, folds = _csv(text) if path.suffix.lower() == ".csv" else _lfw(text)
    if not rows:
        raise InvalidPairListError(f"{path} has no pairs")
    if len(rows) > limits.EVALUATED_PAIRS_MAX:
        raise InvalidPairListError(
            f"{path} has {len(rows):,} pairs; at most {limits.EVALUATED_PAIRS_MAX:,} are read"
        )
    names = {name: number for number, name in enumerate(dict.fromkeys(_names(rows)))}
    found = {name: _image(folder, name) for name in names}
    _refuse_missing(path, found)
    pairs = np.array([[names[one], names[other]] for one, other, _ in rows], dtype=np.int64)
    same = tuple(word for _, _, word in rows)
    return PairList(
        images=tuple(image for image in found.values() if image is not None),
        pairs=pairs,
        same=same,
        owners=_owners(len(names), pairs[np.array(same, dtype=bool)]),
        folds=folds,
    )


_Row = tuple[str, str, bool]


def _csv(text: str) -> tuple[list[_Row], None]:
    rows: list[_Row] = []
    for number, fields in enumerate(csv.reader(text.splitlines()), 1):
        cells = [cell.strip() for cell in fields]
        if not any(cells):
            continue
        word = _WORDS.get(cells[2].lower()) if len(cells) == 3 else None
        if number == 1 and len(cells) == 3 and (word is None or _is_heading(cells)):
            continue
        if word is None or not cells[0] or not cells[1]:
            raise InvalidPairListError(
                f"line {number}: expected two paths and same or different, "
                f"not {','.join(fields)[:100]!r}"
            )
        rows.append(_row(number, cells[0], cells[1], word))
    return rows, None


def _is_heading(cells: list[str]) -> bool:
    """Whether a first line like ``first,second,same`` names columns rather than files."""
    return not any(Path(cell).suffix or "/" in cell for cell in cells[:2])


def _lfw(text: str) -> tuple[list[_Row], Indices | None]:
    lines = text.splitlines()
    head = lines[0].split() if lines else []
    if len(head) not in (1, 2) or not all(word.isdecimal() for word in head):
        raise InvalidPairListError(
            "the first line is not a number of pairs; a list of paths must be named *.csv"
        )
    rows: list[_Row] = []
    for number, line in enumerate(lines[1:], 2):
        fields = line.split()
        if not fields:
            continue
        if len(fields) not in (3, 4) or not fields[1].isdecimal() or not fields[-1].isdecimal():
            raise InvalidPairListError(
                f"line {number}: expected name number number, or name number name number, "
                f"not {line[:100]!r}"
            )
        other = fields[2] if len(fields) == 4 else fields[0]
        one = _lfw_name(fields[0], fields[1])
        rows.append(_row(number, one, _lfw_name(other, fields[-1]), len(fields) == 3))
    return rows, _lfw_folds([int(word) for word in head], len(rows))


def _lfw_folds(head: list[int], count: int) -> Indices | None:
    of_each_kind = head[-1]
    expected = 2 * of_each_kind * (head[0] if len(head) == 2 else 1)
    if count != expected:
        raise InvalidPairListError(
            f"the first line announces {expected:,} pairs, but there are {count:,}"
        )
    if len(head) == 1 or head[0] < 2:
        return None
    return np.arange(count, dtype=np.int64) // (2 * of_each_kind)


def _lfw_name(person: str, number: str) -> str:
    return f"{person}/{person}_{int(number):04d}"


def _row(number: int, one: str, other: str, same: bool) -> _Row:
    if one == other:
        raise InvalidPairListError(f"line {number}: {one} is compared with itself")
    return one, other, same


def _names(rows: Iterable[_Row]) -> Iterable[str]:
    for one, other, _ in rows:
        yield one
        yield other


def _image(folder: Path, name: str) -> Path | None:
    path = folder / name
    candidates = [path, *(path.with_name(path.name + suffix) for suffix in _SUFFIXES)]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _refuse_missing(path: Path, found: Mapping[str, Path | None]) -> None:
    missing = [name for name, image in found.items() if image is None]
    if missing:
        shown = ", ".join(missing[:_MISSING_SHOWN])
        more = f" and {len(missing) - _MISSING_SHOWN:,} more" if len(missing) > 3 else ""
        raise InvalidPairListError(
            f"{path} names {len(missing):,} images that do not exist: {shown}{more}",
            {"missing": str(len(missing))},
        )


def _owners(count: int, mates: Indices) -> Indices:
    """Images that are connected by pairs of one person get the same number."""
    parent = list(range(count))

    def root(image: int) -> int:
        while parent[image] != image:
            parent[image] = parent[parent[image]]
            image = parent[image]
        return image

    for one, other in mates.tolist():
        parent[root(one)] = root(other)
    roots = [root(image) for image in range(count)]
    return np.unique(np.array(roots, dtype=np.int64), return_inverse=True)[1].astype(np.int64)
