"""A data directory, its writers, and the moments at which the server dies."""

import contextlib
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc

import visagedb
from campaign.checks import broken_invariants, check_searches, of_lane, read_state
from campaign.importer import PREFIX as IMPORTED
from campaign.importer import Importer
from campaign.keeper import AFTERWARDS, Keeper
from campaign.lanes import GALLERY, Lane
from campaign.model import BYSTANDER, DIMENSION, LOOSE, Person, State, vector_of
from campaign.offline import kill_offline
from campaign.server import Server

LANES: Final = 6
BYSTANDERS: Final = 700
WORK_SECONDS_MAX: Final = 1.0
KILLED_WHILE_STARTING: Final = 0.1
"""Part of the kills that come before the server listens."""
STARTING_SECONDS_MAX: Final = 0.08
REACHED_SECONDS_MAX: Final = 120.0
FAILING_SECONDS: Final = 0.7
ATTEMPTS_MAX: Final = 20
DEATH_SECONDS_MAX: Final = 2.0
OFFLINE: Final = {
    "restore.after_directory_rename",
    "restore.before_directory_rename",
    "restore.before_file",
}
"""Failpoints of work that is done while no server runs, beside those of a repair."""
_ENDED: Final = (visagedb.UnavailableError, visagedb.RequestCancelledError)


@dataclass
class Outcome:
    """What a campaign has seen."""

    kills: int = 0
    kills_while_starting: int = 0
    failures: int = 0
    refused: int = 0
    searches_compared: int = 0
    verifications: int = 0
    acknowledged: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


class Campaign:
    """A data directory that is written to by lanes, each with a client of its own.

    Args:
        data: An empty folder, or none.
        seed: Of all decisions but those of the scheduler.
        lanes: How many.
        bystanders: Persons who are there from the start, so that there is something to train
            codes on.
        verified: Whether every invariant of the databases is proved after each kill.
    """

    def __init__(
        self,
        data: Path,
        seed: int,
        *,
        lanes: int = LANES,
        bystanders: int = BYSTANDERS,
        verified: bool = True,
    ) -> None:
        self._data = data
        self._moments = random.Random(seed)
        self._verified = verified
        self.lanes = [Lane(number, seed) for number in range(lanes)]
        self.keeper = Keeper(seed, data.with_name("backups"))
        self.importer = Importer(data.with_name("sources"))
        self._writers: list[Lane | Keeper | Importer] = [*self.lanes, self.keeper, self.importer]
        self._bystanders: State = {
            name: Person({}, frozenset([name]))
            for name in (f"{BYSTANDER}{number}" for number in range(bystanders))
        }
        self.outcome = Outcome()

    def begin(self) -> None:
        """Makes the gallery that everything is about."""
        for name in ("sources", "exports"):
            self._data.with_name(name).mkdir()
        server = Server(self._data)
        with visagedb.Client(server.wait()) as client:
            client.create_gallery(
                GALLERY, model="test", dimension=DIMENSION, score_fusion="maximum"
            )
            items = [
                visagedb.EnrollItem(key, vector=vector_of(key), source=key)
                for key in self._bystanders
            ]
            for result in client.enroll_many(GALLERY, items):
                assert result.ok, result.error
        server.kill()

    def kill_at_random(self) -> None:
        """One life of a server, worked with until a random moment; then the checks."""
        self.keeper.wish, self.importer.resting = "", False
        while self._moments.random() < KILLED_WHILE_STARTING:
            server = Server(self._data)
            time.sleep(self._moments.random() * STARTING_SECONDS_MAX)
            server.kill()
            self.outcome.kills += 1
            self.outcome.kills_while_starting += 1
        server = Server(self._data)
        moment = self._moments.random() * WORK_SECONDS_MAX
        self._work(server, server.wait(), moment)
        self.outcome.kills += 1
        self.check()

    def kill_at(self, name: str, arrival: int = 1) -> bool:
        """One life of a server that ends at a failpoint; then the checks.

        Returns:
            Whether the failpoint was reached.
        """
        if name in OFFLINE or name.startswith("repair."):
            reached = kill_offline(self._data, name, arrival)
            self.outcome.kills += reached
            self.check()
            return reached
        self._prepare(name)
        self._aim(name)
        server = Server(self._data, f"{name}=kill@{arrival}")
        try:
            address = server.wait()
        except RuntimeError:
            reached = True
        else:
            reached = self._work(server, address, REACHED_SECONDS_MAX)
        self.outcome.kills += reached
        self.check()
        return reached

    def fail_at(self, name: str, error: str = "ENOSPC", arrivals: str = "1-3") -> None:
        """One life of a server whose disk fails at a failpoint for a while; then the checks.

        Writes that are refused must not have happened, and others must go on.
        """
        self._prepare(name)
        self._aim(name)
        server = Server(self._data, f"{name}=error:{error}@{arrivals}")
        self.outcome.failures += 1
        try:
            address = server.wait()
        except RuntimeError:
            # It needs its disk to start; it says so, and starts when the disk is back.
            self.check()
            return
        if self._work(server, address, FAILING_SECONDS, self._write_again):
            self._find([f"a server whose disk fails at {name} ended"])
        self.check()

    def check(self) -> None:
        """Starts a server and compares all that is there with all that must be; kills it."""
        if self._verified:
            self._find(broken_invariants(self._data))
            self.outcome.verifications += 1
        server = Server(self._data)
        try:
            with visagedb.Client(server.wait()) as client:
                self._check(client)
        finally:
            server.kill()

    def finish(self) -> None:
        """An orderly end, after which nothing may be different either."""
        server = Server(self._data)
        server.wait()
        code = server.stop()
        if code != 0:
            self._find([f"the last server ended with {code}"])
        self.check()
        for writer in self._writers:
            self.outcome.acknowledged += writer.acknowledged

    def _check(self, client: visagedb.Client) -> None:
        self.importer.complete(client)
        state, findings = read_state(client)
        self._find(findings)
        self._find(self.keeper.settle(client))
        for lane in self.lanes:
            self._find(lane.settle(of_lane(state, lane), client))
        if {n: p for n, p in state.items() if n.startswith(BYSTANDER)} != self._bystanders:
            self._find(["the bystanders are not what they were"])
        imported = {name: p for name, p in state.items() if name.startswith(IMPORTED)}
        self._find(self.importer.settle(imported))
        expected = {**self._bystanders, **imported}
        for lane in self.lanes:
            expected |= {name: p for name, p in lane.state.items() if name != LOOSE}
        count, findings = check_searches(client, expected, self.lanes, self.outcome.kills)
        self.outcome.searches_compared += count
        self._find(findings)

    def _aim(self, name: str) -> None:
        """Lets the writers do what comes past a failpoint, and little else."""
        self.keeper.wish = name.partition(".")[0]
        self.importer.resting = self.keeper.wish not in {"import", "commit", "columns"}

    def _prepare(self, name: str) -> None:
        """Lays out what a start must meet, for a failpoint that only a start can reach."""
        if name.startswith("orphans."):
            (self._data / "galleries" / "unfinished").mkdir(exist_ok=True)
        if name.startswith("build."):
            for folder in (self._data / "galleries").glob("*/codes"):
                shutil.rmtree(folder)

    def _write_again(self, address: str) -> None:
        """The disk is back after so many attempts: then everything must go on."""
        with visagedb.Client(address) as client:
            for _ in range(ATTEMPTS_MAX):
                with contextlib.suppress(visagedb.StorageFullError):
                    client.update_gallery(GALLERY, display_name="people")
                    client.create_gallery(AFTERWARDS, model="test", dimension=DIMENSION)
                    client.delete_gallery(AFTERWARDS)
                    return
        self._find(["nothing can be written although the disk is back"])

    def _work(
        self,
        server: Server,
        address: str,
        seconds: float,
        last: Callable[[str], None] | None = None,
    ) -> bool:
        """Lets the writers work until the server dies, by itself or after some time by us.

        Args:
            server: The server.
            address: Of the server.
            seconds: How long it may live.
            last: What to do before we end it.

        Returns:
            Whether it died by itself.
        """
        ended, dead = threading.Event(), threading.Event()
        clients = [visagedb.Client(address) for _ in self._writers]
        with ThreadPoolExecutor(len(clients)) as pool:
            jobs = [
                pool.submit(self._labour, writer, client, ended, dead)
                for writer, client in zip(self._writers, clients, strict=True)
            ]
            deadline = time.monotonic() + seconds
            while server.alive and time.monotonic() < deadline:
                time.sleep(min(0.01, max(0.0, deadline - time.monotonic())))
            died = not server.alive
            if last is not None and not died:
                last(address)
            ended.set()
            server.kill()
            dead.set()
            for job in jobs:
                job.result()
        for client in clients:
            client.close()
        return died

    def _labour(
        self,
        writer: Lane | Keeper | Importer,
        client: visagedb.Client,
        ended: threading.Event,
        dead: threading.Event,
    ) -> None:
        try:
            while not ended.is_set():
                try:
                    writer.step(client)
                except visagedb.StorageFullError:
                    self.outcome.refused += 1
                    writer.refused()
        except (*_ENDED, grpc.RpcError) as error:
            # Callers notice a death before we do.
            if not dead.wait(DEATH_SECONDS_MAX):
                self._find([f"{writer}: {error!r} before the kill"])
        except Exception as error:  # noqa: BLE001 - whatever it is, the campaign reports it
            self._find([f"{writer}: {error!r}"])

    def _find(self, findings: list[str]) -> None:
        for finding in findings:
            print(f"FINDING after {self.outcome.kills} kills: {finding}", flush=True)
        self.outcome.findings += findings
