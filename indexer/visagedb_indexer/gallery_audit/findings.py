"""All that may be wrong, ranked."""

from collections.abc import Collection

import numpy as np

from visagedb_indexer import limits
from visagedb_indexer.gallery_audit.duplicates import find_duplicates
from visagedb_indexer.gallery_audit.hubs import find_hubs
from visagedb_indexer.gallery_audit.labelled import Check, LabelledFaces
from visagedb_indexer.gallery_audit.mislabelled import find_mislabelled
from visagedb_indexer.gallery_audit.values import Finding
from visagedb_indexer.values import FindingKind


def find(
    faces: LabelledFaces,
    kinds: Collection[FindingKind] = tuple(FindingKind),
    check: Check = lambda: None,
) -> list[Finding]:
    """What a person should look at: kind after kind, the strongest evidence first.

    Args:
        faces: The gallery.
        kinds: What to look for.
        check: Called now and then; raises to end the work.
    """
    wrong = find_mislabelled(faces, check)
    kept = np.ones(len(faces), bool)
    kept[[finding.face for finding in wrong]] = False
    found = {FindingKind.MISLABELLED_FACE: wrong}
    if FindingKind.DUPLICATE_IDENTITIES in kinds:
        found[FindingKind.DUPLICATE_IDENTITIES] = find_duplicates(faces, kept, check)
    if FindingKind.HUB_FACE in kinds:
        found[FindingKind.HUB_FACE] = find_hubs(faces)
    return [finding for kind in FindingKind if kind in kinds for finding in _ranked(found[kind])]


def _ranked(findings: list[Finding]) -> list[Finding]:
    ranked = sorted(findings, key=lambda finding: (-finding.evidence, finding.face))
    return ranked[: limits.AUDIT_FINDINGS_MAX]
