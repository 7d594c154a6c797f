"""The search engine. The only room that imports ``faiss``."""

from visagedb_indexer.search.admission import admitted, all_cores_search
from visagedb_indexer.search.audit import Audit
from visagedb_indexer.search.engine import EngineState, EngineStats, SearchEngine
from visagedb_indexer.search.protocol import Hit, SearchRequest, VectorSource
from visagedb_indexer.search.snapshot import SnapshotFile

__all__ = [
    "Audit",
    "EngineState",
    "EngineStats",
    "Hit",
    "SearchEngine",
    "SearchRequest",
    "SnapshotFile",
    "VectorSource",
    "admitted",
    "all_cores_search",
]
