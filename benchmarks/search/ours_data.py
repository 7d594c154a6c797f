"""A VisageDB data directory with the workload in it, written once for all that open it."""

import time
from pathlib import Path

import numpy as np

from search.workload import Workload
from visagedb_indexer.database import Database
from visagedb_indexer.gallery import Gallery as OpenGallery
from visagedb_indexer.store import FaceRecord, GalleryRecord, GalleryStore, IdentityRecord
from visagedb_indexer.values import Fusion, ModelIdentity

GALLERY = "benchmark"
_COMMIT_ROWS = 4096
_RESCORED_UNKNOWN = 200
SETTLED_SECONDS_MAX = 3600.0
CALIBRATED_SECONDS_MAX = 300.0


def await_rest(gallery: OpenGallery) -> None:
    """Until the codes are built and audited, and the gallery is calibrated if it can be."""
    assert gallery.wait_until_settled(SETTLED_SECONDS_MAX)
    end = time.monotonic() + CALIBRATED_SECONDS_MAX
    while gallery.calibrations.latest is None and time.monotonic() < end:
        time.sleep(0.1)


def gallery_folder(data: Path) -> Path:
    """The folder of the one gallery's database."""
    return next((data / "galleries").iterdir())


def written(shared: Path, workload: Workload) -> tuple[Path, float]:
    """The data directory, and the seconds that writing it took."""
    data, note = shared / "visagedb", shared / "visagedb.seconds"
    if not note.exists():
        started = time.perf_counter()
        _write(data, workload)
        note.write_text(str(time.perf_counter() - started))
    return data, float(note.read_text())


def note_rescored(shared: Path, count: int) -> None:
    """Leaves word of how many candidates our engine rescores, for the bare scan."""
    (shared / "visagedb.rescored").write_text(str(count))


def rescored_candidates(shared: Path) -> int:
    """How many candidates our engine rescores, or the usual number if it did not run."""
    note = shared / "visagedb.rescored"
    return int(note.read_text()) if note.exists() else _RESCORED_UNKNOWN


def _write(data: Path, workload: Workload) -> None:
    """One identity with one face per row, through the store's transactions."""
    database = Database(data)
    model = ModelIdentity("benchmark", "1", workload.dimension)
    # The settings of a gallery made through the API.
    record = GalleryRecord(GALLERY, "", model, 0, 0, fusion=Fusion.ADAPTIVE_MEAN)
    database.create_gallery(record)
    database.close()
    store = GalleryStore(gallery_folder(data))
    for start, vectors in workload.blocks(_COMMIT_ROWS):
        with store.write() as txn:
            for ordinal, vector in enumerate(vectors, start):
                name = f"p{ordinal}"
                identity = txn.add_identity(IdentityRecord(name, name, -1, 0, 0))
                digest = np.uint64(ordinal).tobytes().ljust(32, b"\0")
                txn.add_face(identity, FaceRecord(name, -1, digest, 0), vector)
    store.close()
