"""What the figures mean, in one plain sentence each."""

from visagedb_indexer.evaluation import (
    Evaluation,
    FoldAccuracy,
    Identification,
    IdentificationPoint,
    QualityEffect,
    Verification,
    VerificationPoint,
)
from visagedb_server.evaluation.words import counted, one_in, percent, spread, target

HEADLINE_FMR = 1e-3
HEADLINE_FPIR = 0.01


def headline_verification(found: Verification) -> VerificationPoint:
    """The operating point to speak of: FMR 1 in 1,000, or the lowest that is reliable."""
    reliable = [p for p in found.points if p.reliable and p.target_fmr >= HEADLINE_FMR]
    return min(reliable, key=lambda p: p.target_fmr) if reliable else found.points[0]


def headline_identification(found: Identification) -> IdentificationPoint:
    """The operating point to speak of: FPIR 1%, or the lowest that is reliable."""
    reliable = [p for p in found.points if p.reliable and p.target_fpir >= HEADLINE_FPIR]
    return min(reliable, key=lambda p: p.target_fpir) if reliable else found.points[0]


def verification_finding(found: Verification) -> str:
    """One to one."""
    point = headline_verification(found)
    return (
        f"At the threshold {point.threshold:.3f} one pair of different people in "
        f"{round(1 / point.target_fmr):,} is taken for one person, and {percent(point.fnmr)} of "
        f"the pairs of one person are missed{_interval(spread(point.fnmr_interval))}."
    )


def identification_finding(found: Identification) -> str:
    """One to many."""
    point = headline_identification(found)
    return (
        f"In a gallery of {counted(found.enrolled_people, 'person', 'people')}, at the threshold "
        f"{point.threshold:.3f}, {target(point.target_fpir)} of the strangers are taken for "
        f"somebody, and {percent(point.fnir)} of the searches for enrolled people do not find "
        f"them{_interval(spread(point.fnir_interval))}."
    )


def fold_finding(found: FoldAccuracy) -> str:
    """The pairs protocol."""
    return (
        f"{percent(found.accuracy)} of the pairs are decided rightly (standard error "
        f"{found.standard_error * 100:.2f} points over {len(found.folds)} folds), each fold with "
        "the threshold that is best for the others."
    )


def quality_finding(found: QualityEffect) -> str:
    """Error against quality."""
    worst, best = found.bins[0], found.bins[-1]
    fifth = float(found.fnmr[len(found.fnmr) * 2 // 5])
    if worst.fnmr <= best.fnmr:
        return (
            "Pairs of low quality are not missed more often than pairs of high quality here: "
            f"{percent(worst.fnmr)} of those under {worst.highest:.2f}, {percent(best.fnmr)} of "
            f"those over {best.lowest:.2f}."
        )
    before = float(found.fnmr[0])
    helps = "brings the FNMR down from" if fifth < before else "does not help: the FNMR goes from"
    return (
        f"Of the pairs with a quality under {worst.highest:.2f} {percent(worst.fnmr)} are missed, "
        f"of those over {best.lowest:.2f} {percent(best.fnmr)}. Leaving out the worst fifth "
        f"{helps} {percent(before)} to {percent(fifth)}."
    )


def growth_finding(found: Identification) -> str:
    """Error against the size of the gallery."""
    first, last = found.sizes[0], found.sizes[-1]
    tenfold = min(found.forecast, key=lambda f: abs(f.people - 10 * last.people))
    return (
        f"From {first.people:,} to {last.people:,} people the FNIR at FPIR "
        f"{target(found.growth_fpir)} goes from "
        f"{percent(first.fnir)} to {percent(last.fnir)}. A threshold that is kept while the "
        f"gallery grows tenfold lets the FPIR rise from {percent(last.fpir)} to about "
        f"{percent(tenfold.fpir)}."
    )


def findings(evaluation: Evaluation) -> list[str]:
    """The sentences that belong at the top."""
    sentences = []
    if evaluation.folds is not None:
        sentences.append(fold_finding(evaluation.folds))
    sentences.append(verification_finding(evaluation.verification))
    if evaluation.identification is not None:
        sentences.append(identification_finding(evaluation.identification))
    return sentences


def reliability_note(evaluation: Evaluation) -> str:
    """Which operating points rest on too little data; empty if none does."""
    few = [f"FMR {one_in(p.target_fmr)}" for p in evaluation.verification.points if not p.reliable]
    if evaluation.identification is not None:
        few += [
            f"FPIR {target(p.target_fpir)}"
            for p in evaluation.identification.points
            if not p.reliable
        ]
    if not few:
        return ""
    return (
        f"Too little data for {', '.join(few)}: fewer than ten false positives are expected at "
        "such a rate, so its threshold is an accident of a few pairs."
    )


def _interval(text: str) -> str:
    return f" (95% interval {text})" if text else ""
