"""A gallery as it is at one moment, row by row, for an export."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from visagedb_indexer import limits
from visagedb_indexer.store import (
    LOOSE_NUMBER,
    Counters,
    FaceRecord,
    GalleryRecord,
    GalleryStore,
    IdentityRecord,
    Reader,
)
from visagedb_indexer.values import Vector

_PAUSE_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class ExportRow:
    """One face with its identity; an identity without faces; or a loose face."""

    identity: IdentityRecord | None
    face: FaceRecord | None
    vector: Vector | None


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export."""

    identity_count: int
    face_count: int
    file_bytes: int
    generation: int


class Exports:
    """Reads one gallery for exports.

    Args:
        store: The gallery's database.
        busy: Whether searches take all cores at this moment.
    """

    def __init__(self, store: GalleryStore, busy: Callable[[], bool]) -> None:
        self._store = store
        self._busy = busy

    def view(self) -> Iterator[tuple[GalleryRecord, Counters, Iterator[ExportRow]]]:
        """The gallery at this moment, whatever is written while its rows are read.

        Yields:
            Once: its settings, its counts, and all rows, in the order of identities and then of
            faces, loose faces last.
        """
        with self._store.read() as view:
            yield view.gallery(), view.counters(), _rows(view)

    def give_way(self, check: Callable[[], None]) -> None:
        """Waits a little while searches take all cores: they go first."""
        until = time.monotonic() + limits.IMPORT_YIELD_SECONDS_MAX
        while self._busy() and time.monotonic() < until:
            check()
            time.sleep(_PAUSE_SECONDS)


def _rows(view: Reader) -> Iterator[ExportRow]:
    faces = view.all_faces()
    ahead = next(faces, None)
    for identity in view.all_identities():
        alone = True
        while ahead is not None and ahead[0] == identity.number:
            yield ExportRow(identity, ahead[1], view.vector_now(ahead[1].ordinal))
            alone, ahead = False, next(faces, None)
        if alone:
            yield ExportRow(identity, None, None)
    while ahead is not None and ahead[0] == LOOSE_NUMBER:
        yield ExportRow(None, ahead[1], view.vector_now(ahead[1].ordinal))
        ahead = next(faces, None)
