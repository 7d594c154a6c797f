"""Durable storage in LMDB. The only room that imports ``lmdb``."""

from visagedb_indexer.store.catalogue import Catalogue
from visagedb_indexer.store.directory import DataDirectory
from visagedb_indexer.store.gallery_store import GalleryStore, Reader, Transaction
from visagedb_indexer.store.group_commit import Change, GroupCommit
from visagedb_indexer.store.records import (
    ClusteringRecord,
    ClusterRecord,
    Counters,
    FaceRecord,
    GalleryRecord,
    IdentityRecord,
    OperationRecord,
)

__all__ = [
    "Catalogue",
    "Change",
    "ClusterRecord",
    "ClusteringRecord",
    "Counters",
    "DataDirectory",
    "FaceRecord",
    "GalleryRecord",
    "GalleryStore",
    "GroupCommit",
    "IdentityRecord",
    "OperationRecord",
    "Reader",
    "Transaction",
]
