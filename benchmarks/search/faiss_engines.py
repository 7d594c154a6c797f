"""FAISS: exact, graph, and the bare fast scan that our engine is built on."""

from collections.abc import Sequence
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from search.engine import Engine, Place, Setting
from search.ours_data import rescored_candidates
from search.workload import TOP_K

_TRAINING_ROWS = 32_768


class _Faiss(Engine):
    _index: Any

    def _add_all(self) -> None:
        faiss.omp_set_num_threads(self.place.threads)
        for _, vectors in self.workload.blocks():
            self._index.add(vectors)

    def search(self, probe: NDArray[np.float32]) -> Sequence[int]:
        # The setting holds for the calling thread only.
        faiss.omp_set_num_threads(1)
        found: list[int] = self._index.search(probe[None, :], TOP_K)[1][0].tolist()
        return found


class Flat(_Faiss):
    """Every vector compared in float32: the answer itself, for single queries."""

    def build(self) -> None:
        self._index = faiss.IndexFlatIP(self.workload.dimension)
        self._add_all()


class Hnsw(_Faiss):
    """Graph with 32 links."""

    settings = (
        Setting("ef 16", {"ef": 16}),
        *(Setting(f"ef {ef}", {"ef": ef}) for ef in (64, 256, 1024, 2048)),
    )

    def build(self) -> None:
        metric = faiss.METRIC_INNER_PRODUCT
        self._index = faiss.IndexHNSWFlat(self.workload.dimension, 32, metric)
        self._add_all()

    def configure(self, setting: Setting) -> None:
        self._index.hnsw.efSearch = setting.values["ef"]


class BareFastScan(_Faiss):
    """Our codes without our engine: rotation, 4-bit codes, one list, no rescoring.

    It ranks by codes alone, so it loses mates; its time is the floor of ours. The second
    setting returns as many rows as our engine rescores, if it was measured before.
    """

    notes = "no rescoring: read its time, not its loss"
    judged = False

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._count = TOP_K
        rescored = rescored_candidates(place.shared)
        self.settings = (
            Setting(f"best {TOP_K}", {"count": TOP_K}),
            Setting(f"best {rescored}", {"count": rescored}),
        )

    def build(self) -> None:
        dimension = self.workload.dimension
        faiss.omp_set_num_threads(self.place.threads)
        random = np.random.default_rng(1)
        square = np.linalg.qr(random.standard_normal((dimension, dimension)))[0]
        self._rotation = np.ascontiguousarray(square, dtype=np.float32)
        coarse = faiss.IndexFlatIP(dimension)
        coarse.add(np.zeros((1, dimension), dtype=np.float32))
        codes = dimension // (2 if dimension <= 256 else 4)
        self._index = faiss.IndexIVFPQFastScan(
            coarse, dimension, 1, codes, 4, faiss.METRIC_INNER_PRODUCT
        )
        self._index.by_residual = False
        self._index.train(self.workload.sample(_TRAINING_ROWS) @ self._rotation)
        for _, vectors in self.workload.blocks():
            self._index.add(vectors @ self._rotation)

    def configure(self, setting: Setting) -> None:
        self._count = setting.values["count"]

    def search(self, probe: NDArray[np.float32]) -> Sequence[int]:
        faiss.omp_set_num_threads(1)
        rotated = (probe @ self._rotation)[None, :]
        found: list[int] = self._index.search(rotated, self._count)[1][0, :TOP_K].tolist()
        return found
