"""Kills a real server at random moments while it is written to, and looks what is left.

    python tools/kill_campaign.py --kills 300 --seed 1

Six writers enrol, delete, move, merge, undo and search through the client; beside them galleries
come and go and operations run. After each restart nothing acknowledged may be missing, nothing
deleted back, no call done by halves, every search must equal plain arithmetic over what was
acknowledged, and `visagedb verify` must be clean. A campaign may be run in pieces that add up in
one file of results.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from campaign.campaign import Campaign, Outcome
from campaign.failpoint_names import names_to_kill_at
from campaign.server import preload


def run(data: Path, seed: int, kills: int) -> Outcome:
    """Runs a campaign in an empty folder until the server was killed so many times."""
    campaign = Campaign(data, seed)
    campaign.begin()
    started = time.monotonic()
    while campaign.outcome.kills < kills:
        campaign.kill_at_random()
        _tell(campaign.outcome.kills, started)
    campaign.finish()
    return campaign.outcome


def run_failpoints(data: Path, seed: int, arrivals: int) -> Outcome:
    """Kills at every failpoint of the source, at its first arrivals."""
    campaign = Campaign(data, seed)
    campaign.begin()
    started = time.monotonic()
    for name in names_to_kill_at():
        for arrival in range(1, arrivals + 1):
            reached = campaign.kill_at(name, arrival)
            if arrival == 1 and not reached:
                campaign.outcome.findings.append(f"{name} is never reached")
            if not reached:
                break
        _tell(campaign.outcome.kills, started)
    campaign.finish()
    return campaign.outcome


def _tell(kills: int, started: float) -> None:
    if kills % 10 == 0:
        print(f"{kills} kills, {time.monotonic() - started:.0f} s", flush=True)


def report(path: Path, kind: str, seed: int, outcome: Outcome) -> None:
    """Adds a piece to the file of results."""
    pieces: list[dict[str, Any]] = []
    if path.exists():
        pieces = json.loads(path.read_text())["pieces"]
    pieces = [piece for piece in pieces if (piece["kind"], piece["seed"]) != (kind, seed)]
    pieces.append(
        {
            "kind": kind,
            "seed": seed,
            "kills": outcome.kills,
            "failures": outcome.failures,
            "kills_while_starting": outcome.kills_while_starting,
            "searches_compared": outcome.searches_compared,
            "verifications": outcome.verifications,
            "acknowledged": dict(sorted(outcome.acknowledged.items())),
            "findings": outcome.findings,
        }
    )
    counted = ("kills", "searches_compared", "verifications")
    total = {
        **{name: sum(piece[name] for piece in pieces) for name in counted},
        "acknowledged": sum(sum(piece["acknowledged"].values()) for piece in pieces),
        "findings": sum(len(piece["findings"]) for piece in pieces),
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"total": total, "pieces": pieces}, indent=2) + "\n")
    print(json.dumps(total))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=300, help="how many at random moments")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--failpoints", type=int, default=0, metavar="ARRIVALS",
        help="kill at every failpoint instead, at its first so many arrivals",
    )  # fmt: skip
    root = Path(__file__).resolve().parents[1]
    parser.add_argument(
        "--results", type=Path, default=root / "benchmarks" / "results" / "kill_campaign.json"
    )
    arguments = parser.parse_args()
    preload()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        if arguments.failpoints:
            outcome = run_failpoints(data, arguments.seed, arguments.failpoints)
        else:
            outcome = run(data, arguments.seed, arguments.kills)
    kind = "failpoints" if arguments.failpoints else "random moments"
    report(arguments.results, kind, arguments.seed, outcome)
    sys.exit(1 if outcome.findings else 0)


if __name__ == "__main__":
    main()
