"""The command line of VisageDB.

Exit codes: 0 it went well; 1 the server refused, or some of many failed; 2 wrong usage;
3 no server answers; 4 the command needs packages that are not installed; 130 interrupted.
"""

import sys

from visagedb._cli._app import run


def main() -> None:
    """Runs the program ``visagedb``."""
    sys.exit(run(sys.argv[1:]))
