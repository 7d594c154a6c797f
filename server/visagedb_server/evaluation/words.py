"""Numbers as people read them."""

import math

from visagedb_indexer.evaluation import Interval, OpenSet


def percent(rate: float) -> str:
    """A fraction with two significant digits: ``0.65%``, ``1.4%``, ``98.8%``."""
    if not 0 < rate < 1:
        return f"{rate:.0%}"
    # Close to 100% what counts is the distance to it.
    distance = min(rate, 1 - rate) * 100
    decimals = 1 if distance >= 1 else min(8, 1 - math.floor(math.log10(distance)))
    return f"{rate * 100:.{decimals}f}%"


def target(rate: float) -> str:
    """A rate that was chosen, so without zeros that would look measured: ``10%``, ``0.1%``."""
    return f"{rate * 100:.8f}".rstrip("0").rstrip(".") + "%"


def spread(interval: Interval | None) -> str:
    """A 95% interval of a rate; empty without one."""
    if interval is None:
        return ""
    return f"{percent(interval.lower)} to {percent(interval.upper)}"


def one_in(rate: float) -> str:
    """A rate as ``1 in 1,000``."""
    return f"1 in {round(1 / rate):,}" if rate > 0 else "none"


def counted(number: int, one: str, more: str) -> str:
    """``1 face``, ``1,200 faces``."""
    return f"{number:,} {one if number == 1 else more}"


def enrolment(protocol: OpenSet) -> str:
    """``with one image each``, ``with up to 3 images each (adaptive_mean)``."""
    if protocol.enrolled == 1:
        return "with one image each"
    return f"with up to {protocol.enrolled} images each ({protocol.fusion})"
