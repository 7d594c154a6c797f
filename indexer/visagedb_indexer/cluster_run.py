"""Clustering the faces of a gallery and keeping the result."""

from collections.abc import Callable

from visagedb_indexer import limits, validation
from visagedb_indexer.clock import now_us
from visagedb_indexer.clustering import METHOD, group_faces
from visagedb_indexer.errors import GalleryTooLargeError
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.store import ClusteringRecord, ClusterRecord

Progress = Callable[[float, str], None]
"""Told the progress, 0 to 1, and what is being done; raises to cancel the run."""


def cluster_gallery(
    gallery: Gallery, clustering_id: str, *, filter_text: str, threshold: float, progress: Progress
) -> ClusteringRecord:
    """Groups the faces of a gallery by person, without regard to their identities.

    Args:
        gallery: Whose faces.
        clustering_id: Under which the result is kept.
        filter_text: Only faces of the identities that pass.
        threshold: Mean cosine above which two groups are one person.
        progress: Told how far it is.

    Raises:
        GalleryTooLargeError: There are more faces than the exact graph is meant for.
        InvalidFilterError: The filter cannot be read.
    """
    validation.check_cosine(threshold, "threshold")
    progress(0.0, "reading")
    generation = gallery.counters.generation
    ordinals = gallery.ordinals(filter_text)
    if len(ordinals) > limits.CLUSTER_FACES_MAX:
        raise GalleryTooLargeError(
            f"{len(ordinals)} faces are to be clustered; this release compares every pair and "
            f"takes at most {limits.CLUSTER_FACES_MAX}; use a filter",
            {"faces": str(len(ordinals)), "limit": str(limits.CLUSTER_FACES_MAX)},
        )
    ordinals, vectors = gallery.vectors(ordinals)
    progress(0.1, "comparing every pair")
    groups = group_faces(vectors, threshold)
    progress(0.9, "keeping the result")
    places = ordinals.astype("<i8")
    clusters = [
        ClusterRecord(
            ordinals=places[group.members].tobytes(),
            centralities=group.centralities.astype("<f4").tobytes(),
            cohesion=group.cohesion,
        )
        for group in groups
    ]
    singles = sum(len(group.members) == 1 for group in groups)
    record = ClusteringRecord(
        id=clustering_id,
        create_time_us=now_us(),
        face_count=len(ordinals),
        cluster_count=len(groups) - singles,
        single_count=singles,
        threshold=threshold,
        method=METHOD,
        generation=generation,
    )
    gallery.clusterings.keep(record, clusters)
    return record
