"""The search engine. The only room that imports ``faiss``."""

from visagedb_indexer.search.engine import EngineState, EngineStats, SearchEngine
from visagedb_indexer.search.protocol import Hit, SearchRequest, VectorSource
from visagedb_indexer.search.snapshot import SnapshotFile

__all__ = [
    "EngineState",
    "EngineStats",
    "Hit",
    "SearchEngine",
    "SearchRequest",
    "SnapshotFile",
    "VectorSource",
]
