"""Clusters joined and split by hand, and the undoing of it, as commands."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Final

import numpy as np

from visagedb_indexer import limits
from visagedb_indexer.commands import Command, Effects
from visagedb_indexer.errors import InvalidArgumentError, LimitExceededError
from visagedb_indexer.store import ClusterEdit, ClusteringRecord, ClusterRecord, Transaction
from visagedb_indexer.values import Vector

_ORDINAL_BYTES: Final = 8


def join(clustering_id: str, ranks: Sequence[int]) -> Command[tuple[int, ClusterRecord]]:
    """Makes one cluster of several; it has the rank of the largest."""

    def command(txn: Transaction) -> Effects[tuple[int, ClusterRecord]]:
        record = _editable(txn, clustering_id)
        olds = {rank: txn.clusterings.cluster(clustering_id, rank) for rank in ranks}
        kept = min(olds, key=lambda rank: (-len(olds[rank].ordinals), rank))
        members = [_members(old) for old in olds.values()]
        joined = _cluster(txn, sorted({one for part in members for one in part}))
        others = {rank: _find(txn, clustering_id, rank) for rank in _neighbours(olds)}
        joined = _beside(txn, joined, others)
        after = {rank: joined if rank == kept else None for rank in olds}
        _apply(txn, record, olds, after, record.rank_count)
        return Effects((kept, joined))

    return command


def split(
    clustering_id: str, rank: int, leaving: Set[int]
) -> Command[tuple[tuple[int, ClusterRecord], ClusterRecord]]:
    """Makes a cluster of its own of some faces of one."""

    def command(txn: Transaction) -> Effects[tuple[tuple[int, ClusterRecord], ClusterRecord]]:
        record = _editable(txn, clustering_id)
        old = txn.clusterings.cluster(clustering_id, rank)
        members = set(_members(old))
        if not leaving or not members > leaving:
            raise InvalidArgumentError(
                f"{len(leaving)} faces would leave a cluster of {len(members)}; a split takes "
                "some of its faces, not all, and no others",
                {"field": "faces"},
            )
        left, remaining = _cluster(txn, sorted(leaving)), _cluster(txn, sorted(members - leaving))
        new = record.rank_count
        others = {near: _find(txn, clustering_id, near) for near in _neighbours({rank: old})}
        left, remaining = (
            _beside(txn, left, {**others, rank: remaining}),
            _beside(txn, remaining, {**others, new: left}),
        )
        after = {rank: remaining, new: left}
        _apply(txn, record, {rank: old, new: None}, after, new + 1)
        return Effects(((new, left), remaining))

    return command


def undo(clustering_id: str) -> Command[ClusteringRecord]:
    """Undoes the last join or split."""

    def command(txn: Transaction) -> Effects[ClusteringRecord]:
        record = txn.clusterings.get(clustering_id)
        edit = txn.clusterings.take_edit(clustering_id, record.edit_count - 1)
        before = dict(edit.before)
        present = {rank: _find(txn, clustering_id, rank) for rank in before}
        return Effects(_write(txn, record, present, before, edit.rank_count, record.edit_count - 1))

    return command


def _editable(txn: Transaction, clustering_id: str) -> ClusteringRecord:
    record = txn.clusterings.get(clustering_id)
    if record.edit_count >= limits.CLUSTER_EDITS_MAX:
        raise LimitExceededError(
            f"a clustering takes {limits.CLUSTER_EDITS_MAX} edits by hand",
            {"limit": str(limits.CLUSTER_EDITS_MAX)},
        )
    return record


def _apply(
    txn: Transaction,
    record: ClusteringRecord,
    before: Mapping[int, ClusterRecord | None],
    after: Mapping[int, ClusterRecord | None],
    rank_count: int,
) -> None:
    edit = ClusterEdit(tuple(before.items()), record.rank_count)
    txn.clusterings.put_edit(record.id, record.edit_count, edit)
    _write(txn, record, before, after, rank_count, record.edit_count + 1)


def _write(
    txn: Transaction,
    record: ClusteringRecord,
    before: Mapping[int, ClusterRecord | None],
    after: Mapping[int, ClusterRecord | None],
    rank_count: int,
    edit_count: int,
) -> ClusteringRecord:
    for rank, cluster in after.items():
        txn.clusterings.put_cluster(record.id, rank, cluster)
    several, singles = (
        sum(_is_single(one) == single for one in after.values() if one is not None)
        - sum(_is_single(one) == single for one in before.values() if one is not None)
        for single in (False, True)
    )
    record = replace(
        record,
        cluster_count=record.cluster_count + several,
        single_count=record.single_count + singles,
        rank_count=rank_count,
        edit_count=edit_count,
    )
    txn.clusterings.put(record)
    return record


def _cluster(txn: Transaction, ordinals: Sequence[int]) -> ClusterRecord:
    """The cluster of some faces; deleted ones count for nothing and come last."""
    places = np.asarray(ordinals, np.int64)
    vectors = txn.vectors(places)
    centre = vectors.sum(axis=0)
    centralities = vectors @ (centre / max(float(np.linalg.norm(centre)), 1e-6))
    there = np.any(vectors != 0, axis=1)
    order = np.lexsort((places, -centralities, ~there))
    return ClusterRecord(
        ordinals=places[order].astype("<i8").tobytes(),
        centralities=centralities[order].astype("<f4").tobytes(),
        cohesion=float(np.clip(centralities[there].mean(), -1, 1)) if there.any() else 0.0,
    )


def _neighbours(clusters: Mapping[int, ClusterRecord]) -> set[int]:
    """Ranks of the clusters that were nearest to some, without those themselves."""
    return {cluster.nearest for cluster in clusters.values() if cluster.nearest >= 0} - set(
        clusters
    )


def _beside(
    txn: Transaction, cluster: ClusterRecord, others: Mapping[int, ClusterRecord | None]
) -> ClusterRecord:
    """The cluster with the nearest of some others noted; those that are gone are not."""
    centre = _centre(txn, cluster)
    scores = {
        rank: float(np.clip(centre @ _centre(txn, other), -1, 1))
        for rank, other in others.items()
        if other is not None
    }
    if not scores:
        return cluster
    nearest = max(scores, key=lambda rank: (scores[rank], -rank))
    return replace(cluster, nearest=nearest, nearest_score=scores[nearest])


def _centre(txn: Transaction, cluster: ClusterRecord) -> Vector:
    centre = txn.vectors(np.asarray(_members(cluster), np.int64)).sum(axis=0)
    unit: Vector = centre / max(float(np.linalg.norm(centre)), 1e-6)
    return unit


def _find(txn: Transaction, clustering_id: str, rank: int) -> ClusterRecord | None:
    found = next(txn.clusterings.clusters(clustering_id, rank), None)
    return found[1] if found and found[0] == rank else None


def _members(cluster: ClusterRecord) -> list[int]:
    return [int(one) for one in np.frombuffer(cluster.ordinals, "<i8")]


def _is_single(cluster: ClusterRecord) -> bool:
    return len(cluster.ordinals) == _ORDINAL_BYTES
