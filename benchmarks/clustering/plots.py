"""Plots of the benchmark's figures."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt  # the backend is chosen before


def quality(figures: dict[str, Any], path: Path) -> None:
    """B-cubed F of every method, one bar each; the best on top."""
    sets = [name for name in ("halves", "unseen") if name in figures]
    figure, axes = plt.subplots(1, len(sets), figsize=(7 * len(sets), 4), squeeze=False)
    for axis, name in zip(axes[0], sets, strict=True):
        rows = sorted(figures[name].items(), key=lambda row: row[1]["b_cubed_f"])
        methods = [method for method, _ in rows]
        values = [row["b_cubed_f"] for _, row in rows]
        colours = ["#c23b22" if "VisageDB" in method else "#8a9ba8" for method in methods]
        axis.barh(methods, values, color=colours)
        for place, value in enumerate(values):
            axis.text(value, place, f" {value:.4f}", va="center")
        axis.set_xlim(min(values) - 0.02, 1.01)
        axis.set_title({"halves": "people never seen", "unseen": "another collection"}[name])
        axis.set_xlabel("B-cubed F")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def growth(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Seconds against faces, on logarithmic axes."""
    figure, axis = plt.subplots(figsize=(6, 4))
    counts = [row["faces"] for row in rows.values()]
    for name in ("graph_seconds", "partition_seconds", "incremental_seconds"):
        axis.plot(counts, [row[name] for row in rows.values()], "o-", label=name.split("_")[0])
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("faces")
    axis.set_ylabel("seconds")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
