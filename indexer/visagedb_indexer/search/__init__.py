"""The search engine. The only room that imports ``faiss``."""

from visagedb_indexer.search.audit import Audit
from visagedb_indexer.search.engine import (
    SCHEDULER,
    EngineState,
    EngineStats,
    SearchEngine,
    all_cores_search,
)
from visagedb_indexer.search.protocol import Hit, SearchRequest, VectorSource
from visagedb_indexer.search.scheduler import Lane
from visagedb_indexer.search.snapshot import Snapshot

__all__ = [
    "SCHEDULER",
    "Audit",
    "EngineState",
    "EngineStats",
    "Hit",
    "Lane",
    "SearchEngine",
    "SearchRequest",
    "Snapshot",
    "VectorSource",
    "all_cores_search",
]
