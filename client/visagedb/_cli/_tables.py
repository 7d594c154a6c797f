"""Small pieces of tables that several commands use."""

from collections.abc import Collection, Mapping
from datetime import datetime

from rich import box
from rich.table import Table
from rich.text import Text

from visagedb._answers import DecisionBasis
from visagedb._values import Decision, DetectedFace, ThresholdSource


def listing(*headings: str, right: Collection[str] = ()) -> Table:
    """A table whose long values are folded, never cut: they may be needed elsewhere."""
    table = Table()
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="right" if heading in right else "left")
    return table


def facts(rows: Mapping[str, str]) -> Table:
    """Two columns: what, and its value. Empty values are left out."""
    table = Table(show_header=False, box=box.SIMPLE)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    return table


def counted(number: int, one: str, more: str) -> str:
    """How many there are of something, in words: ``1 face``, ``1,200 faces``."""
    return f"{number:,} {one if number == 1 else more}"


def when(moment: datetime | None) -> str:
    """A moment in local time, to the second."""
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def labels_text(labels: Mapping[str, str]) -> str:
    """Labels in one line."""
    return " ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def decision_text(decision: Decision) -> Text:
    """MATCH in green, NO MATCH in yellow; undecided without a threshold."""
    if decision is Decision.UNKNOWN:
        return Text("UNDECIDED", style="bold")
    style = "bold green" if decision is Decision.MATCH else "bold yellow"
    return Text(decision.value.replace("_", " ").upper(), style=style)


def threshold_text(basis: DecisionBasis) -> str:
    """The threshold of a decision and where it comes from."""
    if basis.source is ThresholdSource.UNKNOWN:
        return "none; give --threshold"
    where = str(basis.source)
    if basis.calibration_version:
        where += f" {basis.calibration_version}"
    if basis.max_false_positive_rate is not None:
        where += f" for {rate_text(basis.max_false_positive_rate)}"
    if basis.extrapolated:
        where += ", extrapolated"
    return f"{basis.threshold:.3f} ({where})"


def rate_text(rate: float | None) -> str:
    """An error rate in percent, a very small one as a power of ten; empty for None."""
    if rate is None:
        return ""
    if rate < 1e-6:
        return f"{rate:.1e}"
    return f"{100 * rate:.3g}%" if rate >= 1e-4 else f"{100 * rate:.2g}%"


def box_text(face: DetectedFace) -> str:
    """Size and place of a face in pixels."""
    where = face.box
    return f"{where.width:.0f}x{where.height:.0f} at {where.x:.0f},{where.y:.0f}"


def face_text(face: DetectedFace | None) -> str:
    """Where a face is, and how good, in one line."""
    if face is None:
        return ""
    if face.quality is None:
        return box_text(face)
    reasons = f" {', '.join(face.quality.reasons)}" if face.quality.reasons else ""
    return f"{box_text(face)}, quality {face.quality.score:.2f}{reasons}"
