"""The parts of the report: what was found, the figures and the tables."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from visagedb_indexer.evaluation import (
    Evaluation,
    FoldAccuracy,
    Identification,
    QualityEffect,
    Verification,
)
from visagedb_server.evaluation import findings, plots
from visagedb_server.evaluation.words import enrolment, one_in, percent, spread, target


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing and what it shows.

    Attributes:
        title: A few words.
        svg: The drawing.
        caption: How to read it.
    """

    title: str
    svg: Markup
    caption: str


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report.

    Attributes:
        name: For links; letters and hyphens.
        title: Its heading.
        finding: What the figures say, in a sentence; empty if it stands at the top already.
        figures: The drawings.
        headings: Of the table; none without one.
        rows: Of the table: cells, and whether the row is reliable.
    """

    name: str
    title: str
    finding: str
    figures: tuple[Figure, ...]
    headings: tuple[str, ...] = ()
    rows: tuple[tuple[tuple[str, ...], bool], ...] = ()


def facts(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """The large numbers at the top: what, and its value."""
    if evaluation.folds is not None:
        yield "accuracy over folds", percent(evaluation.folds.accuracy)
    point = findings.headline_verification(evaluation.verification)
    yield f"TAR at FMR {one_in(point.target_fmr)}", percent(point.tar)
    yield "equal error rate", percent(evaluation.verification.equal_error_rate)
    found = evaluation.identification
    if found is not None:
        search = findings.headline_identification(found)
        yield "mate at rank 1", percent(found.ranks[0].rate)
        yield f"FNIR at FPIR {target(search.target_fpir)}", percent(search.fnir)


def sections(evaluation: Evaluation) -> Iterator[Section]:
    """The parts of the report, in order."""
    if evaluation.folds is not None:
        yield _folds(evaluation.folds)
    yield _verification(evaluation.verification)
    if evaluation.identification is not None:
        yield _identification(evaluation.identification)
        yield _growth(evaluation.identification)
    if evaluation.quality is not None:
        yield _quality(evaluation.quality)


def _folds(found: FoldAccuracy) -> Section:
    how = "the list's own folds" if found.given else "drawn at random, because the list names none"
    return Section(
        "pairs",
        "Accuracy over folds",
        "",
        (
            _figure(
                "Accuracy of each fold",
                plots.folds,
                found,
                f"{len(found.folds)} folds, {how}. The band is the mean ± 1.96 standard errors.",
            ),
        ),
        ("fold", "pairs", "threshold", "accuracy"),
        tuple(
            ((str(n), f"{f.pairs:,}", f"{f.threshold:.3f}", percent(f.accuracy)), True)
            for n, f in enumerate(found.folds, 1)
        ),
    )


def _verification(found: Verification) -> Section:
    marked = any(point.reliable for point in found.points)
    dashed = " Dashed: the thresholds of these FMR." if marked else ""
    return Section(
        "verification",
        "One to one: verification",
        "",
        (
            _figure(
                "Scores",
                plots.histogram,
                found,
                f"{found.mate_count:,} pairs of one person and {found.impostor_count:,} pairs of "
                "different people." + dashed,
            ),
            _figure(
                "Detection error trade-off",
                plots.det,
                found,
                "Lower is better. The band is the 95% confidence interval over people; the dots "
                "are the operating points of the table.",
            ),
            _figure(
                "Receiver operating characteristic",
                plots.roc,
                found,
                "The same trade-off, as the share of pairs of one person that are recognised.",
            ),
        ),
        ("FMR", "threshold", "TAR", "FNMR", "95% interval", "measured FMR"),
        tuple(
            (
                (
                    one_in(p.target_fmr),
                    f"{p.threshold:.3f}",
                    percent(p.tar),
                    percent(p.fnmr),
                    spread(p.fnmr_interval),
                    percent(p.fmr),
                ),
                p.reliable,
            )
            for p in found.points
        ),
    )


def _identification(found: Identification) -> Section:
    return Section(
        "identification",
        "One to many: identification",
        "",
        (
            _figure(
                "FNIR against FPIR",
                plots.open_set,
                found,
                f"{found.enrolled_people:,} people enrolled {enrolment(found.protocol)}; "
                f"{found.mated_probes:,} searches for them and "
                f"{found.stranger_probes:,} for strangers in each of {found.splits} random splits. "
                "Found means: first, and above the threshold.",
            ),
            _figure(
                "Cumulative match characteristic",
                plots.cmc,
                found,
                "How often an enrolled person is among the best candidates, whatever the score.",
            ),
        ),
        ("FPIR", "threshold", "FNIR", "95% interval", "measured FPIR"),
        tuple(
            (
                (
                    target(p.target_fpir),
                    f"{p.threshold:.3f}",
                    percent(p.fnir),
                    spread(p.fnir_interval),
                    percent(p.fpir),
                ),
                p.reliable,
            )
            for p in found.points
        ),
    )


def _growth(found: Identification) -> Section:
    fpir = target(found.growth_fpir)
    return Section(
        "growth",
        "Size of the gallery",
        findings.growth_finding(found),
        (
            _figure(
                "Misses as the gallery grows",
                plots.growth_of_misses,
                found,
                "Random parts of the gallery. The threshold is chosen anew for each size, so that "
                f"FPIR stays {fpir}.",
            ),
            _figure(
                "False positives as the gallery grows",
                plots.growth_of_false_positives,
                found,
                f"The threshold stays where the whole gallery has FPIR {fpir}. Dotted: what to "
                "expect if more people of the same kind are enrolled.",
            ),
        ),
        (
            "people enrolled",
            f"FNIR at FPIR {fpir}",
            "95% interval",
            "mate not at rank 1",
            "FPIR, same threshold",
        ),
        tuple(
            (
                (
                    f"{s.people:,}",
                    percent(s.fnir),
                    spread(s.fnir_interval),
                    percent(s.rank_one_miss),
                    percent(s.fpir),
                ),
                True,
            )
            for s in found.sizes
        ),
    )


def _quality(found: QualityEffect) -> Section:
    return Section(
        "quality",
        "Quality of the images",
        findings.quality_finding(found),
        (
            _figure(
                "Misses by quality",
                plots.quality_bins,
                found,
                f"At the threshold {found.threshold:.3f}. Thin lines are 95% confidence intervals "
                "over people.",
            ),
            _figure(
                "Error versus discard",
                plots.error_versus_discard,
                found,
                "A quality score is worth having if the line falls steeply from the left.",
            ),
        ),
        ("quality of the worse face", "pairs", "FNMR", "95% interval"),
        tuple(
            (
                (
                    f"{part.lowest:.2f} to {part.highest:.2f}",
                    f"{part.pairs:,}",
                    percent(part.fnmr),
                    spread(part.fnmr_interval),
                ),
                True,
            )
            for part in found.bins
        ),
    )


def _figure(title: str, draw: Callable[[Any], str], found: object, caption: str) -> Figure:
    # Drawn by our own code from numbers alone.
    return Figure(title, Markup(draw(found)), caption)  # noqa: S704
