"""What may be wrong with the labels of a gallery: pure functions over arrays."""

from visagedb_indexer.gallery_audit.findings import find
from visagedb_indexer.gallery_audit.labelled import LabelledFaces
from visagedb_indexer.gallery_audit.values import Finding

__all__ = ["Finding", "LabelledFaces", "find"]
