"""visagedb gallery audit."""

import csv
import io
import json
import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Group, RenderableType
from rich.table import Table

from visagedb._audits import GalleryAudit, GalleryFinding
from visagedb._cli._options import FilterOption, GalleryArgument
from visagedb._cli._plain import plain
from visagedb._cli._progress import waited
from visagedb._cli._session import Session, command
from visagedb._cli._tables import counted, listing
from visagedb._values import FindingKind

_TITLES: Final = {
    FindingKind.DUPLICATE_IDENTITIES: "Two identities, perhaps one person",
    FindingKind.MISLABELLED_FACE: "Faces perhaps enrolled as somebody else",
    FindingKind.HUB_FACE: "Faces that match too many",
}
_SUFFIXES: Final = (".json", ".csv")


def register(app: typer.Typer) -> None:
    """Adds the command to those of galleries."""
    command(app, "audit")(audit)


def audit(
    session: Session,
    gallery: GalleryArgument,
    output: Annotated[
        Path | None,
        typer.Option(help="Also write all findings to this .json or .csv file."),
    ] = None,
    min_probability: Annotated[
        float, typer.Option(help="Leave out what is less probable.", min=0.0, max=1.0)
    ] = 0.5,
    limit: Annotated[int, typer.Option(help="Show at most this many; 0 for all.", min=0)] = 50,
    label_filter: FilterOption = "",
) -> None:
    """Look for people with two ids, faces under a wrong id, and faces that match too many."""
    if output is not None and output.suffix.lower() not in _SUFFIXES:
        raise typer.BadParameter(f"--output is a file {' or '.join(_SUFFIXES)}")
    operation = session.client.audit_gallery(gallery, filter=label_filter)
    found = waited(session, operation, "auditing")
    findings = session.client.gallery_findings(found, min_probability=min_probability)
    shown = list(islice(findings, limit or None) if output is None else findings)
    document = {"audit": found, "findings": [_plain(finding) for finding in shown]}
    if output is not None:
        output.write_text(_written(document, output.suffix.lower()), encoding="utf-8")
        session.err.print(f"{counted(len(shown), 'finding', 'findings')} written to {output}")
    session.show(document, audit_text(found, shown[: limit or None]))


def audit_text(found: GalleryAudit, findings: Sequence[GalleryFinding]) -> RenderableType:
    """An audit as tables, one for each kind of findings."""
    parts: list[RenderableType] = []
    for kind, title in _TITLES.items():
        if of_kind := [finding for finding in findings if finding.kind is kind]:
            parts.append(_table(title, of_kind, hubs=kind is FindingKind.HUB_FACE))
    if not parts:
        parts.append("nothing found")
    parts.append(
        f"{counted(found.face_count, 'face', 'faces')} of "
        f"{counted(found.identity_count, 'identity', 'identities')} compared; "
        f"{found.name}"
    )
    return Group(*parts)


def _table(title: str, findings: Sequence[GalleryFinding], *, hubs: bool) -> Table:
    near = "identities near" if hubs else "support"
    likely = "times average" if hubs else "probability"
    right = {likely, "evidence", "cosine", "templates", near}
    table = listing(
        "identity", "face", "other identity", "other face",
        likely, "evidence", "cosine", "templates", near, right=right,
    )  # fmt: skip
    table.title = title
    for one in findings:
        table.add_row(
            one.identity,
            one.source or one.face.rpartition("/")[2],
            one.other_identity,
            one.other_source or one.other_face.rpartition("/")[2],
            f"{math.exp(one.evidence):.1f}" if hubs else f"{one.probability:.1%}",
            f"{one.evidence:.1f}",
            f"{one.score:.3f}" if one.other_face else "",
            "" if hubs else f"{one.template_score:.3f}",
            f"{one.supporting_count} of {one.compared_count}",
        )
    return table


def _plain(finding: GalleryFinding) -> dict[str, object]:
    fields: dict[str, object] = plain(finding)
    return {
        **fields,
        "identity": finding.identity,
        "other_identity": finding.other_identity,
    }


def _written(document: dict[str, object], suffix: str) -> str:
    if suffix == ".json":
        return json.dumps(plain(document), indent=2, ensure_ascii=False) + "\n"
    rows = document["findings"]
    assert isinstance(rows, list)
    text = io.StringIO()
    names = list(_COLUMNS)
    writer = csv.DictWriter(text, names, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


_COLUMNS: Final = (
    "kind", "rank", "evidence", "probability", "identity", "face", "other_identity", "other_face",
    "score", "template_score", "supporting_count", "compared_count", "source", "other_source",
)  # fmt: skip
