"""Where the faces of an evaluation come from: a folder of people, a list of pairs, a gallery."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol, TypeVar

import numpy as np

from visagedb import Client, Face, Identity, IdentityNotFoundError, ScoreFusion
from visagedb._cli._people import Photo, read_album
from visagedb_indexer import defaults, limits
from visagedb_indexer.evaluation import (
    LabelledFaces,
    NothingToEvaluateError,
    ScoredPairs,
    drawn_people,
    labelled_faces,
)
from visagedb_indexer.evaluation.rates import SCORE_MIN
from visagedb_indexer.values import Fusion, Vector
from visagedb_server.evaluation.embedding import EmbeddingOptions, FolderEmbedder
from visagedb_server.evaluation.pair_lists import read_pair_list
from visagedb_server.evaluation.values import (
    Embedded,
    FaceReference,
    FailedImage,
    Failure,
    Outcome,
    Subject,
)

T = TypeVar("T")

_PAGE: Final = 1000


class Progress(Protocol):
    """Shows how far something is."""

    def __call__(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """Passes the items through."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FacesToEvaluate:
    """Faces, what to say about them, and how those of one person make one score."""

    subject: Subject
    faces: LabelledFaces
    fusion: Fusion = defaults.FUSION


@dataclass(frozen=True, slots=True, eq=False)
class PairsToEvaluate:
    """Scored pairs, and what to say about them."""

    subject: Subject
    pairs: ScoredPairs


def folder_faces(
    folder: Path, embedding: EmbeddingOptions, seed: int, progress: Progress
) -> FacesToEvaluate:
    """Embeds a folder whose sub-folders have the people's names.

    Raises:
        NothingToEvaluateError: It has no images, or none with a usable face.
        TooFewPeopleError: There are too few people.
        IndexerError: No image can be embedded.
    """
    album = read_album(folder)
    if not album.photos:
        raise NothingToEvaluateError(
            f"no images in sub-folders of {folder}; each sub-folder holds the images of one person"
        )
    notes = []
    if album.skipped:
        notes.append(f"{album.skipped:,} files are no images of anybody and were passed over.")
    photos = _drawn(album.photos, seed, notes)
    with FolderEmbedder(embedding) as embedder:
        paths = [photo.path for photo in photos]
        outcomes = list(progress(embedder.embed(paths), len(paths), "embedding"))
        model = embedder.model
    used = [(p, o) for p, o in zip(photos, outcomes, strict=True) if isinstance(o, Embedded)]
    failures = _failures([photo.source for photo in photos], outcomes)
    if not used:
        raise NothingToEvaluateError(_no_face(len(photos), failures))
    faces = labelled_faces(
        np.stack([outcome.vector for _, outcome in used]),
        [photo.identity for photo, _ in used],
        [outcome.quality for _, outcome in used],
    )
    subject = Subject(
        kind="folder",
        name=_readable(str(folder)),
        model=f"{model.name}@{model.version}",
        created=_now(),
        images=len(photos),
        faces=len(used),
        people=len(faces.people),
        failures=failures,
        notes=tuple(notes),
        references=tuple(
            FaceReference(p.source, p.display_name, p.path, outcome.box) for p, outcome in used
        ),
    )
    return FacesToEvaluate(subject, faces)


def pair_list(
    path: Path, folder: Path | None, embedding: EmbeddingOptions, progress: Progress
) -> PairsToEvaluate:
    """Embeds the images of a list of pairs. A pair with a failed image does not match.

    Raises:
        InvalidPairListError: The list cannot be read.
        NothingToEvaluateError: No image has a usable face.
        IndexerError: No image can be embedded.
    """
    listed = read_pair_list(path, folder)
    with FolderEmbedder(embedding) as embedder:
        outcomes = list(progress(embedder.embed(listed.images), len(listed.images), "embedding"))
        model = embedder.model
    names = [_relative(image, folder or path.parent) for image in listed.images]
    failures = _failures(names, outcomes)
    if len(failures) == len(outcomes):
        raise NothingToEvaluateError(_no_face(len(outcomes), failures))
    vectors = np.zeros((len(outcomes), model.dimension), dtype=np.float32)
    quality = np.full(len(outcomes), np.nan)
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, Embedded):
            vectors[number], quality[number] = outcome.vector, outcome.quality
    usable = np.isfinite(quality)
    one, other = listed.pairs.T
    scores = np.einsum("ij,ij->i", vectors[one], vectors[other])
    both = usable[one] & usable[other]
    notes = []
    if not both.all():
        notes.append(
            f"{int((~both).sum()):,} of {len(both):,} pairs have an image without a usable face; "
            "they count as not matching."
        )
    subject = Subject(
        kind="pairs",
        name=_readable(str(path)),
        model=f"{model.name}@{model.version}",
        created=_now(),
        images=len(outcomes),
        faces=int(usable.sum()),
        people=0,
        failures=failures,
        notes=tuple(notes),
        references=tuple(
            FaceReference(name, "", image, outcome.box if isinstance(outcome, Embedded) else None)
            for name, image, outcome in zip(names, listed.images, outcomes, strict=True)
        ),
    )
    pairs = ScoredPairs(
        scores=np.where(both, scores, SCORE_MIN).astype(np.float32),
        same=listed.same,
        pairs=listed.pairs,
        owners=listed.owners,
        quality=quality,
        folds=listed.folds,
    )
    return PairsToEvaluate(subject, pairs)


def gallery_faces(client: Client, gallery: str, seed: int, progress: Progress) -> FacesToEvaluate:
    """Reads the templates of a running server's gallery.

    Raises:
        VisageError: The server does not answer, or has no such gallery.
        TooFewPeopleError: There are too few people.
        NothingToEvaluateError: The gallery is empty.
    """
    found = client.get_gallery(gallery)
    identities = [i for i in client.list_identities(gallery, page_size=_PAGE) if i.face_count]
    if not identities:
        raise NothingToEvaluateError(f"the gallery {gallery} has no faces")
    notes: list[str] = []
    kept = _drawn_identities(identities, seed, notes)
    vectors, people, quality, references = [], [], [], []
    for identity in progress(kept, len(kept), "reading"):
        name = identity.display_name or identity.id
        for face in _faces_of(client, gallery, identity):
            if face.template is None:
                continue
            detection = face.detection
            vectors.append(face.template.vector)
            people.append(identity.id)
            measured = None if detection is None else detection.quality
            quality.append(None if measured is None else measured.score)
            references.append(FaceReference(face.source or face.id, name))
    if not vectors:
        raise NothingToEvaluateError(f"the gallery {gallery} has no faces any more")
    faces = labelled_faces(_unit(np.stack(vectors)), people, quality)
    subject = Subject(
        kind="gallery",
        name=found.id,
        model=f"{found.model.name}@{found.model.version}".rstrip("@"),
        created=_now(),
        images=len(references),
        faces=len(references),
        people=len(faces.people),
        notes=tuple(notes),
        references=tuple(references),
    )
    return FacesToEvaluate(subject, faces, _fusion(found.score_fusion))


def _fusion(of_gallery: ScoreFusion) -> Fusion:
    # A server may know more fusions than this program.
    return defaults.FUSION if of_gallery is ScoreFusion.UNKNOWN else Fusion(of_gallery.value)


def _faces_of(client: Client, gallery: str, identity: Identity) -> Iterable[Face]:
    """The faces of an identity; none if it was deleted a moment ago."""
    try:
        return list(client.list_faces(gallery, identity.id, include_template=True, page_size=_PAGE))
    except IdentityNotFoundError:
        return []


def _drawn(photos: Sequence[Photo], seed: int, notes: list[str]) -> list[Photo]:
    kept = drawn_people([p.identity for p in photos], limits.EVALUATED_FACES_MAX, seed)
    if len(kept) < len(photos):
        notes.append(_drawn_note(len(kept), len(photos)))
    return [photos[position] for position in kept]


def _drawn_identities(
    identities: Sequence[Identity], seed: int, notes: list[str]
) -> Sequence[Identity]:
    total = sum(identity.face_count for identity in identities)
    if total <= limits.EVALUATED_FACES_MAX:
        return identities
    kept, faces = [], 0
    for index in np.random.default_rng(seed).permutation(len(identities)):
        if faces + identities[index].face_count <= limits.EVALUATED_FACES_MAX:
            kept.append(identities[index])
            faces += identities[index].face_count
    notes.append(_drawn_note(faces, total))
    return kept


def _drawn_note(kept: int, total: int) -> str:
    return (
        f"{kept:,} of {total:,} faces were evaluated, those of people drawn at random. The rates "
        "of 1:N are for a gallery of the size given, not for the whole one."
    )


def _failures(names: Sequence[str], outcomes: Sequence[Outcome]) -> tuple[FailedImage, ...]:
    return tuple(
        FailedImage(name, outcome.reason, outcome.message)
        for name, outcome in zip(names, outcomes, strict=True)
        if isinstance(outcome, Failure)
    )


def _no_face(images: int, failures: Sequence[FailedImage]) -> str:
    first = failures[0]
    return (
        f"none of the {images:,} images has a usable face; the first, {first.name}: {first.message}"
    )


def _unit(vectors: Vector) -> Vector:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vector = vectors / np.maximum(norms, np.float32(limits.VECTOR_NORM_MIN))
    return scaled


def _relative(image: Path, root: Path) -> str:
    path = image.relative_to(root) if image.is_relative_to(root) else image
    return _readable(path.as_posix())


def _readable(name: str) -> str:
    """A file's name as text; bytes that are not UTF-8 become question marks."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _now() -> datetime:
    return datetime.now(UTC)
