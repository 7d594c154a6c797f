"""A server under mixed work for a while: does anything grow that should not?

    python -m soak --minutes 20 --json soak.json
    python -m soak --minutes 5 --photos FOLDER     # with images, and workers that are killed

Callers enrol, identify, delete, move and cluster in a gallery that stays about the same size,
back it up now and then, and embedding processes are killed. The first third of the time is for
warming up. After it memory, open files, readers of the database and the size of the galleries
on disk are compared: the median of the second third with that of the last. Exits with 1 if one
of them has grown.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import visagedb
from visagedb_server.commands.top_view import Scrape, ScrapeError, scrape

GALLERY = "soak"
PEOPLE = 500
DIMENSION = 128
CALLERS = 4
SAMPLE_SECONDS = 2.0
CLUSTER_SECONDS = 20.0
BACKUP_SECONDS = 30.0
KILL_SECONDS = 15.0
MEMORY_GROWTH_BYTES = 40e6
FILES_GROWTH = 16
READERS_GROWTH = 8
DISK_GROWTH_SHARE = 0.2


class Soak:
    """The work, and what was seen of it."""

    def __init__(self, address: str, server: int, photos: list[Path]) -> None:
        self.address = address
        self.server = server
        self.photos = photos
        self.stopped = threading.Event()
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    def threads(self) -> list[threading.Thread]:
        work: list[Callable[[], None]] = [lambda i=i: self._call(i) for i in range(CALLERS)]  # type: ignore[misc]
        work += [lambda: self._every(CLUSTER_SECONDS, "cluster", self._cluster)]
        work += [lambda: self._every(BACKUP_SECONDS, "backup", self._backup)]
        if self.photos:
            work += [lambda: self._every(KILL_SECONDS, "worker killed", self._kill)]
            work += [self._images]
        return [threading.Thread(target=one, daemon=True) for one in work]

    def _note(self, what: str, action: Callable[[], object]) -> None:
        try:
            action()
            self.done[what] += 1
        except visagedb.VisageError as error:
            self.errors[f"{what}: {error.reason or error.code}"] += 1

    def _call(self, lane: int) -> None:
        draw, vectors = random.Random(lane), np.random.default_rng(lane)
        with visagedb.Client(self.address, timeout=60) as client:
            while not self.stopped.is_set():
                person = f"p{draw.randrange(PEOPLE)}"
                vector = vectors.standard_normal(DIMENSION, dtype=np.float32)
                kind = draw.random()
                if kind < 0.25:
                    self._note("enrol", partial(client.enroll, GALLERY, person, vector=vector))
                elif kind < 0.48:
                    self._note(
                        "delete",
                        partial(client.delete_identity, GALLERY, person, missing_ok=True),
                    )
                elif kind < 0.50:
                    ids = [f"p{draw.randrange(PEOPLE)}" for _ in range(64)]
                    rows = vectors.standard_normal((64, DIMENSION), dtype=np.float32)
                    self._note("enrol matrix", partial(client.enroll_vectors, GALLERY, ids, rows))
                else:
                    self._note("identify", partial(client.identify, GALLERY, vector=vector))

    def _every(self, seconds: float, what: str, action: Callable[[], object]) -> None:
        while not self.stopped.wait(seconds):
            self._note(what, action)

    def _cluster(self) -> None:
        with visagedb.Client(self.address, timeout=60) as client:
            client.cluster(GALLERY, method="components", threshold=0.6).result(timeout=120)

    def _backup(self) -> None:
        with visagedb.Client(self.address, timeout=60) as client:
            client.snapshot_gallery(GALLERY).result(timeout=120)

    def _images(self) -> None:
        with visagedb.Client(self.address, timeout=60) as client:
            while not self.stopped.is_set():
                photo = random.choice(self.photos)
                self._note("detect", partial(client.detect, image=photo))

    def _kill(self) -> None:
        children = Path(f"/proc/{self.server}/task/{self.server}/children").read_text().split()
        tasks = Path(f"/proc/{self.server}/task").iterdir()
        found = {*children, *(c for task in tasks for c in (task / "children").read_text().split())}
        if found:
            os.kill(int(random.choice(sorted(found))), signal.SIGKILL)


def disk_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512 if path.is_file() else 0
        except OSError:
            continue
    return total


def sample(metrics: Scrape, folder: Path) -> dict[str, float]:
    return {
        "memory_bytes": metrics.one("process_resident_memory_bytes"),
        "open_files": metrics.one("process_open_fds"),
        "readers": metrics.total("visagedb_gallery_readers"),
        "faces": metrics.total("visagedb_gallery_faces"),
        "disk_bytes": float(disk_bytes(folder / "galleries")),
        # The audit log keeps a line for each call, and is to grow.
        "other_disk_bytes": float(disk_bytes(folder) - disk_bytes(folder / "galleries")),
    }


def judged(samples: list[dict[str, float]]) -> dict[str, Any]:
    """Second third against last third; what has grown."""
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    before = {name: statistics.median(one[name] for one in middle) for name in samples[0]}
    after = {name: statistics.median(one[name] for one in last) for name in samples[0]}
    more_faces = max(0.0, after["faces"] / max(1.0, before["faces"]) - 1)
    allowed = {
        "memory_bytes": MEMORY_GROWTH_BYTES,
        "open_files": FILES_GROWTH,
        "readers": READERS_GROWTH,
        "disk_bytes": (DISK_GROWTH_SHARE + more_faces) * before["disk_bytes"],
    }
    grown = {name: after[name] - before[name] for name in allowed}
    return {
        "second_third": before,
        "last_third": after,
        "grown": {name: round(by) for name, by in grown.items()},
        "allowed": {name: round(by) for name, by in allowed.items()},
        "failed": sorted(name for name in allowed if grown[name] > allowed[name]),
    }


def run(minutes: float, photos: list[Path]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        data, backups = Path(folder) / "data", Path(folder) / "backups"
        command = [sys.executable, "-m", "visagedb", "serve", "--data", str(data), "--port", "0"]
        command += ["--workers", "1" if photos else "0", "--log-level", "error"]
        environment = {**os.environ, "VISAGEDB_BACKUP_ROOT": str(backups)}
        backups.mkdir()
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[-1]
            metrics = server.stdout.readline().split()[-1]
            with visagedb.Client(address, timeout=60) as client:
                client.create_gallery(GALLERY, model="synthetic@1", dimension=DIMENSION)
            soak = Soak(address, server.pid, photos)
            threads = soak.threads()
            for thread in threads:
                thread.start()
            samples, until = [], time.monotonic() + 60 * minutes
            while time.monotonic() < until and server.poll() is None:
                time.sleep(SAMPLE_SECONDS)
                try:
                    samples.append(sample(scrape(metrics), data))
                except ScrapeError:
                    soak.errors["scrape"] += 1
            alive = server.poll() is None
            soak.stopped.set()
            for thread in threads:
                thread.join(60)
        finally:
            server.terminate()
            code = server.wait()
    return {
        "minutes": minutes,
        "server_alive": alive,
        "exit_code": code,
        "samples": len(samples),
        "done": dict(soak.done),
        "errors": dict(soak.errors),
        **judged(samples),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--photos", type=Path, help="a folder of photographs")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    photos = sorted(given.photos.rglob("*.jpg"))[:20] if given.photos else []
    found = run(given.minutes, photos)
    text = json.dumps(found, indent=2)
    print(text)
    if given.json is not None:
        given.json.write_text(text + "\n")
    if found["failed"] or not found["server_alive"] or found["exit_code"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
