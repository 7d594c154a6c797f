"""Embedding in processes of their own: a hostile image can end one, never the server.

Neither this package nor the process that uses it imports torch; only the children do.
"""

from visagedb_indexer.workers.pool import WorkerPool
from visagedb_indexer.workers.stats import Death, PoolStats
from visagedb_indexer.workers.work import Priority

__all__ = ["Death", "PoolStats", "Priority", "WorkerPool"]
