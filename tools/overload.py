"""Ten times the load a server can serve: what it serves then, and how it comes back.

    python -m overload --kind searches --seconds 60 --json overload-searches.json
    python -m overload --kind images --photos FOLDER --json overload-images.json

A server runs in a process of its own, the callers in another. First the most that it serves is
looked for, with more and more callers that each wait for their answer. Then calls come at ten
times that rate whether or not others are answered (nobody repeats a refused one and nobody
slows down), while health is asked twice a second. At last they come at a third of the peak, and
it is measured how long it takes until all of these are served as fast as before.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
from grpc_health.v1 import health_pb2

import visagedb
from visagedb.v1 import search_pb2, types_pb2

GALLERY = "overload"
FACTOR = 10.0
CALL_SECONDS = 30.0
CONCURRENCIES = (8, 32, 64, 128, 192)
BACK_SECONDS = 15.0
_IDENTIFY = "/visagedb.v1.SearchService/Identify"
_HEALTH = "/grpc.health.v1.Health/Check"
_SEED = 23


@dataclass
class Phase:
    """Calls of one phase; times in seconds."""

    seconds: float = 0.0
    codes: Counter[str] = field(default_factory=Counter)
    served_seconds: list[float] = field(default_factory=list)

    @property
    def served_per_second(self) -> float:
        return self.codes["OK"] / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        if not self.served_seconds:
            return 0.0
        return float(np.percentile(self.served_seconds, 100 * share))

    def summary(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 2),
            "codes": dict(self.codes),
            "served_per_second": round(self.served_per_second, 2),
            "p50_ms": round(1000 * self.percentile(0.5), 1),
            "p99_ms": round(1000 * self.percentile(0.99), 1),
        }


@dataclass(frozen=True)
class Settings:
    """How long, and how hard.

    Attributes:
        seconds: Of the overload.
        peak_seconds: Of each step on the way to the peak.
        factor: Offered load, in peaks.
    """

    seconds: float = 60.0
    peak_seconds: float = 4.0
    factor: float = FACTOR


class Callers:
    """Calls a server; used within one event loop."""

    def __init__(self, address: str, requests: Sequence[bytes]) -> None:
        self._requests = requests
        options = [("grpc.max_receive_message_length", 64 << 20)]
        self._channels = [
            grpc.aio.insecure_channel(address, [*options, ("grpc.use_local_subchannel_pool", 1)])
            for _ in range(4)
        ]
        # Bytes in, bytes out: the callers' own work is to be small.
        self._methods: list[Callable[..., Awaitable[bytes]]] = [
            channel.unary_unary(_IDENTIFY) for channel in self._channels
        ]
        self._health: Callable[..., Awaitable[bytes]] = self._channels[0].unary_unary(_HEALTH)
        self._count = 0

    async def call(self, phase: Phase) -> None:
        self._count += 1
        request = self._requests[self._count % len(self._requests)]
        method = self._methods[self._count % len(self._methods)]
        started = time.perf_counter()
        try:
            await method(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            phase.codes[error.code().name] += 1
        else:
            phase.codes["OK"] += 1
            phase.served_seconds.append(time.perf_counter() - started)

    async def closed(self, concurrency: int, seconds: float) -> Phase:
        """So many callers, each of which waits for its answer."""
        phase, until = Phase(), time.perf_counter() + seconds
        began = time.perf_counter()

        async def one() -> None:
            while time.perf_counter() < until:
                await self.call(phase)

        await asyncio.gather(*(one() for _ in range(concurrency)))
        phase.seconds = time.perf_counter() - began
        return phase

    async def open(self, rate: float, seconds: float) -> tuple[Phase, float]:
        """Calls at a rate, whoever is answered; returns them and the rate that was reached."""
        phase, tasks = Phase(), set[asyncio.Task[None]]()
        began = time.perf_counter()
        sent = 0
        while (elapsed := time.perf_counter() - began) < seconds:
            while sent < elapsed * rate:
                task = asyncio.create_task(self.call(phase))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                sent += 1
                if sent % 16 == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(0.002)
        phase.seconds = time.perf_counter() - began
        within = Counter(phase.codes)
        await asyncio.gather(*tasks)
        # What is answered after the end does not count for the throughput.
        phase.codes, late = within, phase.codes - within
        phase.codes["answered later"] = sum(late.values())
        return phase, sent / phase.seconds

    async def ask_health(self, seconds: float) -> dict[str, Any]:
        """Asks twice a second; how long the answers took, and how many failed."""
        times, failed, until = [], 0, time.perf_counter() + seconds
        request = health_pb2.HealthCheckRequest().SerializeToString()
        while time.perf_counter() < until:
            started = time.perf_counter()
            try:
                await self._health(request, timeout=5.0)
                times.append(time.perf_counter() - started)
            except grpc.aio.AioRpcError:
                failed += 1
            await asyncio.sleep(0.5)
        return {
            "asked": len(times) + failed,
            "failed": failed,
            "max_ms": round(1000 * max(times, default=0.0), 1),
        }

    async def back_to_normal(self, rate: float, usual: float) -> float | None:
        """Seconds until a second's calls at this rate were all served as fast as usual."""
        began = time.perf_counter()
        while time.perf_counter() - began < BACK_SECONDS:
            started = time.perf_counter() - began
            phase, _ = await self.open(rate, 1.0)
            fine = phase.codes["OK"] + phase.codes["answered later"] == sum(phase.codes.values())
            if fine and phase.percentile(0.5) < max(2 * usual, usual + 0.05):
                return started
        return None

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


async def campaign(
    address: str, requests: Sequence[bytes], settings: Settings, memory: Callable[[], int]
) -> dict[str, Any]:
    """The whole; returns what was measured."""
    callers = Callers(address, requests)
    await callers.closed(2, min(2.0, settings.peak_seconds))
    steps = [(n, await callers.closed(n, settings.peak_seconds)) for n in CONCURRENCIES]
    concurrency, best = max(steps, key=lambda step: step[1].served_per_second)
    peak = best.served_per_second
    third = peak / 3
    usual, _ = await callers.open(third, settings.peak_seconds)
    before, samples = memory(), list[int]()

    async def watch() -> None:
        while True:
            samples.append(memory())
            await asyncio.sleep(1.0)

    watching = asyncio.create_task(watch())
    (overload, offered), health = await asyncio.gather(
        callers.open(settings.factor * peak, settings.seconds),
        callers.ask_health(settings.seconds),
    )
    watching.cancel()
    back = await callers.back_to_normal(third, usual.percentile(0.5))
    await callers.close()
    return {
        "peak": {"concurrency": concurrency, **best.summary()},
        "steps": {str(n): round(phase.served_per_second, 2) for n, phase in steps},
        "usual": usual.summary(),
        "overload": {
            **overload.summary(),
            "wanted_per_second": round(settings.factor * peak, 1),
            "offered_per_second": round(offered, 1),
            "offered_in_peaks": round(offered / peak, 2),
            "served_share_of_peak": round(overload.served_per_second / peak, 3),
        },
        "health": health,
        "memory_mb": {
            "before": round(before / 1e6),
            "highest": round(max(samples, default=before) / 1e6),
            "after": round(memory() / 1e6),
        },
        "back_to_normal_seconds": None if back is None else round(back, 2),
    }


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return 1024 * int(line.split()[1])
    return 0


def search_requests(client: visagedb.Client, faces: int, dimension: int) -> list[bytes]:
    """Fills a gallery with random vectors; exact searches in it."""
    random = np.random.default_rng(_SEED)
    client.create_gallery(GALLERY, model="synthetic@1", dimension=dimension)
    for start in range(0, faces, 8192):
        count = min(8192, faces - start)
        vectors = random.standard_normal((count, dimension), dtype=np.float32)
        client.enroll_vectors(GALLERY, [f"p{start + i}" for i in range(count)], vectors)
    probes = random.standard_normal((64, dimension), dtype=np.float32)
    return [
        search_pb2.IdentifyRequest(
            gallery=f"galleries/{GALLERY}",
            probe=types_pb2.Probe(template=types_pb2.Template(vector=probe.tobytes())),
            exact=True,
        ).SerializeToString()
        for probe in probes
    ]


def image_requests(client: visagedb.Client, photos: Path) -> list[bytes]:
    """Searches with the largest face of photographs."""
    client.create_gallery(GALLERY)
    # Without a face there is another answer, and less to do.
    paths = [
        path
        for path in sorted(path for path in photos.rglob("*.jpg"))[:48]
        if client.detect(image=path).faces
    ]
    if not paths:
        raise SystemExit(f"no .jpg with a face below {photos}")
    client.enroll(GALLERY, "somebody", image=paths[0], face_selection="largest")
    return [
        search_pb2.IdentifyRequest(
            gallery=f"galleries/{GALLERY}",
            probe=types_pb2.Probe(
                image=path.read_bytes(), face_selection=types_pb2.FACE_SELECTION_LARGEST
            ),
        ).SerializeToString()
        for path in paths
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=("searches", "images"), default="searches")
    parser.add_argument("--faces", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--photos", type=Path, help="a folder of photographs, for images")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overload-") as folder:
        workers = given.workers if given.kind == "images" else 0
        command = [sys.executable, "-m", "visagedb", "serve", "--data", folder, "--port", "0"]
        command += ["--workers", str(workers), "--log-level", "warning"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[-1]
            with visagedb.Client(address, timeout=300.0) as client:
                if given.kind == "images":
                    requests = image_requests(client, given.photos)
                else:
                    requests = search_requests(client, given.faces, given.dimension)
            settings = Settings(given.seconds)
            found = asyncio.run(
                campaign(address, requests, settings, lambda: resident_bytes(server.pid))
            )
            alive = server.poll() is None
        finally:
            server.terminate()
            server.wait()
    document = {
        "kind": given.kind,
        "faces": given.faces if given.kind == "searches" else 1,
        "dimension": given.dimension if given.kind == "searches" else 128,
        "workers": workers,
        "cores": len(os.sched_getaffinity(0)),
        "server_alive": alive,
        **asdict(settings),
        **found,
    }
    text = json.dumps(document, indent=2)
    print(text)
    if given.json is not None:
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
