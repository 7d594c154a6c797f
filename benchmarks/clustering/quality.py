"""Real faces: the default against peers, on people whom neither has seen.

The people of the first collection are split in halves. On one half the PLDA model is fitted
and every peer's number is chosen by B-cubed F; both are judged on the other half, and back.
The second collection is clustered with what the whole first one taught.
"""

import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from galleries import Vectors
from numpy.typing import NDArray

from clustering import ours
from clustering.embeddings import Faces
from clustering.peers import PEERS, Peer
from clustering.scores import Agreement, agreement
from visagedb_indexer.clustering import fit

OURS = "VisageDB (PLDA agglomeration)"


@dataclass(frozen=True, slots=True)
class Judged:
    """One method on one set of faces."""

    method: str
    value: float | None
    agreement: Agreement
    seconds: float


def halves(faces: Faces, seeds: int) -> Iterator[tuple[str, list[Judged]]]:
    """Every method on every half of some random splits."""
    for seed in range(seeds):
        one, other = faces.halves(seed)
        for name, taught, judged in (("first", one, other), ("second", other, one)):
            yield f"split {seed}, fitted on the {name} half", list(all_methods(taught, judged))


def all_methods(taught: Faces, judged: Faces) -> Iterator[Judged]:
    """The default and all peers that are installed."""
    model = fit(taught.vectors, taught.people)
    yield _judge(OURS, None, judged, lambda vectors: ours.cluster(vectors, model).labels)
    for name, peer in PEERS.items():
        if peer.library is None or importlib.util.find_spec(peer.library):
            value = _best_value(peer, taught)
            yield _judge(name, value, judged, _with(peer, value))


def summary(runs: list[list[Judged]]) -> dict[str, dict[str, float]]:
    """Means over runs, and the least B-cubed F and pairwise precision of any."""
    rows: dict[str, dict[str, float]] = {}
    for method in [judged.method for judged in runs[0]]:
        found = [judged for run in runs for judged in run if judged.method == method]
        figures = [judged.agreement.as_dict() for judged in found]
        row = {name: float(np.mean([f[name] for f in figures])) for name in figures[0]}
        row["b_cubed_f_least"] = min(f["b_cubed_f"] for f in figures)
        row["pairwise_precision_least"] = min(f["pairwise_precision"] for f in figures)
        row["seconds"] = float(np.mean([judged.seconds for judged in found]))
        rows[method] = row
    return rows


def _with(peer: Peer, value: float) -> Callable[[Vectors], NDArray[np.integer]]:
    return lambda vectors: peer.cluster(vectors, value)


def _best_value(peer: Peer, faces: Faces) -> float:
    def quality(value: float) -> float:
        return agreement(peer.cluster(faces.vectors, value), faces.people).b_cubed_f

    return max(peer.values, key=quality)


def _judge(
    method: str,
    value: float | None,
    faces: Faces,
    cluster: Callable[[Vectors], NDArray[np.integer]],
) -> Judged:
    started = time.perf_counter()
    labels = cluster(faces.vectors)
    seconds = time.perf_counter() - started
    return Judged(method, value, agreement(labels, faces.people), seconds)
