"""Clusterings in the database of a gallery."""

from collections.abc import Iterator, Sequence

from visagedb_indexer.errors import ClusteringNotFoundError, NotUndoableError
from visagedb_indexer.store import schema
from visagedb_indexer.store.environment import Environment, LmdbTransaction
from visagedb_indexer.store.records import (
    ClusterEdit,
    ClusteringRecord,
    ClusterRecord,
    decode,
    encode,
)


class ClusteringReader:
    """Reads clusterings in one transaction."""

    def __init__(self, environment: Environment, txn: LmdbTransaction) -> None:
        self._txn = txn
        self._db = environment.handle

    def find(self, clustering_id: str) -> ClusteringRecord | None:
        """A clustering by id, or None."""
        data = self._txn.get(clustering_id.encode(), db=self._db(schema.CLUSTERINGS))
        return None if data is None else decode(data, ClusteringRecord)

    def get(self, clustering_id: str) -> ClusteringRecord:
        """A clustering by id.

        Raises:
            ClusteringNotFoundError: There is none.
        """
        record = self.find(clustering_id)
        if record is None:
            raise ClusteringNotFoundError(f"there is no clustering {clustering_id!r}")
        return record

    def all(self) -> list[ClusteringRecord]:
        """All clusterings, oldest first."""
        with self._txn.cursor(db=self._db(schema.CLUSTERINGS)) as cursor:
            records = [decode(data, ClusteringRecord) for _, data in cursor.iternext()]
        return sorted(records, key=lambda record: (record.create_time_us, record.id))

    def cluster(self, clustering_id: str, rank: int) -> ClusterRecord:
        """One cluster of a clustering; rank 0 is the largest.

        Raises:
            ClusteringNotFoundError: There is none.
        """
        key = schema.cluster_key(clustering_id, rank)
        data = self._txn.get(key, db=self._db(schema.CLUSTERS))
        if data is None:
            raise ClusteringNotFoundError(f"clustering {clustering_id!r} has no cluster {rank}")
        return decode(data, ClusterRecord)

    def clusters(self, clustering_id: str, start: int = 0) -> Iterator[tuple[int, ClusterRecord]]:
        """Rank and record of the clusters from a rank on."""
        prefix = schema.cluster_key(clustering_id, 0)[:-4]
        with self._txn.cursor(db=self._db(schema.CLUSTERS)) as cursor:
            found = cursor.set_range(schema.cluster_key(clustering_id, start))
            while found:
                key, data = cursor.item()
                if key[: len(prefix)] != prefix:
                    return
                yield schema.read_u32(bytes(key[-4:])), decode(data, ClusterRecord)
                found = cursor.next()

    def strays(self) -> list[str]:
        """Ids under which clusters lie although no clustering has the id."""
        found: list[str] = []
        with self._txn.cursor(db=self._db(schema.CLUSTERS)) as cursor:
            more = cursor.first()
            while more:
                clustering_id = bytes(cursor.key()[:-5]).decode()
                if self.find(clustering_id) is None:
                    found.append(clustering_id)
                more = cursor.set_range(clustering_id.encode() + b"\1")
        return found


class ClusteringWriter(ClusteringReader):
    """Writes clusterings in one write transaction."""

    def put(self, record: ClusteringRecord) -> None:
        """Makes a clustering exist, or replaces its record."""
        self._txn.put(record.id.encode(), encode(record), db=self._db(schema.CLUSTERINGS))

    def put_clusters(
        self, clustering_id: str, start: int, clusters: Sequence[ClusterRecord]
    ) -> None:
        """Writes clusters at the ranks from `start` on."""
        for rank, cluster in enumerate(clusters, start):
            key = schema.cluster_key(clustering_id, rank)
            self._txn.put(key, encode(cluster), db=self._db(schema.CLUSTERS))

    def put_cluster(self, clustering_id: str, rank: int, cluster: ClusterRecord | None) -> None:
        """Writes one cluster; None removes it."""
        key = schema.cluster_key(clustering_id, rank)
        if cluster is None:
            self._txn.delete(key, db=self._db(schema.CLUSTERS))
        else:
            self._txn.put(key, encode(cluster), db=self._db(schema.CLUSTERS))

    def put_edit(self, clustering_id: str, number: int, edit: ClusterEdit) -> None:
        """Keeps what is needed to undo an edit."""
        key = schema.cluster_key(clustering_id, number)
        self._txn.put(key, encode(edit), db=self._db(schema.CLUSTER_EDITS))

    def take_edit(self, clustering_id: str, number: int) -> ClusterEdit:
        """Takes an edit out, to be undone.

        Raises:
            NotUndoableError: There is none of this number.
        """
        edits = self._db(schema.CLUSTER_EDITS)
        key = schema.cluster_key(clustering_id, max(number, 0))
        data = self._txn.get(key, db=edits) if number >= 0 else None
        if data is None:
            raise NotUndoableError(f"clustering {clustering_id!r} has no edit to undo")
        edit = decode(data, ClusterEdit)
        self._txn.delete(key, db=edits)
        return edit

    def remove(self, clustering_id: str, most: int) -> bool:
        """Removes a clustering, of its clusters at most so many; whether more are left."""
        self._txn.delete(clustering_id.encode(), db=self._db(schema.CLUSTERINGS))
        edits_left = self._remove(schema.CLUSTER_EDITS, clustering_id, most)
        return self._remove(schema.CLUSTERS, clustering_id, most) or edits_left

    def _remove(self, database: schema.SubDatabase, clustering_id: str, most: int) -> bool:
        prefix = schema.cluster_key(clustering_id, 0)[:-4]
        with self._txn.cursor(db=self._db(database)) as cursor:
            found = cursor.set_range(prefix)
            for _ in range(most):
                if not found or cursor.key()[: len(prefix)] != prefix:
                    return False
                found = cursor.delete()
            return bool(found) and cursor.key()[: len(prefix)] == prefix
