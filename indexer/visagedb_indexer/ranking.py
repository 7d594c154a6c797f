"""Candidates in the order of their fused scores.

The engine finds identities by their best faces. For any other fusion more of them are fetched
than asked for, scored with all of their faces, and put in order again.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer import limits
from visagedb_indexer.errors import FaceNotFoundError
from visagedb_indexer.fusion import fused_scores
from visagedb_indexer.gallery_values import Candidate
from visagedb_indexer.search import Hit, SearchEngine, SearchRequest
from visagedb_indexer.store import FaceRecord, Reader
from visagedb_indexer.values import FaceScope, Fusion, Vector


def widened(request: SearchRequest, fusion: Fusion) -> SearchRequest:
    """What to ask of the engine, so that the best fused scores are among its hits."""
    if not _fuses(request, fusion):
        return request
    wanted = max(limits.FUSED_CANDIDATES_MIN, limits.FUSED_WIDENING * request.top_k)
    # A template of several faces may be closer to the probe than each of them.
    return replace(request, top_k=wanted, min_score=None)


def ranked(
    engine: SearchEngine, view: Reader, request: SearchRequest, hits: list[Hit], fusion: Fusion
) -> list[Hit]:
    """The answer to a request, from the engine's hits for the widened one."""
    if not _fuses(request, fusion):
        return hits
    fused = hits
    # Where everybody has one face there is nothing to read.
    if engine.have_several_faces([hit.number for hit in hits]):
        fused = _fused(view, request.vector, hits, fusion)
    least = -np.inf if request.min_score is None else request.min_score
    fused = [hit for hit in fused if hit.score >= least]
    return sorted(fused, key=lambda hit: (-hit.score, hit.ordinal))[: request.top_k]


def candidates(view: Reader, hits: Sequence[Hit]) -> tuple[Candidate, ...]:
    """Those hits that are still stored."""
    found = []
    for hit in hits:
        identity = view.identity_by_number(hit.number)
        face = view.face(hit.number, hit.ordinal)
        if identity is not None and face is not None:
            found.append(Candidate(identity, face, hit.score))
    return tuple(found)


def compare(
    view: Reader, probe: Vector, identity_id: str, fusion: Fusion
) -> tuple[float, FaceRecord]:
    """The fused score of a unit probe against one identity, and its best face.

    Raises:
        IdentityNotFoundError: There is no such identity.
        FaceNotFoundError: It has no faces.
    """
    faces = list(view.faces(view.identity(identity_id).number))
    if not faces:
        raise FaceNotFoundError(f"identity {identity_id!r} has no faces", {"identity": identity_id})
    vectors = view.vectors(np.array([face.ordinal for face in faces]))
    scores = vectors @ probe
    start = np.zeros(1, dtype=np.int64)
    score = fused_scores(scores, vectors, start, fusion, _qualities(faces))
    return float(score[0]), faces[int(np.argmax(scores))]


def _fuses(request: SearchRequest, fusion: Fusion) -> bool:
    """Whether more than the best face counts; a face on its own has nothing to fuse."""
    alone = request.each_face or request.scope is not FaceScope.IDENTITIES
    return fusion is not Fusion.MAXIMUM and not alone


def _fused(view: Reader, probe: Vector, hits: Sequence[Hit], fusion: Fusion) -> list[Hit]:
    """The hits, scored by all faces of each identity; the best face stays the hit's face."""
    stored = view.face_ordinals(hit.number for hit in hits)
    groups = [_counted(faces, hit) for faces, hit in zip(stored, hits, strict=True)]
    counts = [len(group) for group in groups]
    if sum(counts) == len(hits):
        return list(hits)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    ordinals = np.concatenate(groups)
    vectors = view.vectors(ordinals)
    scores = vectors @ probe
    qualities = None
    if fusion is Fusion.QUALITY_WEIGHTED:
        owners = np.repeat([hit.number for hit in hits], counts).tolist()
        found = zip(owners, ordinals.tolist(), strict=True)
        qualities = _qualities([view.face(number, ordinal) for number, ordinal in found])
    fused = fused_scores(scores, vectors, starts, fusion, qualities)
    best = [
        int(ordinals[start + np.argmax(scores[start : start + count])])
        for start, count in zip(starts.tolist(), counts, strict=True)
    ]
    return [
        Hit(hit.number, ordinal, score)
        for hit, ordinal, score in zip(hits, best, fused.tolist(), strict=True)
    ]


def _counted(faces: Sequence[int], hit: Hit) -> list[int]:
    """Which faces of an identity count: the newest, and in any case the one found."""
    ordinals = list(faces[-limits.FUSED_FACES_MAX :])
    return ordinals if hit.ordinal in ordinals else [*ordinals, hit.ordinal]


def _qualities(faces: Sequence[FaceRecord | None]) -> NDArray[np.float32]:
    return np.array(
        [face.quality.score if face and face.quality else np.nan for face in faces],
        dtype=np.float32,
    )
