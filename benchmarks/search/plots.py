"""Plots of a run: latency against mates lost, and cost against the size of the gallery."""

from pathlib import Path
from typing import Any, Final, TypeAlias

from search.registry import ENGINES

_COLOURS: Final = {"ours": "#c2410c", "scan": "#0f766e", "graph": "#1d4ed8", "database": "#7e22ce"}
_FAMILIES: Final = {
    "ours": "VisageDB",
    "scan": "full scans",
    "graph": "graph indexes",
    "database": "databases",
}
_NONE_LOST: Final = 0.004
"""Where a loss of zero is drawn, in percent: a logarithm has no zero."""
_LINE_HEIGHT: Final = 0.036
"""Labels closer than this, as a share of the axes, are moved apart."""
_CHARACTER_WIDTH: Final = 0.0085

Labels: TypeAlias = list[tuple[float, float, str, str]]
"""Position, text and colour."""


def plot_loss(run: dict[str, Any], path: Path) -> None:
    """Latency of one query against mates lost, one line per engine over its settings."""
    figure, axes = _canvas()
    labels: Labels = []
    for engine in run["engines"]:
        settings = engine.get("settings", [])
        if not settings or not engine["judged"]:
            continue
        colour = _COLOURS[ENGINES[engine["engine"]].family]
        x = [setting["p50_ms"] for setting in settings]
        y = [_drawn(setting["judged"]) for setting in settings]
        axes.plot(x, y, "-", color=colour, linewidth=1.2, alpha=0.5)
        axes.plot(x[1:], y[1:], "o", color=colour, markersize=4.5, zorder=5)
        axes.plot(x[:1], y[:1], "o", color=colour, markersize=7, markerfacecolor="white", zorder=5)
        labels.append((x[0], y[0], engine["title"], colour))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(_NONE_LOST * 0.09, 250)
    axes.set_yticks([_NONE_LOST, 0.01, 0.1, 1, 10, 100], ["none", "0.01", "0.1", "1", "10", "100"])
    axes.minorticks_off()
    low, high = axes.get_xlim()
    axes.set_xlim(low * 0.8, high * 3.5)
    bound = 100 * run["loss_rate_max"]
    axes.axhline(bound, color="#555555", linewidth=0.9, linestyle="--")
    axes.text(low * 0.85, bound * 1.15, "1 in 1,000", color="#555555", fontsize=8.5)
    _milliseconds(axes)
    axes.set_xlabel("median latency of one query, ms")
    axes.set_ylabel(f"mates lost at cosine ≥ {run['judged_cosine_min']}, %")
    axes.set_title(
        f"People whom exact search finds and the engine does not: "
        f"{run['rows']:,} × {run['dimension']}",
        loc="left",
        fontsize=12,
        pad=26,
    )
    axes.text(
        0,
        1.025,
        "hollow: stock setting; filled: more effort, until at most 1 in 1,000 is lost",
        transform=axes.transAxes,
        fontsize=9,
        color="#555555",
    )
    _label(axes, [label for label in labels if label[1] > _NONE_LOST])
    _label_below(axes, [label for label in labels if label[1] == _NONE_LOST])
    _legend(axes, {ENGINES[engine["engine"]].family for engine in run["engines"]})
    figure.savefig(path, dpi=160, bbox_inches="tight")


def plot_sweep(runs: list[dict[str, Any]], path: Path) -> None:
    """Latency at the tuned setting against the number of vectors."""
    figure, axes = _canvas()
    labels: Labels = []
    for name in {engine["engine"]: None for run in runs for engine in run["engines"]}:
        points = [point for run in runs if (point := _tuned(run, name))]
        if not points:
            continue
        rows = [float(point[0]) for point in points]
        milliseconds = [point[1] for point in points]
        colour = _COLOURS[ENGINES[name].family]
        axes.plot(rows, milliseconds, "-", color=colour, linewidth=1.4)
        for x, y, good in points:
            face = colour if good else "white"
            axes.plot(x, y, "o", color=colour, markersize=6, markerfacecolor=face)
        labels.append((rows[-1], milliseconds[-1], ENGINES[name].title, colour))
    axes.set_xscale("log")
    axes.set_yscale("log")
    sizes = [run["rows"] for run in runs]
    axes.set_xlim(min(sizes) * 0.85, max(sizes) * (max(sizes) / min(sizes)) ** 0.35)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    _milliseconds(axes, "y")
    axes.set_xlabel("vectors in the gallery")
    axes.set_ylabel("median latency of one query, ms")
    axes.set_title(
        f"Cost of a search as the gallery grows, {runs[0]['dimension']} dimensions",
        loc="left",
        fontsize=12,
        pad=26,
    )
    axes.text(
        0,
        1.025,
        "filled: at most 1 in 1,000 mates lost; hollow: more are lost at the best setting tried",
        transform=axes.transAxes,
        fontsize=9,
        color="#555555",
    )
    _label(axes, labels)
    figure.savefig(path, dpi=160, bbox_inches="tight")


def _tuned(run: dict[str, Any], name: str) -> tuple[int, float, bool] | None:
    for engine in run["engines"]:
        if engine["engine"] == name:
            for setting in engine.get("settings", ()):
                if setting.get("tuned"):
                    return run["rows"], setting["p50_ms"], setting["within_bound"]
    return None


def _drawn(judged: dict[str, float]) -> float:
    return max(100 * judged["lost"] / judged["probes"], _NONE_LOST)


def _canvas() -> tuple[Any, Any]:
    import matplotlib as mpl  # type: ignore[import-not-found,unused-ignore]

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(10.5, 6.2))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, which="major", color="#e5e5e5", linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def _milliseconds(axes: Any, which: str = "x") -> None:
    """Plain numbers at 1, 2 and 5 of each decade."""
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    ticks = [d * 10.0**e for e in range(-3, 5) for d in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    place = axes.set_xticks if which == "x" else axes.set_yticks
    place(ticks, [f"{tick:g}" for tick in ticks])


def _label(axes: Any, labels: Labels) -> None:
    """Writes each name above its point, higher where two would overlap: lines go down."""
    placed: list[tuple[float, float]] = []
    for x, y, text, colour in sorted(_in_axes(axes, labels), key=lambda point: point[1]):
        height = y + 0.7 * _LINE_HEIGHT
        while any(abs(height - v) < _LINE_HEIGHT and abs(x - u) < 0.12 for u, v in placed):
            height += _LINE_HEIGHT / 4
        placed.append((x, height))
        _annotate(axes, (x, y), (x + 0.005, height), text, colour)


def _label_below(axes: Any, labels: Labels) -> None:
    """Writes the names of points that lie on one line under them, in as many rows as needed."""
    starts: list[float] = []
    # From the right, so that no leader runs through a name that is there already.
    for x, y, text, colour in sorted(_in_axes(axes, labels), reverse=True):
        end = x + _CHARACTER_WIDTH * len(text) + 0.01
        free = [row for row, start in enumerate(starts) if end < start]
        row = free[0] if free else len(starts)
        starts[row : row + 1] = [x]
        _annotate(axes, (x, y), (x, y - (row + 1.1) * _LINE_HEIGHT), text, colour)


def _in_axes(axes: Any, labels: Labels) -> list[tuple[float, float, str, str]]:
    """Positions as shares of the axes."""
    convert = axes.transData + axes.transAxes.inverted()
    return [(*convert.transform((x, y)), text, colour) for x, y, text, colour in labels]


def _annotate(
    axes: Any, point: tuple[float, float], place: tuple[float, float], text: str, colour: str
) -> None:
    line = {
        "arrowstyle": "-",
        "color": colour,
        "linewidth": 0.6,
        "alpha": 0.6,
        "shrinkB": 4,
        "relpos": (0, 0.9),
    }
    from matplotlib import patheffects  # type: ignore[import-not-found,unused-ignore]

    axes.annotate(
        text,
        point,
        place,
        xycoords="axes fraction",
        textcoords="axes fraction",
        fontsize=9,
        color=colour,
        va="center",
        path_effects=[patheffects.withStroke(linewidth=3, foreground="white")],
        arrowprops=line if abs(place[1] - point[1]) > _LINE_HEIGHT else None,
    )


def _legend(axes: Any, families: set[str]) -> None:
    from matplotlib.lines import (  # type: ignore[import-not-found,unused-ignore]
        Line2D,
    )

    handles = [
        Line2D([], [], marker="o", linestyle="-", color=colour, label=_FAMILIES[family])
        for family, colour in _COLOURS.items()
        if family in families
    ]
    axes.legend(handles=handles, frameon=False, fontsize=9, loc="lower left")
