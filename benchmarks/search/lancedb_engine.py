"""LanceDB: columnar files with an index, searched in process."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.engine import Engine, Setting
from search.workload import TOP_K


class _Lance(Engine):
    notes = "threads are its own"
    _values: dict[str, int]

    @abstractmethod
    def index_options(self) -> dict[str, Any]:
        """What is asked of the index beside the metric."""

    def load(self) -> None:
        import lancedb  # type: ignore[import-not-found,import-untyped,unused-ignore]
        import pyarrow as pa  # type: ignore[import-not-found,import-untyped,unused-ignore]

        dimension = self.workload.dimension
        vector = pa.list_(pa.float32(), dimension)
        schema = pa.schema([("id", pa.int64()), ("vector", vector)])

        def batches() -> Iterator[Any]:
            for start, vectors in self.workload.blocks():
                ordinals = np.arange(start, start + len(vectors))
                rows = pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), dimension)
                yield pa.record_batch([pa.array(ordinals), rows], schema=schema)

        database = lancedb.connect(self.place.own)
        reader = pa.RecordBatchReader.from_batches(schema, batches())
        self._table = database.create_table("faces", reader)

    def build(self) -> None:
        self._table.create_index(metric="cosine", **self.index_options())

    def configure(self, setting: Setting) -> None:
        self._values = dict(setting.values)

    def search(self, probe: NDArray[np.float32]) -> Sequence[int]:
        query = self._table.search(probe).distance_type("cosine").limit(TOP_K)
        for name, value in self._values.items():
            query = getattr(query, name)(value)
        found: list[int] = query.select(["id", "_distance"]).to_arrow()["id"].to_pylist()
        return found


class LancePq(_Lance):
    """Its default index: inverted lists of product codes."""

    settings = (
        Setting("stock"),
        Setting("refine 10", {"refine_factor": 10}),
        Setting("nprobes 256, refine 10", {"nprobes": 256, "refine_factor": 10}),
        Setting("nprobes 1024, refine 50", {"nprobes": 1024, "refine_factor": 50}),
    )

    def index_options(self) -> dict[str, Any]:
        return {"index_type": "IVF_PQ"}


class LanceFinePq(_Lance):
    """Its product codes as fine as ours, in one partition: a full scan."""

    settings = (
        Setting("refine 10", {"refine_factor": 10}),
        Setting("refine 50", {"refine_factor": 50}),
    )

    def index_options(self) -> dict[str, Any]:
        fine = self.workload.dimension // 2
        return {"index_type": "IVF_PQ", "num_partitions": 1, "num_sub_vectors": fine}


class LanceHnsw(_Lance):
    """Graph of one-byte codes."""

    settings = (
        Setting("stock"),
        Setting("ef 512", {"ef": 512}),
        Setting("ef 1024, nprobes 256", {"ef": 1024, "nprobes": 256}),
    )

    def index_options(self) -> dict[str, Any]:
        return {"index_type": "IVF_HNSW_SQ"}
