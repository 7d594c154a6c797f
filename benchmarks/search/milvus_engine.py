"""milvus-lite: its own embedded server, asked over gRPC by its own client."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.engine import Engine, Setting
from search.workload import TOP_K

_COLLECTION = "faces"
_LISTS = 128
_INSERT_ROWS = 5000


class _Milvus(Engine):
    notes = "server and client in one process; threads are its own"
    _parameters: dict[str, int]

    @abstractmethod
    def index_options(self) -> dict[str, Any]:
        """Type and parameters of the index."""

    def load(self) -> None:
        from pymilvus import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
            DataType,
            MilvusClient,
        )

        self._client = MilvusClient(str(self.place.own / "faces.db"))
        schema = MilvusClient.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.workload.dimension)
        self._client.create_collection(_COLLECTION, schema=schema)
        for start, vectors in self.workload.blocks(_INSERT_ROWS):
            rows = [{"id": start + i, "vector": vector} for i, vector in enumerate(vectors)]
            self._client.insert(_COLLECTION, rows)
        self._client.flush(_COLLECTION)

    def build(self) -> None:
        parameters = self._client.prepare_index_params()
        parameters.add_index("vector", metric_type="IP", **self.index_options())
        self._client.create_index(_COLLECTION, parameters)
        self._client.load_collection(_COLLECTION)

    def configure(self, setting: Setting) -> None:
        self._parameters = dict(setting.values)

    def search(self, probe: NDArray[np.float32]) -> Sequence[int]:
        found = self._client.search(
            _COLLECTION,
            [probe],
            limit=TOP_K,
            search_params={"metric_type": "IP", "params": self._parameters},
        )
        return [hit["id"] for hit in found[0]]


class MilvusAuto(_Milvus):
    """The index it chooses by itself, a graph."""

    settings = (Setting("AUTOINDEX"), *(Setting(f"ef {ef}", {"ef": ef}) for ef in (256, 1024)))

    def index_options(self) -> dict[str, Any]:
        return {"index_type": "AUTOINDEX"}


class MilvusIvf(_Milvus):
    """Inverted lists of whole vectors; with all lists it is an exact search."""

    settings = tuple(Setting(f"nprobe {n}", {"nprobe": n}) for n in (8, 32, _LISTS))

    def index_options(self) -> dict[str, Any]:
        return {"index_type": "IVF_FLAT", "params": {"nlist": _LISTS}}
