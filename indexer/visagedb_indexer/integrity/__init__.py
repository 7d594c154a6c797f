"""Proofs that the databases and the search structures agree, and repairs where they do not."""

from visagedb_indexer.integrity.directory import verify_directory
from visagedb_indexer.integrity.repair import repair_store
from visagedb_indexer.integrity.values import Finding, Kind, Progress, Report, Result
from visagedb_indexer.integrity.verify import verify_store

__all__ = [
    "Finding",
    "Kind",
    "Progress",
    "Report",
    "Result",
    "repair_store",
    "verify_directory",
    "verify_store",
]
