"""VisageDB in process: the bare search engine, and the gallery above it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search.engine import Engine
from search.ours_data import (
    GALLERY,
    SETTLED_SECONDS_MAX,
    await_rest,
    gallery_folder,
    note_rescored,
    written,
)
from search.workload import TOP_K
from visagedb_indexer.database import Database
from visagedb_indexer.gallery_values import SearchOptions
from visagedb_indexer.search import SearchEngine, SearchRequest
from visagedb_indexer.store import GalleryStore


class BareEngine(Engine):
    """`SearchEngine` over the stored vectors: candidates by number, no records read."""

    def load(self) -> None:
        self._data, _ = written(self.place.shared, self.workload)

    def build(self) -> None:
        self._store = GalleryStore(gallery_folder(self._data))
        with self._store.read() as view:
            owners = view.owners()
        self._engine = SearchEngine(self.workload.dimension, self._store, owners)
        assert self._engine.wait_until_settled(SETTLED_SECONDS_MAX)
        note_rescored(self.place.shared, self._engine.stats().rescored_candidates or TOP_K)

    def search(self, probe: NDArray[np.float32]) -> Sequence[int]:
        return [hit.ordinal for hit in self._engine.search(SearchRequest(probe, TOP_K))]

    def close(self) -> None:
        self._engine.close()
        self._store.close()


class InProcess(Engine):
    """`Gallery.identify`: candidates with their identities and faces.

    The second to open the data directory finds the codes in a snapshot.
    """

    def load(self) -> None:
        self._data, _ = written(self.place.shared, self.workload)

    def build(self) -> None:
        self._database = Database(self._data)
        self._gallery = self._database.gallery(GALLERY)
        await_rest(self._gallery)

    def search(self, probe: NDArray[np.float32]) -> Sequence[int]:
        answer = self._gallery.identify(probe, SearchOptions(top_k=TOP_K))
        return [candidate.face.ordinal for candidate in answer.candidates]

    def close(self) -> None:
        self._database.close()
