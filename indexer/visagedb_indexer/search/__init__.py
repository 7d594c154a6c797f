"""The search engine. The only room that imports ``faiss``."""

from visagedb_indexer.search.engine import EngineState, EngineStats, SearchEngine
from visagedb_indexer.search.protocol import Hit, SearchRequest, VectorSource

__all__ = [
    "EngineState",
    "EngineStats",
    "Hit",
    "SearchEngine",
    "SearchRequest",
    "VectorSource",
]
