"""Grouping faces by person: pure functions over arrays."""

from visagedb_indexer.clustering.average_linkage import METHOD, Group, group_faces
from visagedb_indexer.clustering.fitting import for_gallery, shipped_model
from visagedb_indexer.clustering.floors import choose_floor
from visagedb_indexer.clustering.graph import Edges, GraphBuilder, build_graph
from visagedb_indexer.clustering.incremental import Assignment, assign
from visagedb_indexer.clustering.partition import (
    METHOD_DEFAULT,
    METHODS,
    Partitioner,
    partitioner,
)
from visagedb_indexer.clustering.plda import PldaModel, fit
from visagedb_indexer.clustering.tiles import VectorSource

__all__ = [
    "METHOD",
    "METHODS",
    "METHOD_DEFAULT",
    "Assignment",
    "Edges",
    "GraphBuilder",
    "Group",
    "Partitioner",
    "PldaModel",
    "VectorSource",
    "assign",
    "build_graph",
    "choose_floor",
    "fit",
    "for_gallery",
    "group_faces",
    "partitioner",
    "shipped_model",
]
