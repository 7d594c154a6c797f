"""Results of clustering runs, kept beside the faces they speak of."""

from collections.abc import Sequence
from typing import Final

from visagedb_indexer import limits
from visagedb_indexer.commands import Command, Effects, RunCommand
from visagedb_indexer.store import ClusteringRecord, ClusterRecord, GalleryStore, Transaction

_CLUSTERS_PER_COMMIT: Final = 10_000
"""Other writes of the gallery wait no longer than for so many."""


class Clusterings:
    """The clusterings of one gallery.

    Args:
        store: The gallery's database.
        run: The gallery's writer.
    """

    def __init__(self, store: GalleryStore, run: RunCommand) -> None:
        self._store = store
        self._run = run

    def keep(self, record: ClusteringRecord, clusters: Sequence[ClusterRecord]) -> None:
        """Keeps the result of a run, largest cluster first, and forgets the oldest results.

        The clustering exists from its record on, which comes last: a crash before leaves
        clusters of no clustering, which the next run removes.
        """
        for start in range(0, len(clusters), _CLUSTERS_PER_COMMIT):
            part = clusters[start : start + _CLUSTERS_PER_COMMIT]
            self._run(_put_clusters(record.id, start, part))
        self._run(_put(record))
        self._forget_old()

    def _forget_old(self) -> None:
        with self._store.read() as view:
            known = [record.id for record in view.clusterings.all()]
            surplus = max(0, len(known) - limits.CLUSTERINGS_KEPT_MAX)
            old = [*known[:surplus], *view.clusterings.strays()]
        for clustering_id in old:
            self.delete(clustering_id)

    def delete(self, clustering_id: str) -> None:
        """Forgets a clustering; one that is not there is no error."""
        while self._run(_remove(clustering_id)):
            pass

    def get(self, clustering_id: str) -> ClusteringRecord:
        """A clustering.

        Raises:
            ClusteringNotFoundError: There is none of this id.
        """
        with self._store.read() as view:
            return view.clusterings.get(clustering_id)

    def find(self, clustering_id: str) -> ClusteringRecord | None:
        """A clustering, or None."""
        with self._store.read() as view:
            return view.clusterings.find(clustering_id)

    def all(self) -> list[ClusteringRecord]:
        """All clusterings, oldest first."""
        with self._store.read() as view:
            return view.clusterings.all()

    def cluster(self, clustering_id: str, rank: int) -> ClusterRecord:
        """One cluster of a clustering; rank 0 is the largest.

        Raises:
            ClusteringNotFoundError: There is none.
        """
        with self._store.read() as view:
            return view.clusterings.cluster(clustering_id, rank)

    def clusters(
        self, clustering_id: str, start: int = 0, most: int | None = None
    ) -> list[tuple[int, ClusterRecord]]:
        """Rank and record of up to `most` clusters from a rank on.

        Raises:
            ClusteringNotFoundError: There is no such clustering.
        """
        with self._store.read() as view:
            view.clusterings.get(clustering_id)
            found = view.clusterings.clusters(clustering_id, start)
            if most is None:
                return list(found)
            return [one for _, one in zip(range(most), found, strict=False)]


def _put(record: ClusteringRecord) -> Command[None]:
    def command(txn: Transaction) -> Effects[None]:
        txn.clusterings.put(record)
        return Effects(None)

    return command


def _put_clusters(
    clustering_id: str, start: int, clusters: Sequence[ClusterRecord]
) -> Command[None]:
    def command(txn: Transaction) -> Effects[None]:
        txn.clusterings.put_clusters(clustering_id, start, clusters)
        return Effects(None)

    return command


def _remove(clustering_id: str) -> Command[bool]:
    def command(txn: Transaction) -> Effects[bool]:
        return Effects(txn.clusterings.remove(clustering_id, _CLUSTERS_PER_COMMIT))

    return command
