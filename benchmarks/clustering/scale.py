"""Synthetic people by the hundred thousand: time, memory, neighbours found, faces that come later.

The graph is built once, of all faces; for the incremental run the last ones are taken out of
it again, clustered without, and assigned.
"""

import resource
import time
from pathlib import Path

import numpy as np
from galleries import Spectrum, Vectors
from numpy.typing import NDArray

from clustering import ours
from clustering.embeddings import Faces, load
from clustering.people import Spread, synthetic_people
from clustering.scores import agreement
from visagedb_indexer.clustering import Edges, GraphBuilder, PldaModel, assign, fit
from visagedb_indexer.clustering.plda import least_evidence

_MODEL_FACES = 20_000
_SAVE_SECONDS = 60.0
_JUDGED_ROWS = 1000
_JUDGED_BLOCKS = 50
_NEIGHBOURS = 10


def spread_of(path: Path | None) -> Spread:
    """Of real embeddings, or the measured spectrum."""
    if path is None:
        return Spread.of_spectrum(Spectrum.load("sface_128"))
    faces = load(path)
    return Spread.measured(faces.vectors, faces.people)


def measure(
    spread: Spread, count: int, new: int, seed: int, checkpoints: Path | None
) -> dict[str, float]:
    """All figures of one size; the model is fitted on other synthetic people."""
    vectors, people = synthetic_people(spread, count, seed)
    model = fit(*synthetic_people(spread, _MODEL_FACES, seed + 1))
    edges, floor, graph_seconds = build(vectors, _checkpoint(checkpoints, f"scale_{count}_{seed}"))
    started = time.perf_counter()
    labels = ours.partition(edges, vectors, model)
    partition_seconds = time.perf_counter() - started
    figures: dict[str, float] = {
        "faces": count,
        "people": int(people.max()) + 1,
        "floor": floor,
        "edges": len(edges),
        "graph_seconds": graph_seconds,
        "partition_seconds": partition_seconds,
        **neighbours_found(vectors, edges, floor, model),
        **agreement(labels, people).as_dict(),
    }
    new = min(new, count // 10)
    figures.update(incremental(vectors, people, edges, floor, model, new))
    figures["memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return figures


def hidden(
    faces: Faces, count: int, seed: int, checkpoints: Path | None
) -> dict[str, dict[str, float]]:
    """Real faces among synthetic people of one face each, judged by halves of the real people."""
    spread = Spread.measured(faces.vectors, faces.people)
    strangers, _ = synthetic_people(spread, count, seed, one_face_each=True)
    vectors = np.concatenate([faces.vectors, strangers])
    people = np.concatenate([faces.people, faces.people.max() + 1 + np.arange(count)])
    edges, floor, seconds = build(vectors, _checkpoint(checkpoints, f"hidden_{count}_{seed}"))
    one, other = faces.halves(seed)
    rows = {}
    for name, taught, judged in (("first", one, other), ("second", other, one)):
        model = fit(taught.vectors, taught.people)
        started = time.perf_counter()
        labels = ours.partition(edges, vectors, model)
        rows[f"fitted on the {name} half"] = {
            "floor": floor,
            "edges": len(edges),
            "graph_seconds": seconds,
            "partition_seconds": time.perf_counter() - started,
            **neighbours_found(vectors, edges, floor, model),
            **agreement(labels, people, np.isin(people, judged.people)).as_dict(),
        }
    return rows


def build(vectors: Vectors, checkpoint: Path | None) -> tuple[Edges, float, float]:
    """The graph, its floor, and the seconds; from a checkpoint on if there is one."""
    started, before = time.perf_counter(), 0.0
    builder = GraphBuilder(vectors)
    clock = checkpoint.with_suffix(".seconds") if checkpoint else None
    if checkpoint and clock and builder.restore(checkpoint):
        before = float(clock.read_text())
    saved = time.perf_counter()
    for _ in builder.run():
        if checkpoint and clock and time.perf_counter() - saved > _SAVE_SECONDS:
            builder.save(checkpoint)
            saved = time.perf_counter()
            clock.write_text(str(before + saved - started))
    edges = builder.edges()
    seconds = before + time.perf_counter() - started
    if checkpoint and clock:
        builder.save(checkpoint)
        clock.write_text(str(seconds))
    return edges, builder.floor, seconds


def neighbours_found(
    vectors: Vectors, edges: Edges, floor: float, model: PldaModel
) -> dict[str, float]:
    """Of the true nearest neighbours of a sample of faces, how many the graph has.

    The operating point is the cosine at which two single faces are merged.
    """
    count = len(vectors)
    rows = np.sort(np.random.default_rng(0).choice(count, min(count, _JUDGED_ROWS), replace=False))
    nearest = [_nearest(vectors, block, floor) for block in np.array_split(rows, _JUDGED_BLOCKS)]
    one, other, cosines = (np.concatenate(column) for column in zip(*nearest, strict=True))
    keys = (np.minimum(one, other).astype(np.int64) << 32) | np.maximum(one, other)
    found = np.isin(keys, (edges.left.astype(np.int64) << 32) | edges.right)
    point = _operating_point(vectors[one], vectors[other], cosines, model, least_evidence(count))
    above = cosines >= point
    return {
        "neighbours_found": float(found.mean()),
        "operating_point": point,
        "found_above_point": float(found[above].mean()),
    }


def _nearest(
    vectors: Vectors, rows: NDArray[np.integer], floor: float
) -> tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.float32]]:
    """The true nearest neighbours of some rows, above the floor: row, neighbour, cosine."""
    scores = vectors[rows] @ vectors.T
    scores[np.arange(len(rows)), rows] = -2.0
    best = np.argpartition(scores, -_NEIGHBOURS, axis=1)[:, -_NEIGHBOURS:]
    cosines = np.take_along_axis(scores, best, axis=1)
    i, j = np.nonzero(cosines >= floor)
    return rows[i], best[i, j], cosines[i, j]


def _operating_point(
    one: Vectors, other: Vectors, cosines: NDArray[np.float32], model: PldaModel, least: float
) -> float:
    single = np.ones(len(one), np.float32)
    evidence = model.llr(single, model.project(one), single, model.project(other))
    close = np.abs(evidence - least) < 1
    return float(np.median(cosines[close])) if close.any() else float(cosines.min())


def incremental(
    vectors: Vectors,
    people: NDArray[np.integer],
    edges: Edges,
    floor: float,
    model: PldaModel,
    new: int,
) -> dict[str, float]:
    """The last faces join the clusters of the others; compared with the full run."""
    count = len(vectors) - new
    old = edges.right < count
    base = Edges(edges.left[old], edges.right[old], edges.score[old], count)
    labels = ours.partition(base, vectors[:count], model)
    started = time.perf_counter()
    later = assign(vectors[count:], vectors[:count], labels, model, floor=floor)
    seconds = time.perf_counter() - started
    judged = agreement(np.concatenate([labels, later.labels]), people)
    return {
        "new_faces": new,
        "incremental_seconds": seconds,
        "incremental_b_cubed_f": judged.b_cubed_f,
        "incremental_pairwise_precision": judged.pairwise_precision,
    }


def _checkpoint(folder: Path | None, name: str) -> Path | None:
    if folder is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.checkpoint"
