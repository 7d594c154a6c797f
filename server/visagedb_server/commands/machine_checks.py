"""Checks of `visagedb doctor` on the machine: settings, limits of the process, the clock."""

import os
import resource
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from visagedb_indexer import limits
from visagedb_server.commands.checks import Check, Status
from visagedb_server.settings_names import complaint, unknown_variables

FILES_WANTED: Final = 4096
"""Some for each gallery, and one for each connection."""
CLOCK_EARLIEST: Final = 1_700_000_000.0
"""Seconds since 1970; a clock that is before has never been set."""
CLOCK_TOLERANCE_SECONDS: Final = 60.0


def settings(environment: Mapping[str, str]) -> Iterator[Check]:
    """Variables that look like settings and are none."""
    from visagedb_server.config import ServerConfig

    unknown = unknown_variables(environment, ServerConfig.model_fields)
    if not unknown:
        yield Check("environment", Status.OK, "every VISAGEDB_ variable is a setting")
    for name, meant in unknown.items():
        fix = f"rename it to {meant}" if meant else "remove it; visagedb serve --help has the names"
        yield Check("environment", Status.WARN, complaint(name, meant), fix)


def open_files() -> Iterator[Check]:
    """How many files and connections a process may have open."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    detail = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft:,} files at once"
    if soft == resource.RLIM_INFINITY or soft >= FILES_WANTED:
        yield Check("open files", Status.OK, detail)
    else:
        fix = f"ulimit -n {FILES_WANTED}, or LimitNOFILE in the unit"
        yield Check("open files", Status.WARN, detail, fix)


def address_space() -> Iterator[Check]:
    """Whether databases can be mapped: their ranges are large and sparse."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_AS)
    needed = limits.MAP_BYTES_CATALOGUE + limits.MAP_BYTES_GALLERY
    if soft == resource.RLIM_INFINITY:
        yield Check("address space", Status.OK, "unlimited")
    elif soft >= needed:
        count = (soft - limits.MAP_BYTES_CATALOGUE) // limits.MAP_BYTES_GALLERY
        detail = f"{soft / limits.GIB:,.0f} GiB, room for {count} galleries"
        yield Check("address space", Status.WARN, detail, "ulimit -v unlimited")
    else:
        detail = f"{soft / limits.GIB:,.1f} GiB; one gallery maps {needed // limits.GIB} GiB"
        yield Check("address space", Status.FAIL, detail, "ulimit -v unlimited")


def clock(data: Path | None, now: float | None = None) -> Iterator[Check]:
    """Whether the time can be right: expiry and the audit log go by it.

    Args:
        data: The data directory, whose files are not from the future; None for none.
        now: Seconds since 1970; None for this moment.
    """
    now = time.time() if now is None else now
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    fix = "set the clock, and keep it with NTP"
    newest = _newest(data) if data is not None else 0.0
    if now < CLOCK_EARLIEST:
        yield Check("clock", Status.FAIL, f"{shown} cannot be right", fix)
    elif newest > now + CLOCK_TOLERANCE_SECONDS:
        detail = f"{shown}, but the data were written {newest - now:,.0f} seconds later"
        yield Check("clock", Status.FAIL, detail, fix)
    else:
        yield Check("clock", Status.OK, shown)


def _newest(folder: Path) -> float:
    """When a file in a folder was changed last, seconds since 1970; 0 if there is none."""
    newest = 0.0
    for where, _folders, files in os.walk(folder):
        for name in files:
            try:
                newest = max(newest, (Path(where) / name).stat().st_mtime)
            except OSError:
                continue
    return newest
