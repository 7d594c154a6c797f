"""Options of `visagedb gallery` about what a face is asked before it is enrolled."""

from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from visagedb._gate import GateAction, GateFinding, IdentityCheck, QualityCheck


class Action(StrEnum):
    """What a check does; `GateAction` without the unknown one."""

    OFF = "off"
    REPORT = "report"
    QUARANTINE = "quarantine"
    REJECT = "reject"


_CHECKS = "Enrolment checks"
LowQualityOption = Annotated[
    Action | None,
    typer.Option(
        "--low-quality",
        help="What to do with a face that is not good enough.",
        rich_help_panel=_CHECKS,
        show_default=False,
    ),
]
MinQualityOption = Annotated[
    float | None,
    typer.Option(help="Least quality, 0 to 1.", rich_help_panel=_CHECKS, min=0.0, max=1.0),
]
RefuseForOption = Annotated[
    list[str] | None,
    typer.Option(
        "--refuse-for",
        help="Not good enough whatever its quality, such as TURNED_AWAY; repeatable.",
        rich_help_panel=_CHECKS,
    ),
]
DuplicatesOption = Annotated[
    Action | None,
    typer.Option(
        "--duplicates",
        help="What to do with a face whose person is enrolled under another id.",
        rich_help_panel=_CHECKS,
        show_default=False,
    ),
]
DuplicateThresholdOption = Annotated[
    float | None, typer.Option(help="From this cosine on.", rich_help_panel=_CHECKS)
]
DuplicateRateOption = Annotated[
    float | None,
    typer.Option(help="Of new people so many may be taken for others.", rich_help_panel=_CHECKS),
]
MismatchesOption = Annotated[
    Action | None,
    typer.Option(
        "--mismatches",
        help="What to do with a face that does not look like its identity.",
        rich_help_panel=_CHECKS,
        show_default=False,
    ),
]
MismatchThresholdOption = Annotated[
    float | None, typer.Option(help="Below this cosine.", rich_help_panel=_CHECKS)
]
MismatchRateOption = Annotated[
    float | None,
    typer.Option(help="Of strangers so many may pass for the identity.", rich_help_panel=_CHECKS),
]


def quality_check(
    old: QualityCheck, action: Action | None, least: float | None, reasons: list[str] | None
) -> QualityCheck:
    """A check with what is given; the rest stays."""
    if action is not None:
        old = replace(old, action=GateAction(action.value))
    if least is not None:
        old = replace(old, min_score=least)
    if reasons:
        old = replace(old, reasons=tuple(word.upper().replace("-", "_") for word in reasons))
    return old


def identity_check(
    old: IdentityCheck, action: Action | None, threshold: float | None, rate: float | None
) -> IdentityCheck:
    """A check with what is given; the rest stays."""
    if threshold is not None and rate is not None:
        raise typer.BadParameter("give a threshold or an error rate for a check, not both")
    if action is not None:
        old = replace(old, action=GateAction(action.value))
    if threshold is not None or rate is not None:
        old = replace(old, threshold=threshold, max_false_positive_rate=rate)
    return old


def quality_text(check: QualityCheck) -> str:
    """A check in one line; empty when it is off."""
    if check.action is GateAction.OFF:
        return ""
    least = "" if check.min_score is None else f" below {check.min_score:g}"
    reasons = f", or {', '.join(check.reasons)}" if check.reasons else ""
    return f"{check.action}{least}{reasons}"


def identity_text(check: IdentityCheck) -> str:
    """A check in one line; empty when it is off."""
    if check.action is GateAction.OFF:
        return ""
    if check.threshold is not None:
        return f"{check.action} at {check.threshold:.3f}"
    if check.max_false_positive_rate is not None:
        return f"{check.action} at error rate {check.max_false_positive_rate:g}"
    return f"{check.action} where the gallery decides"


def finding_text(finding: GateFinding) -> str:
    """What a check objects to, in one line."""
    text = f"{finding.reason.value.replace('_', ' ')} {finding.score:.3f} ({finding.threshold:.3f})"
    if finding.quality_reasons:
        text += f" {', '.join(finding.quality_reasons)}"
    if finding.identity:
        text += f" like {finding.identity.rpartition('/')[2]}"
    return text
