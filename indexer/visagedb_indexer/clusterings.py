"""Results of clustering runs, kept beside the faces they speak of."""

import shutil
from collections.abc import Container, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer import cluster_edits, limits
from visagedb_indexer.commands import Command, Effects, RunCommand
from visagedb_indexer.frozen_faces import erase_frozen
from visagedb_indexer.store import ClusteringRecord, ClusterRecord, GalleryStore, Transaction

_ORDINAL_BYTES: Final = 8
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

    def work_folder(self, clustering_id: str) -> Path:
        """Where a run keeps what it has done; made by the run."""
        return self._store.environment.path / "clusterings" / clustering_id

    def remove_work(self, clustering_id: str) -> None:
        """Removes what a run has left, when it is done or given up."""
        shutil.rmtree(self.work_folder(clustering_id), ignore_errors=True)

    def erase_work(self, alive: NDArray[np.int64]) -> None:
        """Overwrites in what runs keep the vectors of faces that are not alive, by ordinal."""
        folder = self.work_folder("")
        for entry in folder.iterdir() if folder.exists() else ():
            erase_frozen(entry, alive)

    def tidy(self, unfinished: Container[str]) -> None:
        """Removes what runs have left that do not go on; for the start, while none runs."""
        folder = self.work_folder("")
        for entry in folder.iterdir() if folder.exists() else ():
            if entry.name not in unfinished:
                self.remove_work(entry.name)
        with self._store.read() as view:
            strays = view.clusterings.strays()
        for clustering_id in strays:
            if clustering_id not in unfinished:
                self.delete(clustering_id)

    def keep(self, record: ClusteringRecord, clusters: Sequence[ClusterRecord]) -> ClusteringRecord:
        """Keeps the result of a run, largest cluster first, and forgets the oldest results.

        The numbers of clusters are filled in here.

        The clustering exists from its record on, which comes last: a crash before leaves
        clusters of no clustering, which the next start removes.
        """
        singles = sum(len(cluster.ordinals) == _ORDINAL_BYTES for cluster in clusters)
        record = replace(
            record,
            cluster_count=len(clusters) - singles,
            single_count=singles,
            rank_count=len(clusters),
        )
        for start in range(0, len(clusters), _CLUSTERS_PER_COMMIT):
            part = clusters[start : start + _CLUSTERS_PER_COMMIT]
            self._run(_put_clusters(record.id, start, part))
        self._run(_put(record))
        self._forget_others(record.id)
        return record

    def _forget_others(self, newest: str) -> None:
        # Ids begin with a time; after the clock was set back the newest is not the last.
        with self._store.read() as view:
            known = [record.id for record in view.clusterings.all() if record.id != newest]
        surplus = max(0, len(known) - limits.CLUSTERINGS_KEPT_MAX + 1)
        for clustering_id in known[:surplus]:
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

    def join(self, clustering_id: str, ranks: Sequence[int]) -> tuple[int, ClusterRecord]:
        """Makes one cluster of several; it has the rank of the largest.

        Raises:
            ClusteringNotFoundError: There is no such clustering or cluster.
            LimitExceededError: There were too many edits.
        """
        return self._run(cluster_edits.join(clustering_id, ranks))

    def split(
        self, clustering_id: str, rank: int, leaving: Set[int]
    ) -> tuple[tuple[int, ClusterRecord], ClusterRecord]:
        """Makes a cluster of its own of some faces of one, by ordinal.

        Returns:
            Rank and record of the new cluster, and what the old one is now.

        Raises:
            ClusteringNotFoundError: There is no such clustering or cluster.
            InvalidArgumentError: No face would leave, or all would, or one is not in it.
            LimitExceededError: There were too many edits.
        """
        return self._run(cluster_edits.split(clustering_id, rank, leaving))

    def undo(self, clustering_id: str) -> ClusteringRecord:
        """Undoes the last join or split.

        Raises:
            ClusteringNotFoundError: There is no such clustering.
            NotUndoableError: There is no edit left.
        """
        return self._run(cluster_edits.undo(clustering_id))


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
