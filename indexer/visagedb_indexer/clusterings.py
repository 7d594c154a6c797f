"""Results of clustering runs, kept beside the faces they speak of."""

from typing import Protocol

from visagedb_indexer.commands import Command, Result, keep_clustering
from visagedb_indexer.store import ClusteringRecord, ClusterRecord, GalleryStore


class RunCommand(Protocol):
    """Runs a command in the gallery's writer."""

    def __call__(self, command: Command[Result], /) -> Result:
        """Returns when the command's change is durable."""
        ...


class Clusterings:
    """The clusterings of one gallery.

    Args:
        store: The gallery's database.
        run: The gallery's writer.
    """

    def __init__(self, store: GalleryStore, run: RunCommand) -> None:
        self._store = store
        self._run = run

    def keep(self, record: ClusteringRecord, clusters: list[ClusterRecord]) -> None:
        """Keeps the result of a run, largest cluster first."""
        self._run(keep_clustering(record, clusters))

    def get(self, clustering_id: str) -> ClusteringRecord:
        """A clustering.

        Raises:
            ClusteringNotFoundError: There is none of this id.
        """
        with self._store.read() as view:
            return view.clustering(clustering_id)

    def cluster(self, clustering_id: str, rank: int) -> ClusterRecord:
        """One cluster of a clustering; rank 0 is the largest.

        Raises:
            ClusteringNotFoundError: There is none.
        """
        with self._store.read() as view:
            return view.cluster(clustering_id, rank)
