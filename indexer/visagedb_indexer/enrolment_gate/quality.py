"""Is a face good enough to be recognised by?"""

from visagedb_indexer.gate_values import GateAction, GateFinding, GateReason, QualityCheck
from visagedb_indexer.values import ExtractedFace


def check_quality(check: QualityCheck, face: ExtractedFace | None) -> tuple[GateFinding, ...]:
    """What the check objects to; nothing of a face that came as a vector."""
    if check.action is GateAction.OFF or face is None:
        return ()
    quality = face.quality
    refused = set(quality.reasons) & set(check.reasons)
    if quality.score >= check.min_score and not refused:
        return ()
    return (
        GateFinding(
            GateReason.LOW_QUALITY,
            check.action,
            quality.score,
            check.min_score,
            quality_reasons=quality.reasons,
        ),
    )
