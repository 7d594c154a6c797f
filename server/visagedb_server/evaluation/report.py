"""The report: one HTML file that needs nothing else."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from visagedb_indexer.errors import ImageError
from visagedb_indexer.evaluation import Evaluation, Mistake
from visagedb_server.evaluation import findings
from visagedb_server.evaluation.sections import facts, sections
from visagedb_server.evaluation.values import FaceReference, Subject
from visagedb_server.evaluation.words import counted

THUMBNAIL_PIXELS: Final = 160
FAILURES_LISTED_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Shown:
    """One face of a mistake: its picture as a data URI, empty if there is none."""

    name: str
    person: str
    picture: str


def write_report(path: Path, subject: Subject, evaluation: Evaluation) -> None:
    """Writes the report; an existing file is replaced.

    Raises:
        OSError: The file cannot be written.
    """
    text = render(subject, evaluation)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def render(subject: Subject, evaluation: Evaluation) -> str:
    """The report as HTML. Names of files and people are escaped."""
    environment = Environment(
        loader=PackageLoader("visagedb_server.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(counted=counted)
    return environment.get_template("report.html.jinja").render(
        subject=subject,
        findings=findings.findings(evaluation),
        reliability=findings.reliability_note(evaluation),
        facts=list(facts(evaluation)),
        sections=list(sections(evaluation)),
        mistakes=_mistakes(subject, evaluation),
        failures=subject.failures[:FAILURES_LISTED_MAX],
        created=subject.created.strftime("%Y-%m-%d %H:%M %Z"),
    )


def _mistakes(
    subject: Subject, evaluation: Evaluation
) -> list[tuple[str, str, list[tuple[str, Shown, Shown]]]]:
    """Groups of mistakes: name, heading, and pairs with their score."""
    return [
        (
            "false-matches",
            "Different people, most alike",
            _shown_pairs(subject.references, evaluation.false_matches),
        ),
        (
            "false-non-matches",
            "One person, least alike",
            _shown_pairs(subject.references, evaluation.false_non_matches),
        ),
    ]


def _shown_pairs(
    references: Sequence[FaceReference], mistakes: Sequence[Mistake]
) -> list[tuple[str, Shown, Shown]]:
    return [
        (f"{m.score:.3f}", _shown(references[m.one]), _shown(references[m.other])) for m in mistakes
    ]


def _shown(face: FaceReference) -> Shown:
    return Shown(face.name, face.person, _picture(face))


def _picture(face: FaceReference) -> str:
    if face.path is None:
        return ""
    from visagedb_indexer.faces.thumbnail import thumbnail

    try:
        jpeg = thumbnail(face.path.read_bytes(), face.box, THUMBNAIL_PIXELS)
    except (OSError, ImageError):
        # The file changed since it was embedded; the report has its name.
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
