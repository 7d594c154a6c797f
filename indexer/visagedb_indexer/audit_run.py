"""An audit of a gallery's labels: from its faces to kept findings."""

from collections import Counter
from collections.abc import Callable, Collection
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer import limits
from visagedb_indexer.clock import now_us
from visagedb_indexer.clustering import GraphBuilder, PldaModel, for_gallery, shipped_model
from visagedb_indexer.errors import GalleryTooLargeError
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_audit import Finding, LabelledFaces, find
from visagedb_indexer.store import AuditRecord, FindingRecord
from visagedb_indexer.values import FaceScope, FindingKind, Vector

Progress = Callable[[float, str], None]
"""Told the progress, 0 to 1, and what is being done; raises to cancel the run."""

_NEIGHBOURS: Final = 30
"""Of a face: enough that those of its own identity leave room for others."""
_READ: Final = 0.05
_COMPARED: Final = 0.85


def audit_gallery(
    gallery: Gallery,
    audit_id: str,
    *,
    kinds: Collection[FindingKind],
    filter_text: str,
    progress: Progress,
) -> AuditRecord:
    """Looks for identities that are one person, wrong labels, and faces that match too many.

    Args:
        gallery: Whose labels.
        audit_id: Under which the findings are kept.
        kinds: What to look for.
        filter_text: Only faces of the identities that pass.
        progress: Told how far it is.

    Raises:
        GalleryTooLargeError: There are too many faces.
        InvalidFilterError: The filter cannot be read.
    """
    progress(0.0, "reading the faces")
    generation = gallery.counters.generation
    ordinals = gallery.ordinals(filter_text, FaceScope.IDENTITIES)
    if len(ordinals) > limits.AUDIT_FACES_MAX:
        raise GalleryTooLargeError(
            f"{len(ordinals)} faces are to be audited, the most is {limits.AUDIT_FACES_MAX}; "
            "use a filter",
            {"faces": str(len(ordinals)), "limit": str(limits.AUDIT_FACES_MAX)},
        )
    ordinals, vectors = gallery.vectors(ordinals)
    owners = gallery.owners(ordinals)
    # A face that was deleted or let go in between belongs to nobody any more.
    owned = owners >= 0
    ordinals, vectors, owners = ordinals[owned], vectors[owned], owners[owned]
    findings: list[Finding] = []
    floor = 1.0
    if len(ordinals):
        made_by = gallery.model
        shipped = shipped_model(made_by.name, made_by.version)
        faces = _compared(vectors, owners, shipped, progress)
        floor = faces.floor
        findings = find(faces, kinds, lambda: progress(_COMPARED, "weighing the evidence"))
    progress(0.95, "keeping the findings")
    record = AuditRecord(
        id=audit_id,
        create_time_us=now_us(),
        face_count=len(ordinals),
        identity_count=len(np.unique(owners)),
        finding_counts=dict(Counter(finding.kind for finding in findings)),
        floor=floor,
        filter=filter_text,
        generation=generation,
    )
    gallery.audits.keep(record, [_record(finding, ordinals, owners) for finding in findings])
    return record


def _compared(
    vectors: Vector,
    owners: NDArray[np.integer],
    shipped: PldaModel | None,
    progress: Progress,
) -> LabelledFaces:
    """The faces with their near pairs."""
    progress(_READ, "comparing the faces")
    builder = GraphBuilder(vectors, neighbours=_NEIGHBOURS)
    for done in builder.run():
        share = done / max(builder.tiles, 1)
        progress(_READ + (_COMPARED - _READ) * share, "comparing the faces")
    edges = builder.edges()
    model = for_gallery(vectors, owners, shipped=shipped, edges=edges)
    return LabelledFaces.of(vectors, owners, model, edges, float(builder.floor))


def _record(
    finding: Finding, ordinals: NDArray[np.int64], owners: NDArray[np.integer]
) -> FindingRecord:
    alone = finding.other < 0
    return FindingRecord(
        kind=finding.kind,
        ordinal=int(ordinals[finding.face]),
        owner=int(owners[finding.face]),
        other_ordinal=-1 if alone else int(ordinals[finding.other]),
        other_owner=-1 if alone else int(owners[finding.other]),
        evidence=finding.evidence,
        probability=finding.probability,
        score=finding.score,
        template_score=finding.template_score,
        support=finding.support,
        compared=finding.compared,
    )
