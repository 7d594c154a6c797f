"""Runs the command line: ``python -m visagedb``."""

from visagedb._cli import main

if __name__ == "__main__":
    main()
