"""Durable storage in LMDB. The only room that imports ``lmdb``."""

from visagedb_indexer.store.api_keys import ApiKeyRecord
from visagedb_indexer.store.catalogue import Catalogue
from visagedb_indexer.store.directory import DataDirectory
from visagedb_indexer.store.gallery_store import GalleryStore, rename_gallery
from visagedb_indexer.store.group_commit import Change, GroupCommit
from visagedb_indexer.store.imports import ImportFailure, ImportRecord
from visagedb_indexer.store.newcomers import Arrivals, Newcomers
from visagedb_indexer.store.reader import Reader
from visagedb_indexer.store.records import (
    AuditRecord,
    ClusterEdit,
    ClusteringRecord,
    ClusterRecord,
    Counters,
    ErasureRecord,
    FaceRecord,
    FindingRecord,
    GalleryRecord,
    IdentityRecord,
    LineageRecord,
    LineageSource,
    OperationRecord,
    QuarantineRecord,
)
from visagedb_indexer.store.schema import LOOSE_NUMBER
from visagedb_indexer.store.transaction import Transaction

__all__ = [
    "LOOSE_NUMBER",
    "ApiKeyRecord",
    "Arrivals",
    "AuditRecord",
    "Catalogue",
    "Change",
    "ClusterEdit",
    "ClusterRecord",
    "ClusteringRecord",
    "Counters",
    "DataDirectory",
    "ErasureRecord",
    "FaceRecord",
    "FindingRecord",
    "GalleryRecord",
    "GalleryStore",
    "GroupCommit",
    "IdentityRecord",
    "ImportFailure",
    "ImportRecord",
    "LineageRecord",
    "LineageSource",
    "Newcomers",
    "OperationRecord",
    "QuarantineRecord",
    "Reader",
    "Transaction",
    "rename_gallery",
]
