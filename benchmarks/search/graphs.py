"""Graph indexes: hnswlib and usearch."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from search.engine import Engine, Setting
from search.workload import TOP_K


class HnswLib(Engine):
    """hnswlib with the graph it makes by default."""

    links: ClassVar = 16
    effort: ClassVar = 200
    settings = tuple(Setting(f"ef {ef}", {"ef": ef}) for ef in (10, 64, 256, 1024, 2048))

    def build(self) -> None:
        import hnswlib  # type: ignore[import-not-found,import-untyped,unused-ignore]

        self._index = hnswlib.Index(space="ip", dim=self.workload.dimension)
        self._index.init_index(
            max_elements=self.workload.rows, M=self.links, ef_construction=self.effort
        )
        for start, vectors in self.workload.blocks():
            ordinals = np.arange(start, start + len(vectors))
            self._index.add_items(vectors, ordinals, num_threads=self.place.threads)

    def configure(self, setting: Setting) -> None:
        self._index.set_ef(setting.values["ef"])

    def search(self, probe: NDArray[np.float32]) -> Sequence[int]:
        found: list[int] = self._index.knn_query(probe, k=TOP_K, num_threads=1)[0][0].tolist()
        return found


class DenseHnswLib(HnswLib):
    """hnswlib with twice the links and twice the effort of building."""

    links = 32
    effort = 400
    settings = HnswLib.settings[1:]


class USearch(Engine):
    """usearch as it comes."""

    settings = tuple(Setting(f"expansion {ef}", {"ef": ef}) for ef in (64, 256, 1024, 2048))

    def build(self) -> None:
        from usearch.index import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
            Index,
        )

        self._index = Index(ndim=self.workload.dimension, metric="cos")
        for start, vectors in self.workload.blocks():
            ordinals = np.arange(start, start + len(vectors), dtype=np.uint64)
            self._index.add(ordinals, vectors, threads=self.place.threads)

    def configure(self, setting: Setting) -> None:
        self._index.expansion_search = setting.values["ef"]

    def search(self, probe: NDArray[np.float32]) -> Sequence[int]:
        found: list[int] = self._index.search(probe, TOP_K, threads=1).keys.tolist()
        return found
