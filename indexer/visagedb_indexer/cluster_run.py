"""A clustering run over a gallery: from its faces to a kept result, over crashes if need be.

What a run has done lies in a folder of its own beside the gallery's database: the faces as they
were at its beginning, the model, and the graph as far as it is built. A run of the same id goes
on from there and finishes with the same result.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer import limits, validation
from visagedb_indexer.clock import now_us
from visagedb_indexer.cluster_results import describe
from visagedb_indexer.clustering import (
    METHOD_DEFAULT,
    METHODS,
    Edges,
    GraphBuilder,
    PldaModel,
    assign,
    choose_floor,
    for_gallery,
    partitioner,
    shipped_model,
)
from visagedb_indexer.clustering.plda import PEOPLE_MIN
from visagedb_indexer.errors import (
    GalleryTooLargeError,
    InvalidArgumentError,
    InvalidModelCardError,
)
from visagedb_indexer.failpoints import reached
from visagedb_indexer.filters import parse_filter
from visagedb_indexer.frozen_faces import FrozenFaces, freeze
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.store import ClusteringRecord
from visagedb_indexer.values import FaceScope, Vector

Progress = Callable[[float, str], None]
"""Told the progress, 0 to 1, and what is being done; raises to cancel the run."""

THRESHOLD_METHOD: Final = "average-linkage"
"""What a threshold without a method means."""
_NEIGHBOURS: Final = {"infomap": 100, "leiden": 100, "chinese-whispers": 100}
"""Methods that read the graph alone need more neighbours than the largest person has faces."""
_NEIGHBOURS_DEFAULT: Final = 10
_FIT_FACES_MAX: Final = 50_000
_SAVE_SECONDS_MIN: Final = 1.0
_SAVE_SHARE: Final = 0.02
"""Of the time, what checkpoints may take."""


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What a run is to do.

    Attributes:
        scope: Which faces.
        filter: Only those of identities that pass; empty for all.
        method: One of `METHODS`; empty for the default, or with a threshold for
            `THRESHOLD_METHOD`.
        threshold: For the methods that need one; None elsewhere.
        base: Id of the clustering to go on from; empty for a full run.
    """

    scope: FaceScope = FaceScope.ALL
    filter: str = ""
    method: str = ""
    threshold: float | None = None
    base: str = ""

    @property
    def chosen_method(self) -> str:
        """The method that is meant."""
        given = METHOD_DEFAULT if self.threshold is None else THRESHOLD_METHOD
        return self.method or given

    @property
    def needs_threshold(self) -> bool:
        """Whether the method cannot do without one."""
        return self.chosen_method != METHOD_DEFAULT and not self.base

    def check(self) -> None:
        """Refuses what cannot be done.

        Raises:
            InvalidArgumentError: The method is unknown, a threshold is missing or not wanted,
                or something is given that the base says already.
            InvalidFilterError: The filter cannot be read.
        """
        parse_filter(self.filter)
        validation.check_cosine(self.threshold, "threshold")
        if self.chosen_method not in METHODS:
            raise InvalidArgumentError(
                f"there is no clustering method {self.method[:100]!r}; there are "
                f"{', '.join(METHODS)}",
                {"field": "method"},
            )
        if self.threshold is not None and self.chosen_method == METHOD_DEFAULT:
            raise InvalidArgumentError(
                f"the method {METHOD_DEFAULT} needs no threshold", {"field": "threshold"}
            )
        if self.base and (self.filter or self.method or self.threshold is not None):
            raise InvalidArgumentError(
                "a run that goes on from another one takes its filter, scope and method",
                {"field": "base"},
            )
        if self.filter and self.scope is FaceScope.LOOSE:
            raise InvalidArgumentError(
                "loose faces have no labels to filter by", {"field": "filter"}
            )


def cluster_gallery(
    gallery: Gallery,
    clustering_id: str,
    plan: ClusterPlan,
    *,
    progress: Progress,
) -> ClusteringRecord:
    """Groups faces of a gallery by person, without regard to their identities.

    Args:
        gallery: Whose faces.
        clustering_id: Under which the result is kept, and a run that was cut short found.
        plan: What to do.
        progress: Told how far it is.

    A run that ends with an error leaves its folder: the caller knows whether it goes on.

    Raises:
        InvalidArgumentError: The plan cannot be carried out.
        GalleryTooLargeError: There are more faces than a run takes.
        ClusteringNotFoundError: The base is gone.
        NotSupportedError: The method needs a package that is not installed.
    """
    plan.check()
    kept = gallery.clusterings.find(clustering_id)
    folder = gallery.clusterings.work_folder(clustering_id)
    if kept is None:
        kept = _Run(gallery, clustering_id, plan, progress, folder).finish()
    reached("clustering.before_work_removal")
    gallery.clusterings.remove_work(clustering_id)
    reached("clustering.after_work_removal")
    return kept


class _Run:
    def __init__(
        self,
        gallery: Gallery,
        clustering_id: str,
        plan: ClusterPlan,
        progress: Progress,
        folder: Path,
    ) -> None:
        self._gallery = gallery
        self._id = clustering_id
        self._plan = plan
        self._progress = progress
        self._folder = folder

    def finish(self) -> ClusteringRecord:
        """Does what is left to do."""
        return self._from_base() if self._plan.base else self._in_full()

    def _in_full(self) -> ClusteringRecord:
        plan = self._plan
        faces = self._read(self._gallery.ordinals(plan.filter, plan.scope))
        method = plan.chosen_method
        edges, floor = self._graph(faces, method)
        self._progress(0.85, "finding persons")
        threshold = floor if plan.threshold is None else plan.threshold
        labels = np.arange(len(faces), dtype=np.int32)
        if len(edges):
            labels = partitioner(method, self._model(faces, edges), threshold).partition(
                edges, faces.vectors, check=lambda: self._progress(0.85, "finding persons")
            )
        record = self._record(faces, method, threshold, plan.scope, plan.filter)
        return self._keep(record, faces, labels, edges)

    def _from_base(self) -> ClusteringRecord:
        base = self._gallery.clusterings.get(self._plan.base)
        faces = self._read(self._gallery.ordinals(base.filter, base.scope))
        known = self._labels_of(base.id, faces)
        old, new = np.flatnonzero(known >= 0), np.flatnonzero(known < 0)
        labels = known
        if len(new):
            floor = base.threshold if base.method == METHOD_DEFAULT else choose_floor(faces.vectors)
            known_faces = _Rows(faces.vectors, old)
            model = self._model(faces)
            self._progress(0.9, "finding the new faces' persons")
            found = assign(faces.vectors[new], known_faces, known[old], model, floor=floor)
            labels[new] = found.labels
        record = self._record(faces, base.method, base.threshold, base.scope, base.filter)
        return self._keep(record, faces, _by_first_member(labels), None)

    def _read(self, ordinals: NDArray[np.int64]) -> FrozenFaces:
        self._progress(0.0, "reading the faces")
        if len(ordinals) > limits.CLUSTER_FACES_MAX:
            raise GalleryTooLargeError(
                f"{len(ordinals)} faces are to be clustered; a run takes at most "
                f"{limits.CLUSTER_FACES_MAX}; use a filter",
                {"faces": str(len(ordinals)), "limit": str(limits.CLUSTER_FACES_MAX)},
            )
        faces = freeze(self._gallery, ordinals, self._folder)
        self._progress(0.05, "comparing faces")
        return faces

    def _graph(self, faces: FrozenFaces, method: str) -> tuple[Edges, float]:
        if len(faces) < 2:
            none = np.empty(0, np.int32)
            return Edges(none, none, np.empty(0, np.float32), len(faces)), 1.0
        builder = GraphBuilder(
            faces.vectors,
            floor=None if method == METHOD_DEFAULT else self._plan.threshold,
            neighbours=_NEIGHBOURS.get(method, _NEIGHBOURS_DEFAULT),
        )
        checkpoint = self._folder / "graph"
        builder.restore(checkpoint)
        save_after = time.monotonic() + _SAVE_SECONDS_MIN
        for done in builder.run():
            self._progress(0.05 + 0.8 * done / builder.tiles, "comparing faces")
            started = time.monotonic()
            if started > save_after:
                builder.save(checkpoint)
                took = time.monotonic() - started
                save_after = time.monotonic() + max(_SAVE_SECONDS_MIN, took / _SAVE_SHARE)
        return builder.edges(), builder.floor

    def _model(self, faces: FrozenFaces, edges: Edges | None = None) -> PldaModel:
        """The gallery's own model, else the shipped one, else one found without labels."""
        path = self._folder / "model"
        if path.exists():
            with contextlib.suppress(InvalidModelCardError):
                return PldaModel.from_bytes(path.read_bytes())
        self._progress(0.85, "fitting the model")
        made_by = self._gallery.model
        shipped = shipped_model(made_by.name, made_by.version)
        people = self._people()
        there, vectors = self._gallery.vectors(people)
        if len(people):
            owners = self._gallery.owners(there)
            model = for_gallery(vectors, owners, shipped=shipped)
        else:
            model = for_gallery(faces.vectors, None, shipped=shipped, edges=edges)
        aside = path.with_name("model.new")
        aside.write_bytes(model.to_bytes())
        reached("clustering.before_model")
        aside.rename(path)
        reached("clustering.after_model")
        return model

    def _people(self) -> NDArray[np.int64]:
        """Faces of whole identities to fit a model on; none when they are too few."""
        faces = self._gallery.ordinals("", FaceScope.IDENTITIES)
        owners = self._gallery.owners(faces)
        _, which, counts = np.unique(owners, return_inverse=True, return_counts=True)
        if np.count_nonzero(counts > 1) < PEOPLE_MIN:
            return np.empty(0, np.int64)
        several = faces[counts[which] > 1]
        step = max(1, -(-len(several) // _FIT_FACES_MAX))
        chosen: NDArray[np.int64] = several[self._gallery.owners(several) % step == 0]
        return chosen

    def _labels_of(self, base_id: str, faces: FrozenFaces) -> NDArray[np.int32]:
        """The base's cluster of each face, by rank; -1 for faces that it does not have."""
        labels = np.full(len(faces), -1, np.int32)
        for rank, cluster in self._gallery.clusterings.clusters(base_id):
            members = np.frombuffer(cluster.ordinals, "<i8")
            places = np.searchsorted(faces.ordinals, members)
            places = np.minimum(places, max(0, len(faces) - 1))
            if len(faces):
                labels[places[faces.ordinals[places] == members]] = rank
        return labels

    def _record(
        self, faces: FrozenFaces, method: str, threshold: float, scope: FaceScope, text: str
    ) -> ClusteringRecord:
        return ClusteringRecord(
            id=self._id,
            create_time_us=now_us(),
            face_count=len(faces),
            cluster_count=0,
            single_count=0,
            threshold=threshold,
            method=method,
            generation=self._gallery.counters.generation,
            scope=scope,
            filter=text,
            base=self._plan.base,
        )

    def _keep(
        self,
        record: ClusteringRecord,
        faces: FrozenFaces,
        labels: NDArray[np.int32],
        edges: Edges | None,
    ) -> ClusteringRecord:
        self._progress(0.95, "describing the clusters")
        clusters = describe(faces.ordinals, faces.vectors, labels, edges)
        self._progress(0.98, "keeping the result")
        return self._gallery.clusterings.keep(record, clusters)


class _Rows:
    """Some rows of an array, without a copy of them all."""

    def __init__(self, vectors: Vector, rows: NDArray[np.int64]) -> None:
        self._vectors = vectors
        self._rows = rows

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self._rows), self._vectors.shape[1]

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> Vector:
        return self._vectors[self._rows[rows]]


def _by_first_member(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """The same partition, numbered 0, 1, ... in the order of each cluster's first member."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int32)
    number[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    result: NDArray[np.int32] = number[inverse]
    return result
