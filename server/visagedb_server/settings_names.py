"""Variables of the environment that look like settings and are none: mistyped, most likely."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Final

from visagedb_indexer.failpoints import ARMED_VARIABLE, TRACE_VARIABLE

PREFIX: Final = "VISAGEDB_"
CLIENT_VARIABLES: Final = frozenset(
    PREFIX + name for name in ("ADDRESS", "API_KEY", "CA", "CLIENT_CERT", "CLIENT_KEY")
)
FAILPOINT_VARIABLES: Final = frozenset({ARMED_VARIABLE, TRACE_VARIABLE})


def unknown_variables(environment: Mapping[str, str], settings: Iterable[str]) -> dict[str, str]:
    """Variables with our prefix that nobody reads, each with the one that may be meant.

    Args:
        environment: Names and values.
        settings: Names of the server's settings.

    Returns:
        By variable the name that is most like it; empty when none is.
    """
    known = {PREFIX + name.upper() for name in settings} | CLIENT_VARIABLES | FAILPOINT_VARIABLES
    unknown = sorted(
        name
        for name in environment
        if name.upper().startswith(PREFIX) and name.upper() not in known
    )
    return {
        name: next(iter(difflib.get_close_matches(name.upper(), known, 1)), "") for name in unknown
    }


def complaint(name: str, meant: str) -> str:
    """A sentence about a variable that nobody reads."""
    return f"{name} is no setting and is ignored" + (f"; {meant} is one" if meant else "")
