"""The evaluation in a terminal: the numbers that matter, and what they mean."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from visagedb_indexer.evaluation import Evaluation, Identification, Verification
from visagedb_server.evaluation.findings import findings, reliability_note
from visagedb_server.evaluation.values import Subject
from visagedb_server.evaluation.words import counted, enrolment, one_in, percent, spread, target

_FAILURES_SHOWN = 10


def summary(subject: Subject, evaluation: Evaluation) -> Iterator[RenderableType]:
    """What to print, part by part."""
    yield Text(_headline(subject), style="bold")
    for note in subject.notes:
        yield Text(note, style="yellow")
    yield from _failures(subject)
    yield from _verification(evaluation.verification)
    if evaluation.identification is not None:
        yield from _identification(evaluation.identification)
    for sentence in findings(evaluation):
        yield Padding(Text(sentence), (0, 0, 0, 2))
    if note := reliability_note(evaluation):
        yield Padding(Text(note, style="yellow"), (0, 0, 0, 2))


def _headline(subject: Subject) -> str:
    people = f" of {counted(subject.people, 'person', 'people')}" if subject.people else ""
    return f"{subject.name}: {counted(subject.faces, 'face', 'faces')}{people}, {subject.model}"


def _failures(subject: Subject) -> Iterator[RenderableType]:
    if not subject.failures:
        return
    counts = ", ".join(f"{count:,} {reason}" for reason, count in subject.failure_counts.items())
    yield Text(f"{len(subject.failures):,} of {subject.images:,} images unused: {counts}")
    for failure in subject.failures[:_FAILURES_SHOWN]:
        yield Text(f"  {failure.reason} {failure.name}: {failure.message}", style="dim")
    if len(subject.failures) > _FAILURES_SHOWN:
        left = len(subject.failures) - _FAILURES_SHOWN
        yield Text(f"  and {left:,} more; --json and --report list all", style="dim")


def _verification(found: Verification) -> Iterator[RenderableType]:
    yield Text(
        f"1:1, {found.mate_count:,} mate and {found.impostor_count:,} impostor pairs, equal "
        f"error rate {percent(found.equal_error_rate)} at {found.equal_error_threshold:.3f}"
    )
    table = _table("FMR", "threshold", "TAR", "FNMR", "95%")
    for point in found.points:
        table.add_row(
            one_in(point.target_fmr),
            f"{point.threshold:.3f}",
            percent(point.tar),
            percent(point.fnmr),
            spread(point.fnmr_interval),
            style="" if point.reliable else "dim",
        )
    yield table


def _identification(found: Identification) -> Iterator[RenderableType]:
    first, last = found.ranks[0], found.ranks[-1]
    yield Text(
        f"1:N, {found.enrolled_people:,} people enrolled {enrolment(found.protocol)}, "
        f"{found.mated_probes:,} searches for them and {found.stranger_probes:,} for strangers, "
        f"mean of {found.splits} splits; mate at rank 1: {percent(first.rate)}, among the first "
        f"{last.rank}: {percent(last.rate)}"
    )
    table = _table("FPIR", "threshold", "FNIR", "95%")
    for point in found.points:
        table.add_row(
            target(point.target_fpir),
            f"{point.threshold:.3f}",
            percent(point.fnir),
            spread(point.fnir_interval),
            style="" if point.reliable else "dim",
        )
    yield table


def _table(*headings: str) -> Table:
    table = Table()
    for heading in headings:
        table.add_column(heading, justify="right")
    return table
