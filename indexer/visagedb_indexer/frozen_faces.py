"""The faces of a clustering run, written to a folder as they were when it began.

A run may take long and go on after a crash. Meanwhile faces come and go; the run is of those
that were there at its beginning. But the vector of a face that is erased for good becomes zero.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.clustering.checkpoint import read as read_checkpoint
from visagedb_indexer.clustering.checkpoint import write as write_checkpoint
from visagedb_indexer.errors import UnavailableError
from visagedb_indexer.failpoints import reached
from visagedb_indexer.store import checksums
from visagedb_indexer.values import Vector

if TYPE_CHECKING:
    from visagedb_indexer.gallery import Gallery

_ROWS: Final = 1 << 14
_FOLDER, _INDEX, _VECTORS = "faces", "index", "vectors.f32"


@dataclass(frozen=True, slots=True, eq=False)
class FrozenFaces:
    """Faces at one moment.

    Attributes:
        ordinals: Shape (n,), ascending, int64.
        owners: Identity numbers, negative for loose faces, shape (n,), int64.
        vectors: Shape (n, dimension), float32: a map of a file.
    """

    ordinals: NDArray[np.int64]
    owners: NDArray[np.int64]
    vectors: Vector

    def __len__(self) -> int:
        return len(self.ordinals)


def freeze(gallery: "Gallery", ordinals: NDArray[np.int64], folder: Path) -> FrozenFaces:
    """Writes the faces of some ordinals into a folder, unless that was done before a crash.

    Args:
        gallery: Whose faces.
        ordinals: Ascending; faces that are deleted by now are left out.
        folder: Of the run; made if missing, for the owner's eyes only, and made anew if the
            faces in it are damaged.

    Raises:
        UnavailableError: The disk does not give back what was written.
    """
    place = folder / _FOLDER
    faces = _read(place, gallery.model.dimension)
    if faces is None:
        # What was made from faces that cannot be read again is worthless, too.
        shutil.rmtree(folder, ignore_errors=True)
        aside = folder / (_FOLDER + ".new")
        aside.mkdir(parents=True, mode=0o700)
        reached("clustering.before_faces")
        _write(gallery, ordinals, aside)
        reached("clustering.before_faces_rename")
        aside.rename(place)
        reached("clustering.after_faces")
        faces = _read(place, gallery.model.dimension)
    if faces is None:
        raise UnavailableError("the faces of the run cannot be read again; see the system's log")
    # A face that was deleted while it was being written would be forgotten there.
    erase_frozen(folder, gallery.ordinals())
    return faces


def erase_frozen(folder: Path, alive: NDArray[np.int64]) -> None:
    """Overwrites the vectors of deleted faces in the folder of a run with zeros.

    Args:
        folder: Of the run; if it has no faces yet, nothing happens.
        alive: Ordinals of the faces that exist, ascending.
    """
    place = folder / _FOLDER
    if not place.exists():
        return
    index = read_checkpoint(place / _INDEX)
    if index is None:
        # A damaged folder is of no use to its run.
        shutil.rmtree(place)
        return
    ordinals = index["ordinals"]
    gone = np.flatnonzero(~np.isin(ordinals, alive, assume_unique=True))
    if not len(gone):
        return
    row_bytes = (place / _VECTORS).stat().st_size // len(ordinals)
    with (place / _VECTORS).open("r+b") as file:
        for row in gone.tolist():
            file.seek(row * row_bytes)
            file.write(bytes(row_bytes))
        file.flush()
        os.fsync(file.fileno())


def _write(gallery: "Gallery", ordinals: NDArray[np.int64], place: Path) -> None:
    kept = []
    sums = []
    with (place / _VECTORS).open("wb") as file:
        for start in range(0, len(ordinals), _ROWS):
            there, vectors = gallery.vectors(ordinals[start : start + _ROWS])
            file.write(np.ascontiguousarray(vectors, "<f4").tobytes())
            kept.append(there)
            sums.append(checksums.of_vectors(vectors))
        file.flush()
        os.fsync(file.fileno())
    written = np.concatenate(kept) if kept else np.empty(0, np.int64)
    write_checkpoint(
        place / _INDEX,
        {
            "ordinals": written,
            "owners": gallery.owners(written),
            "checksums": np.concatenate(sums) if sums else np.empty(0, np.uint32),
        },
    )


def _read(place: Path, dimension: int) -> FrozenFaces | None:
    """The faces; None when they are not there, or not as they were written."""
    index = read_checkpoint(place / _INDEX)
    if index is None:
        return None
    ordinals, owners = index["ordinals"], index["owners"]
    shape = (len(ordinals), dimension)
    if not len(ordinals):
        return FrozenFaces(ordinals, owners, np.empty(shape, np.float32))
    path = place / _VECTORS
    if not path.exists() or path.stat().st_size != 4 * shape[0] * shape[1]:
        return None
    mapped = np.memmap(path, dtype="<f4", mode="r", shape=shape)
    for start in range(0, len(ordinals), _ROWS):
        rows = mapped[start : start + _ROWS]
        right = checksums.of_vectors(rows) == index["checksums"][start : start + _ROWS]
        # Faces deleted since are overwritten with zeros.
        if not np.all(right | ~np.any(rows, axis=1)):
            return None
    return FrozenFaces(ordinals, owners, np.asarray(mapped))
