"""Grouping faces by person: pure functions over arrays."""

from visagedb_indexer.clustering.average_linkage import METHOD, Group, group_faces

__all__ = ["METHOD", "Group", "group_faces"]
