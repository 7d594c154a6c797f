"""Figures as SVG that takes its colours and its font from the page around it."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from visagedb_server.evaluation.words import target

# Placeholders in the drawing, replaced by the page's variables: a page in the dark then has
# light lines. The colours of the page are those of Okabe and Ito, which the colour-blind
# can tell apart.
INK: Final = "#010101"
MUTED: Final = "#020202"
GRID: Final = "#030303"
MATES: Final = "#040404"
IMPOSTORS: Final = "#050505"
THIRD: Final = "#060606"
PAPER: Final = "#070707"
_VARIABLES: Final = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    MATES: "mates",
    IMPOSTORS: "impostors",
    THIRD: "third",
    PAPER: "paper",
}
_SHORT_AXIS: Final = 150
SIZE: Final = (8.4, 4.7)
"""Inches, 72 points each."""
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 14,
    "axes.labelsize": 14,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "lines.linewidth": 2.6,
    "lines.solid_capstyle": "round",
    "patch.linewidth": 0,
    "savefig.transparent": True,
}


@contextmanager
def canvas() -> Iterator[tuple[Figure, Axes]]:
    """An empty figure with one pair of axes, in the report's style."""
    with rc_context(_STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, figure.add_subplot()


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an element for a page; ids begin with its name.

    Args:
        figure: Made with `canvas`.
        name: Unique in the page; letters, digits and hyphens.
        description: For those who cannot see it.
    """
    stream = io.StringIO()
    with rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(
            stream,
            format="svg",
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for placeholder, variable in _VARIABLES.items():
        text = text.replace(placeholder, f"var(--{variable})")
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = text.replace("url(#", f"url(#{name}-")
    label = description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    # Width and height come from the page.
    return re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        rf'<svg viewBox="\1" xmlns="http://www.w3.org/2000/svg" '
        rf'xmlns:xlink="http://www.w3.org/1999/xlink" role="img" aria-label="{label}">',
        text,
        count=1,
        flags=re.DOTALL,
    )


def in_percent(axes: Axes, which: str) -> None:
    """Tick labels as percentages; ``which`` is x or y. The limits are set before.

    A logarithmic axis that covers less than two decades gets labels at 2 and 5, too.
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: target(value)))
    if axis.get_scale() == "log":
        low, high = axis.get_view_interval()
        if high / low < _SHORT_AXIS:
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_minor_formatter(NullFormatter())


def in_thousands(axes: Axes) -> None:
    """Counts on a logarithmic x axis: ``1,000``."""
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def nothing_to_draw(axes: Axes, sentence: str) -> None:
    """A sentence in place of a curve."""
    axes.text(0.5, 0.5, sentence, transform=axes.transAxes, ha="center", va="center", color=MUTED)
