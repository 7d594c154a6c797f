"""The report's figures, each from one part of an evaluation."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from visagedb_indexer.evaluation import (
    FoldAccuracy,
    Identification,
    Interval,
    QualityEffect,
    Verification,
)
from visagedb_server.evaluation import drawing
from visagedb_server.evaluation.drawing import IMPOSTORS, INK, MATES, MUTED, PAPER, THIRD
from visagedb_server.evaluation.words import one_in, percent, target

_BAND: Final[dict[str, Any]] = {"alpha": 0.18, "linewidth": 0}
_NO_ERROR: Final = "not one error was observed"


def histogram(found: Verification) -> str:
    """How the scores of mates and impostors are spread."""
    spread = found.histogram
    with drawing.canvas() as (figure, axes):
        floor = 0.5 / max(found.impostor_count, found.mate_count)
        for shares, color, name in (
            (spread.impostors, IMPOSTORS, "different people"),
            (spread.mates, MATES, "one person"),
        ):
            drawn = np.maximum(shares, floor)
            axes.stairs(drawn, spread.edges, color=color, fill=True, alpha=0.22, baseline=floor)
            axes.stairs(drawn, spread.edges, color=color, linewidth=2, baseline=floor)
            peak = int(np.argmax(shares))
            axes.annotate(
                name,
                ((spread.edges[peak] + spread.edges[peak + 1]) / 2, shares[peak]),
                (0, 6),
                textcoords="offset points",
                color=color,
                ha="center",
                va="bottom",
                weight="bold",
            )
        axes.set_yscale("log")
        # Room for the names of the thresholds, above everything.
        marked = any(point.reliable for point in found.points)
        top = (100 if marked else 4) * float(max(spread.mates.max(), spread.impostors.max()))
        axes.set_ylim(floor, top)
        for point in found.points:
            if point.reliable:
                axes.axvline(point.threshold, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
                axes.annotate(
                    one_in(point.target_fmr),
                    (point.threshold, top),
                    (-3, 0),
                    textcoords="offset points",
                    rotation=90,
                    color=INK,
                    fontsize=11,
                    ha="right",
                    va="top",
                )
        drawing.in_percent(axes, "y")
        axes.set_yticks([tick for tick in axes.get_yticks() if floor <= tick < 1])
        axes.set_ylim(floor, top)
        axes.set_xlabel("score (cosine)")
        axes.set_ylabel("share of pairs in each bin")
        return drawing.to_svg(figure, "histogram", "Histogram of the scores of both kinds of pairs")


def det(found: Verification) -> str:
    """FNMR against FMR, both logarithmic."""
    curve = found.curve
    with drawing.canvas() as (figure, axes):
        axes.set_xscale("log")
        axes.set_xlabel("FMR: different people taken for one")
        axes.set_ylabel("FNMR: one person missed")
        seen = _curve(axes, curve.fmr, curve.fnmr, drawstyle="steps-pre")
        if seen:
            _band(axes, curve.band_fmr, curve.band_lower, curve.band_upper, 0.5 / found.mate_count)
            _mark(
                axes,
                [(p.target_fmr, p.fnmr, percent(p.fnmr)) for p in found.points if p.reliable],
            )
            error = found.equal_error_rate
            if error > 0:
                # The name goes to the side where there is room.
                left = error**2 > 1 / found.impostor_count
                axes.plot([error], [error], "D", color=THIRD, markersize=8)
                axes.annotate(
                    f"equal error rate {percent(error)}",
                    (error, error),
                    (-8, -20) if left else (8, 10),
                    textcoords="offset points",
                    color=THIRD,
                    weight="bold",
                    ha="right" if left else "left",
                )
        axes.set_xlim(0.7 / found.impostor_count, 1.0)
        drawing.in_percent(axes, "x")
        return drawing.to_svg(figure, "det", "Detection error trade-off: FNMR against FMR")


def roc(found: Verification) -> str:
    """TAR against FMR."""
    curve = found.curve
    with drawing.canvas() as (figure, axes):
        axes.set_xscale("log")
        axes.set_xlabel("FMR: different people taken for one")
        axes.set_ylabel("TAR: one person recognised")
        axes.plot(curve.fmr, 1 - curve.fnmr, color=MATES, drawstyle="steps-pre")
        if len(curve.band_fmr):
            axes.fill_between(
                curve.band_fmr, 1 - curve.band_upper, 1 - curve.band_lower, color=MATES, **_BAND
            )
        reliable = [p for p in found.points if p.reliable]
        _mark(axes, [(p.target_fmr, p.tar, percent(p.tar)) for p in reliable], below=True)
        lowest = min([p.tar for p in reliable], default=float(1 - curve.fnmr.max()))
        lowest = min(lowest, *(1 - curve.band_upper[curve.band_fmr >= _lowest(reliable)]), 0.99)
        axes.set_ylim(max(0.0, 1 - 1.7 * (1 - lowest)), 1.0 + 0.06 * (1 - lowest))
        axes.set_xlim(_lowest(reliable) / 2, 1.0)
        drawing.in_percent(axes, "x")
        drawing.in_percent(axes, "y")
        return drawing.to_svg(figure, "roc", "Receiver operating characteristic: TAR against FMR")


def cmc(found: Identification) -> str:
    """Cumulative match characteristic."""
    with drawing.canvas() as (figure, axes):
        ranks = [point.rank for point in found.ranks]
        rates = np.array([point.rate for point in found.ranks])
        lower, upper = _ends([point.interval for point in found.ranks], rates)
        axes.fill_between(ranks, lower, upper, color=MATES, **_BAND)
        axes.plot(ranks, rates, "o-", color=MATES, markersize=6)
        for index in (0, len(ranks) - 1):
            axes.annotate(
                percent(rates[index]),
                (ranks[index], rates[index]),
                (10, -12) if index == 0 else (0, 10),
                textcoords="offset points",
                ha="left" if index == 0 else "right",
                weight="bold",
                color=MATES,
            )
        lowest = min(float(lower.min()), 0.99)
        axes.set_ylim(max(0.0, 1 - 1.25 * (1 - lowest)), 1 + 0.12 * (1 - lowest))
        axes.set_xticks([rank for rank in ranks if rank == 1 or rank % 5 == 0])
        drawing.in_percent(axes, "y")
        axes.set_xlabel("rank of the mate at most")
        axes.set_ylabel("searches for enrolled people")
        return drawing.to_svg(figure, "cmc", "Cumulative match characteristic")


def open_set(found: Identification) -> str:
    """FNIR against FPIR, both logarithmic."""
    curve = found.curve
    with drawing.canvas() as (figure, axes):
        axes.set_xscale("log")
        axes.set_xlabel("FPIR: strangers taken for somebody")
        axes.set_ylabel("FNIR: enrolled people not found")
        if _curve(axes, curve.fpir, curve.fnir):
            _band(axes, curve.fpir, curve.lower, curve.upper, 0.5 / found.mated_probes)
            _mark(
                axes,
                [(p.target_fpir, p.fnir, percent(p.fnir)) for p in found.points if p.reliable],
            )
        axes.set_xlim(max(1e-4, float(curve.fpir.min())), 1.0)
        drawing.in_percent(axes, "x")
        return drawing.to_svg(figure, "open-set", "FNIR against FPIR")


def growth_of_misses(found: Identification) -> str:
    """FNIR and misses at rank 1 against the size of the gallery."""
    people = np.array([size.people for size in found.sizes])
    fnir = np.array([size.fnir for size in found.sizes])
    first = np.array([size.rank_one_miss for size in found.sizes])
    with drawing.canvas() as (figure, axes):
        lower, upper = _ends([size.fnir_interval for size in found.sizes], fnir)
        axes.fill_between(people, lower, np.minimum(upper, 1), color=MATES, **_BAND)
        for rates, color, name in (
            (fnir, MATES, f"FNIR at FPIR {target(found.growth_fpir)}"),
            (first, THIRD, "mate not at rank 1"),
        ):
            axes.plot(people, rates, "o-", color=color, markersize=7)
            axes.annotate(
                f"{name}\n{percent(rates[-1])}",
                (people[-1], rates[-1]),
                (12, 0),
                textcoords="offset points",
                color=color,
                va="center",
                weight="bold",
                annotation_clip=False,
            )
        _gallery_axis(axes, people)
        axes.set_ylim(0, max(1e-3, 1.1 * min(1.0, float(max(upper.max(), first.max())))))
        drawing.in_percent(axes, "y")
        axes.set_ylabel("searches that fail")
        return drawing.to_svg(figure, "growth-misses", "Misses against the size of the gallery")


def growth_of_false_positives(found: Identification) -> str:
    """FPIR against the size of the gallery when the threshold stays."""
    with drawing.canvas() as (figure, axes):
        known = [(size.people, size.fpir) for size in found.sizes if size.fpir > 0]
        ahead = [(point.people, point.fpir) for point in found.forecast if point.fpir > 0]
        if not ahead:
            drawing.nothing_to_draw(axes, _NO_ERROR)
        else:
            axes.plot(*zip(*ahead, strict=True), color=IMPOSTORS, linestyle=(0, (2, 2)))
            axes.plot(*zip(*known, strict=True), "o-", color=IMPOSTORS, markersize=7)
            for (people, rate), name, offset, side in (
                (known[-1], "measured", (10, -40), "left"),
                (ahead[-1], "expected", (0, 12), "right"),
            ):
                axes.annotate(
                    f"{name}: {percent(rate)}\n{people:,} people",
                    (people, rate),
                    offset,
                    textcoords="offset points",
                    color=IMPOSTORS,
                    ha=side,
                    weight="bold",
                )
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_ylim(known[0][1] / 2, 8 * ahead[-1][1])
            drawing.in_percent(axes, "y")
            drawing.in_thousands(axes)
            axes.set_yticks([tick for tick in axes.get_yticks() if tick <= 1])
            axes.set_ylim(known[0][1] / 2, 8 * ahead[-1][1])
        axes.set_xlabel("people enrolled")
        axes.set_ylabel("FPIR at an unchanged threshold")
        return drawing.to_svg(
            figure, "growth-false-positives", "FPIR against the size of the gallery"
        )


def quality_bins(found: QualityEffect) -> str:
    """FNMR by quality."""
    with drawing.canvas() as (figure, axes):
        rates = np.array([part.fnmr for part in found.bins])
        lower, upper = _ends([part.fnmr_interval for part in found.bins], rates)
        places = np.arange(len(rates))
        axes.bar(places, rates, width=0.62, color=MATES, alpha=0.85)
        axes.errorbar(
            places,
            rates,
            [rates - lower, upper - rates],
            fmt="none",
            ecolor=INK,
            elinewidth=1.4,
            capsize=5,
        )
        for place, rate in zip(places, rates, strict=True):
            axes.annotate(
                percent(rate),
                (place, upper[place]),
                (0, 5),
                textcoords="offset points",
                ha="center",
                weight="bold",
            )
        axes.set_xticks(places, [f"{part.lowest:.2f} to {part.highest:.2f}" for part in found.bins])
        axes.grid(visible=False, axis="x")
        axes.set_ylim(0, max(1e-3, 1.15 * float(upper.max())))
        drawing.in_percent(axes, "y")
        axes.set_xlabel("quality of the worse face")
        axes.set_ylabel(f"FNMR at FMR {one_in(found.target_fmr)}")
        return drawing.to_svg(figure, "quality-bins", "FNMR by quality")


def error_versus_discard(found: QualityEffect) -> str:
    """FNMR when pairs of low quality are left out."""
    with drawing.canvas() as (figure, axes):
        axes.plot(found.discarded, found.ideal_fnmr, color=MUTED, linestyle=(0, (2, 2)))
        axes.plot(found.discarded, found.fnmr, color=MATES)
        middle = len(found.discarded) // 2
        top = max(1e-3, 1.25 * float(found.fnmr.max()))
        axes.annotate(
            "by this quality score",
            (found.discarded[middle], found.fnmr[middle:].max()),
            (0, 8),
            textcoords="offset points",
            color=MATES,
            weight="bold",
        )
        axes.annotate(
            "if quality foresaw every miss",
            (found.discarded[middle], found.ideal_fnmr[middle]),
            (0, 9),
            textcoords="offset points",
            color=MUTED,
        )
        axes.set_ylim(0, top)
        axes.set_xlim(0, float(found.discarded[-1]))
        drawing.in_percent(axes, "x")
        drawing.in_percent(axes, "y")
        axes.set_xlabel("mate pairs left out, lowest quality first")
        axes.set_ylabel("FNMR of the others")
        return drawing.to_svg(figure, "error-versus-discard", "Error versus discard")


def folds(found: FoldAccuracy) -> str:
    """Accuracy of each fold."""
    with drawing.canvas() as (figure, axes):
        values = np.array([fold.accuracy for fold in found.folds])
        places = np.arange(1, len(values) + 1)
        axes.axhspan(
            found.accuracy - 1.96 * found.standard_error,
            found.accuracy + 1.96 * found.standard_error,
            color=MATES,
            **_BAND,
        )
        axes.axhline(found.accuracy, color=MATES, linewidth=2)
        axes.plot(places, values, "o", color=MATES, markersize=10, markeredgecolor=PAPER)
        axes.annotate(
            f"mean {percent(found.accuracy)}",
            (len(values) + 0.6, found.accuracy),
            (0, 6),
            textcoords="offset points",
            ha="right",
            color=MATES,
            weight="bold",
        )
        axes.set_xticks(places)
        axes.set_xlim(0.4, len(values) + 0.6)
        room = max(0.01, 1 - float(values.min()))
        axes.set_ylim(max(0.0, 1 - 1.3 * room), 1 + 0.12 * room)
        drawing.in_percent(axes, "y")
        axes.set_xlabel("fold")
        axes.set_ylabel("pairs decided rightly")
        return drawing.to_svg(figure, "folds", "Accuracy of each fold")


def _lowest(points: Sequence[Any]) -> float:
    return min([point.target_fmr for point in points], default=0.01)


def _curve(axes: Axes, x: NDArray[Any], y: NDArray[Any], drawstyle: str = "default") -> bool:
    """A trade-off with a logarithmic second axis; without any error there is none to draw."""
    positive = y > 0
    if not positive.any():
        drawing.nothing_to_draw(axes, _NO_ERROR)
        axes.set_yticks([])
        return False
    axes.plot(x[positive], y[positive], color=MATES, drawstyle=drawstyle)
    axes.set_yscale("log")
    lowest = float(y[positive].min())
    axes.set_ylim(lowest / 1.6, min(1.0, 2.2 * float(y.max())))
    drawing.in_percent(axes, "y")
    return True


def _band(
    axes: Axes, x: NDArray[Any], lower: NDArray[Any], upper: NDArray[Any], floor: float
) -> None:
    if len(lower):
        axes.fill_between(
            x, np.maximum(lower, floor), np.maximum(upper, floor), color=MATES, **_BAND
        )


def _mark(axes: Axes, points: list[tuple[float, float, str]], *, below: bool = False) -> None:
    """Operating points with their values beside them."""
    for x, y, label in points:
        if y <= 0:
            continue
        axes.plot([x], [y], "o", color=MATES, markersize=9, markeredgecolor=PAPER)
        axes.annotate(
            label,
            (x, y),
            (4, -20) if below else (4, 9),
            textcoords="offset points",
            weight="bold",
        )


def _ends(
    intervals: Sequence[Interval | None], rates: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Ends of intervals; the rates themselves where there is none."""
    pairs = [
        (rate, rate) if interval is None else (interval.lower, interval.upper)
        for interval, rate in zip(intervals, rates.tolist(), strict=True)
    ]
    lower, upper = np.array(pairs).T
    return lower, upper


def _gallery_axis(axes: Axes, people: NDArray[Any]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(people, [f"{count:,}" for count in people])
    axes.minorticks_off()
    axes.set_xlim(people[0] * 0.9, people[-1] * 3.6)
    axes.set_xlabel("people enrolled")
