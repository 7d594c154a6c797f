"""Checks a whole data directory that no server uses."""

from collections.abc import Iterator
from pathlib import Path

from visagedb_indexer.errors import IndexerError
from visagedb_indexer.integrity.repair import repair_store
from visagedb_indexer.integrity.values import Finding, Kind, Progress, Report, Result
from visagedb_indexer.integrity.verify import ignore_progress, verify_store
from visagedb_indexer.store import Catalogue, DataDirectory, GalleryStore


def verify_directory(
    path: Path,
    progress: Progress = ignore_progress,
    *,
    repair: bool = False,
    drop_damaged: bool = False,
) -> Iterator[Report]:
    """Checks every gallery of a data directory, one after another.

    A gallery that cannot be opened is a report of its own with that one finding.

    Args:
        path: The data directory.
        progress: Takes how far it is.
        repair: Make what is derived anew, in galleries where something is wrong.
        drop_damaged: Then also drop what is primary and damaged.

    Raises:
        DataDirectoryLockedError: A server is running on it; ask that server.
        StorageCorruptError: The catalogue cannot be read, so that the galleries are not known.
        FormatTooNewError: A newer release has written the catalogue.
        UnavailableError: There is no such directory, or it cannot be used.
    """
    directory = DataDirectory(path, create=False)
    try:
        for gallery_id, uid in sorted(_galleries(directory).items()):
            yield _verify(
                directory.gallery(uid), gallery_id, progress, repair=repair, drop=drop_damaged
            )
    finally:
        directory.close()


def _galleries(directory: DataDirectory) -> dict[str, str]:
    catalogue = Catalogue(directory.catalogue)
    try:
        return catalogue.galleries()
    finally:
        catalogue.close()


def _verify(
    folder: Path, gallery_id: str, progress: Progress, *, repair: bool, drop: bool
) -> Report:
    def report(done: float, stage: str) -> None:
        progress(done, f"{gallery_id}: {stage}")

    try:
        store = GalleryStore(folder)
        try:
            found = verify_store(store, report)
            if found.ok or not repair:
                return found
            return repair_store(store, drop_damaged=drop, progress=report)
        finally:
            store.close()
    except IndexerError as error:
        return Report(gallery_id, (unusable(error),))


def unusable(error: IndexerError) -> Result:
    """What is said of a gallery that cannot be opened."""
    return Result(
        invariant="readable",
        statement="the gallery's database can be opened and read",
        kind=Kind.PRIMARY,
        broken_count=1,
        findings=(Finding(error.message),),
    )
