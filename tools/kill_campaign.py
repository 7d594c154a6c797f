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
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from campaign.checks import check_searches, of_lane, read_state
from campaign.keeper import Keeper
from campaign.lanes import GALLERY, Lane
from campaign.model import BYSTANDER, DIMENSION, LOOSE, Person, State, vector_of
from campaign.server import Server, preload

import visagedb

LANES: Final = 6
BYSTANDERS: Final = 1500
"""Persons who are there from the start, so that there is something to train codes on."""
WORK_SECONDS_MAX: Final = 1.0
KILLED_WHILE_STARTING: Final = 0.1
"""Part of the kills that come before the server listens."""
_ENDED: Final = (visagedb.UnavailableError, visagedb.RequestCancelledError)


@dataclass
class Outcome:
    """What a campaign has seen."""

    kills: int = 0
    kills_while_starting: int = 0
    searches_compared: int = 0
    verifications: int = 0
    acknowledged: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


class Campaign:
    """A data directory, its writers, and the moments at which the server dies."""

    def __init__(self, data: Path, seed: int, verify: Callable[[Path], list[str]] | None) -> None:
        self._data = data
        self._moments = random.Random(seed)
        self._verify = verify
        self.lanes = [Lane(number, seed) for number in range(LANES)]
        self.keeper = Keeper(seed)
        self.writers: list[Lane | Keeper] = [*self.lanes, self.keeper]
        self.bystanders: State = {
            name: Person({}, frozenset([name]))
            for name in (f"{BYSTANDER}{number}" for number in range(BYSTANDERS))
        }
        self.outcome = Outcome()

    def begin(self) -> None:
        """Makes the gallery that everything is about."""
        server = Server(self._data)
        with visagedb.Client(server.wait()) as client:
            client.create_gallery(
                GALLERY, model="test", dimension=DIMENSION, score_fusion="maximum"
            )
            items = [
                visagedb.EnrollItem(key, vector=vector_of(key), source=key)
                for key in self.bystanders
            ]
            for result in client.enroll_many(GALLERY, items):
                assert result.ok, result.error
        server.kill()

    def turn(self) -> None:
        """One life of a server: checked, worked with, and killed."""
        number = self.outcome.kills
        while self._moments.random() < KILLED_WHILE_STARTING:
            server = Server(self._data)
            time.sleep(self._moments.random() * 0.3)
            server.kill()
            self.outcome.kills += 1
            self.outcome.kills_while_starting += 1
        if self._verify is not None and number:
            self._find(self._verify(self._data))
            self.outcome.verifications += 1
        server = Server(self._data)
        address = server.wait()
        try:
            with visagedb.Client(address) as client:
                self.check(client)
            self._work(address, server)
        finally:
            server.kill()
        self.outcome.kills += 1

    def finish(self) -> None:
        """The last check, and an orderly end."""
        server = Server(self._data)
        with visagedb.Client(server.wait()) as client:
            self.check(client)
        code = server.stop()
        if code != 0:
            self._find([f"the last server ended with {code}"])
        for writer in self.writers:
            self.outcome.acknowledged += writer.acknowledged

    def check(self, client: visagedb.Client) -> None:
        """Everything that is there against everything that must be."""
        state, findings = read_state(client)
        self._find(findings)
        self._find(self.keeper.settle(client))
        for lane in self.lanes:
            self._find(lane.settle(of_lane(state, lane), client))
        if {n: p for n, p in state.items() if n.startswith(BYSTANDER)} != self.bystanders:
            self._find(["the bystanders are not what they were"])
        expected = dict(self.bystanders)
        for lane in self.lanes:
            expected |= {name: p for name, p in lane.state.items() if name != LOOSE}
        count, findings = check_searches(client, expected, self.lanes, self.outcome.kills)
        self.outcome.searches_compared += count
        self._find(findings)

    def _work(self, address: str, server: Server) -> None:
        moment = self._moments.random() * WORK_SECONDS_MAX
        ended = threading.Event()
        clients = [visagedb.Client(address) for _ in self.writers]
        with ThreadPoolExecutor(len(clients)) as pool:
            jobs = [
                pool.submit(self._labour, writer.step, client, ended)
                for writer, client in zip(self.writers, clients, strict=True)
            ]
            time.sleep(moment)
            ended.set()
            server.kill()
            for job in jobs:
                job.result()
        for client in clients:
            client.close()

    def _labour(
        self,
        step: Callable[[visagedb.Client], None],
        client: visagedb.Client,
        ended: threading.Event,
    ) -> None:
        try:
            while True:
                step(client)
        except _ENDED as error:
            if not ended.is_set():
                self._find([f"{step}: {error!r} before the kill"])
        except Exception as error:  # noqa: BLE001 - whatever it is, the campaign reports it
            self._find([f"{step}: {error!r}"])

    def _find(self, findings: list[str]) -> None:
        for finding in findings:
            print(f"FINDING after {self.outcome.kills} kills: {finding}", flush=True)
        self.outcome.findings += findings


def run(data: Path, seed: int, kills: int) -> Outcome:
    """Runs a campaign in an empty folder until the server was killed so many times."""
    preload()
    campaign = Campaign(data, seed, None)
    campaign.begin()
    started = time.monotonic()
    while campaign.outcome.kills < kills:
        campaign.turn()
        if campaign.outcome.kills % 10 == 0:
            seconds = time.monotonic() - started
            print(f"{campaign.outcome.kills} kills, {seconds:.0f} s", flush=True)
    campaign.finish()
    return campaign.outcome


def report(path: Path, seed: int, outcome: Outcome) -> None:
    """Adds a piece to the file of results."""
    pieces: list[dict[str, Any]] = []
    if path.exists():
        pieces = json.loads(path.read_text())["pieces"]
    pieces = [piece for piece in pieces if piece["seed"] != seed]
    pieces.append(
        {
            "seed": seed,
            "kills": outcome.kills,
            "kills_while_starting": outcome.kills_while_starting,
            "searches_compared": outcome.searches_compared,
            "verifications": outcome.verifications,
            "acknowledged": dict(sorted(outcome.acknowledged.items())),
            "findings": outcome.findings,
        }
    )
    total = {
        "kills": sum(piece["kills"] for piece in pieces),
        "acknowledged": sum(sum(piece["acknowledged"].values()) for piece in pieces),
        "findings": sum(len(piece["findings"]) for piece in pieces),
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"total": total, "pieces": pieces}, indent=2) + "\n")
    print(json.dumps(total))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    root = Path(__file__).resolve().parents[1]
    parser.add_argument(
        "--results", type=Path, default=root / "benchmarks" / "results" / "kill_campaign.json"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(Path(folder) / "data", arguments.seed, arguments.kills)
    report(arguments.results, arguments.seed, outcome)
    sys.exit(1 if outcome.findings else 0)


if __name__ == "__main__":
    main()
