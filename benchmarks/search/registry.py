"""The engines by name. They are imported only in the process that measures them."""

from dataclasses import dataclass
from importlib import import_module
from typing import Final

from search.engine import Engine


@dataclass(frozen=True, slots=True)
class Entry:
    """An engine that can be asked for.

    Attributes:
        title: As printed.
        source: Module and class.
        family: Engines of one family get one colour in plots.
    """

    title: str
    source: str
    family: str

    def engine_class(self) -> type[Engine]:
        """The engine's class."""
        module, _, name = self.source.partition(":")
        found: type[Engine] = getattr(import_module(module), name)
        return found


ENGINES: Final = {
    "ours-engine": Entry("VisageDB engine", "search.ours:BareEngine", "ours"),
    "ours": Entry("VisageDB gallery", "search.ours:InProcess", "ours"),
    "ours-server": Entry("VisageDB server", "search.ours_server:Server", "ours"),
    "fastscan": Entry("FAISS fast scan, bare", "search.faiss_engines:BareFastScan", "scan"),
    "flat": Entry("FAISS flat (exact)", "search.faiss_engines:Flat", "scan"),
    "faceflash": Entry("faceflash", "search.faceflash_engine:FaceFlash", "scan"),
    "faiss-hnsw": Entry("FAISS HNSW", "search.faiss_engines:Hnsw", "graph"),
    "hnswlib": Entry("hnswlib", "search.graphs:HnswLib", "graph"),
    "hnswlib-dense": Entry("hnswlib, dense", "search.graphs:DenseHnswLib", "graph"),
    "usearch": Entry("usearch", "search.graphs:USearch", "graph"),
    "milvus-lite": Entry("milvus-lite", "search.milvus_engine:MilvusAuto", "database"),
    "milvus-lite-ivf": Entry("milvus-lite IVF", "search.milvus_engine:MilvusIvf", "database"),
    "lancedb": Entry("LanceDB", "search.lancedb_engine:LancePq", "database"),
    "lancedb-fine": Entry("LanceDB, fine codes", "search.lancedb_engine:LanceFinePq", "database"),
    "lancedb-hnsw": Entry("LanceDB HNSW", "search.lancedb_engine:LanceHnsw", "database"),
    "pgvector": Entry("pgvector", "search.pgvector_engine:PgVector", "database"),
}


def chosen(names: str) -> list[str]:
    """Engine names from a comma-separated list, or all of them.

    Raises:
        ValueError: There is no engine of a name.
    """
    if names == "all":
        return list(ENGINES)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in ENGINES]
    if unknown:
        raise ValueError(f"no engine {', '.join(unknown)}; there are {', '.join(ENGINES)}")
    return wanted
