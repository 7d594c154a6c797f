"""Small pieces of tables that several commands use."""

from collections.abc import Mapping
from datetime import datetime

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from visagedb._values import Decision, DetectedFace


def facts(rows: Mapping[str, str]) -> Table:
    """Two columns: what, and its value. Empty values are left out."""
    table = Table(show_header=False, box=box.SIMPLE)
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows.items():
        if value:
            table.add_row(name, escape(value))
    return table


def when(moment: datetime | None) -> str:
    """A moment in local time, to the second."""
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def labels_text(labels: Mapping[str, str]) -> str:
    """Labels in one line."""
    return " ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def decision_text(decision: Decision) -> Text:
    """MATCH in green, NO MATCH in yellow."""
    style = "bold green" if decision is Decision.MATCH else "bold yellow"
    return Text(decision.value.replace("_", " ").upper(), style=style)


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
