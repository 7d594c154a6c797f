"""visagedb gallery calibrate, and how a calibration is shown."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from visagedb._calibration import Calibration, CohortTable, OperatingPoint
from visagedb._cli._options import GalleryArgument
from visagedb._cli._progress import waited
from visagedb._cli._session import Session, command
from visagedb._cli._tables import counted, facts, listing, rate_text, when
from visagedb._names import last_id

SUSPECTED_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Adds the command to those of galleries."""
    command(app, "calibrate")(calibrate)


def calibrate(
    session: Session,
    gallery: GalleryArgument,
    cohort: Annotated[
        str, typer.Option("--cohort", help="Compare the people by the values of this label.")
    ] = "",
    show: Annotated[
        bool, typer.Option("--show", help="Show the latest calibration; measure nothing.")
    ] = False,
) -> None:
    """Measure what strangers score, and with it a threshold for each error rate."""
    if show and cohort:
        raise typer.BadParameter("--show measures nothing, so --cohort has no meaning with it")
    if show:
        found = session.client.get_calibration(gallery)
    else:
        operation = session.client.calibrate(gallery, cohort_label=cohort)
        found = waited(session, operation, "calibrating")
    session.show({"calibration": found}, calibration_text(found))


def summary(found: Calibration | None) -> str:
    """A calibration in one line; empty without one."""
    if found is None:
        return ""
    suspected = counted(
        found.suspected_duplicate_count, "suspected duplicate", "suspected duplicates"
    )
    people = counted(found.identity_count, "person", "people")
    return f"version {found.version}, {people}, {suspected}; {when(found.create_time)}"


def calibration_text(found: Calibration) -> RenderableType:
    """A calibration as tables."""
    parts: list[RenderableType] = [
        facts(
            {
                "calibration": f"version {found.version} of {when(found.create_time)}",
                "people, faces": f"{found.identity_count:,}, {found.face_count:,}",
                "compared": f"{found.pair_count:,} pairs in {found.duration_seconds:.1f} s",
            }
        ),
        _points("One to one: false match rate", found.false_match),
        _points(
            f"One to {found.identity_count:,}: false positive identification rate",
            found.false_positive,
        ),
    ]
    if found.suspected_duplicate_count:
        parts.append(_suspected(found))
    if found.cohorts is not None:
        parts.append(_cohorts(found.cohorts))
    return Group(*parts)


def _titled(title: str, *parts: RenderableType) -> Group:
    """Parts under a line of their own: a table's title would be folded to its width."""
    return Group(Text(title, style="bold"), *parts)


def _points(title: str, points: Sequence[OperatingPoint]) -> Group:
    table = listing("rate", "threshold", "95% interval of the true rate", "", right={"threshold"})
    for point in points:
        table.add_row(
            rate_text(point.rate),
            f"{point.threshold:.3f}",
            f"{rate_text(point.rate_lower)} to {rate_text(point.rate_upper)}",
            "" if point.supported else Text("extrapolated", style="yellow"),
        )
    return _titled(title, table)


def _suspected(found: Calibration) -> Group:
    table = listing("one", "other", "score", right={"score"})
    pairs = counted(found.suspected_duplicate_count, "pair", "pairs")
    title = f"Suspected duplicates: {pairs} at {found.suspected_from:.3f} or more, left out above"
    for pair in found.suspected_duplicates[:SUSPECTED_SHOWN]:
        table.add_row(last_id(pair.first), last_id(pair.second), f"{pair.score:.3f}")
    return _titled(title, table)


def _cohorts(cohorts: CohortTable) -> RenderableType:
    table = listing(
        cohorts.label_key, "people", "false match rate", "95% interval", "would need", "",
        right={"people", "false match rate", "would need"},
    )  # fmt: skip
    title = f"Cohorts at {cohorts.threshold:.3f}, the gallery's {rate_text(cohorts.rate)}"
    for cohort in cohorts.cohorts:
        table.add_row(
            cohort.value,
            f"{cohort.identity_count:,}",
            rate_text(cohort.rate),
            f"{rate_text(cohort.rate_lower)} to {rate_text(cohort.rate_upper)}",
            f"{cohort.threshold:.3f}",
            Text("unequal", style="bold yellow") if cohort.unequal else "",
        )
    if cohorts.left_out_count:
        table.caption = f"{counted(cohorts.left_out_count, 'value', 'values')} with too few people"
    if not cohorts.unequal:
        return _titled(title, table)
    warning = (
        f"One threshold does not give equal error rates by {cohorts.label_key}: the marked "
        "cohorts differ from the gallery beyond chance."
    )
    return _titled(title, table, Text(warning, style="yellow"))
