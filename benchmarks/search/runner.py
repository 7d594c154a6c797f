"""Runs one engine in a process of its own, so that its memory and its crash are its own."""

import multiprocessing
import os
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from search.engine import Engine, Place, Setting
from search.measure import Pass, queries_per_second, single_queries
from search.memory import memory_mib
from search.registry import ENGINES
from search.workload import Workload

_ENVIRONMENT: Final = {
    # A query is one thread's work; clients run beside each other.
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Threads that wait by spinning would take the cores from each other.
    "OMP_WAIT_POLICY": "PASSIVE",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How thoroughly to measure.

    Attributes:
        clients: Numbers of clients to measure the throughput of.
        seconds: Length of each throughput measurement.
        pass_seconds: Most time for one pass of single queries.
        threads: Threads an index may be built with.
    """

    clients: tuple[int, ...] = (1, 8, 32)
    seconds: float = 5.0
    pass_seconds: float = 60.0
    threads: int = 1


def run(name: str, workload: Workload, own: Path, shared: Path, plan: Plan) -> dict[str, Any]:
    """All figures of one engine, or why there are none under ``skipped``."""
    # The measuring process starts afresh: libraries read these variables when they load.
    os.environ.update(_ENVIRONMENT)
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_measure, args=(name, workload.folder, own, shared, plan, sender)
    )
    process.start()
    sender.close()
    try:
        figures: dict[str, Any] = receiver.recv()
    except EOFError:
        process.join()
        figures = {"skipped": f"its process ended with code {process.exitcode}"}
    process.join(60)
    if process.is_alive():
        process.kill()
    return {"engine": name, "title": ENGINES[name].title, **figures}


def _measure(
    name: str, folder: Path, own: Path, shared: Path, plan: Plan, sender: Connection
) -> None:
    try:
        place = Place(Workload.open(folder), own, shared, plan.threads)
        engine = ENGINES[name].engine_class()(place)
        try:
            figures = _figures(engine, plan)
        finally:
            engine.close()
    except ImportError as error:
        figures = {"skipped": f"not installed: {error}"}
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        figures = {"skipped": f"{type(error).__name__}: {str(error)[:200]}"}
    sender.send(figures)


def _figures(engine: Engine, plan: Plan) -> dict[str, Any]:
    before = memory_mib([os.getpid()])
    started = time.perf_counter()
    engine.load()
    loaded = time.perf_counter()
    engine.build()
    built = time.perf_counter()
    engine.configure(engine.settings[0])
    for probe in engine.workload.probes[:100]:
        engine.search(probe)
    after = memory_mib([os.getpid(), *engine.extra_processes()])
    return {
        "notes": engine.notes,
        "judged": engine.judged,
        "load_seconds": loaded - started,
        "build_seconds": built - loaded,
        "memory_mib": after[0] - before[0],
        "mapped_mib": after[1] - before[1],
        "settings": _settings(engine, plan),
    }


def _settings(engine: Engine, plan: Plan) -> list[dict[str, Any]]:
    """Stock first, then rising effort until the bound of mates lost is kept."""
    rows: list[dict[str, Any]] = []
    passes: list[Pass] = []
    for setting in engine.settings:
        engine.configure(setting)
        measured = single_queries(engine, plan.pass_seconds)
        passes.append(measured)
        rows.append(_row(setting, measured))
        if setting is engine.settings[0] or not engine.judged:
            rows[-1]["queries_per_second"] = _throughput(engine, plan)
        if measured.within_bound and engine.judged:
            break
    best = min(range(len(passes)), key=lambda i: (passes[i].judged.rate, passes[i].p50_ms))
    rows[best]["tuned"] = True
    if "queries_per_second" not in rows[best]:
        engine.configure(engine.settings[best])
        rows[best]["queries_per_second"] = _throughput(engine, plan)
    return rows


def _throughput(engine: Engine, plan: Plan) -> dict[str, float]:
    return {str(n): queries_per_second(engine, n, plan.seconds) for n in plan.clients}


def _row(setting: Setting, measured: Pass) -> dict[str, Any]:
    def figures(lost: int, probes: int, bound: float) -> Mapping[str, float]:
        return {"lost": lost, "probes": probes, "rate_max": bound}

    judged = measured.judged
    return {
        "label": setting.label,
        "p50_ms": measured.p50_ms,
        "p99_ms": measured.p99_ms,
        "within_bound": measured.within_bound,
        "judged": figures(judged.lost, judged.probes, judged.rate_max),
        "losses": {
            str(cosine): figures(loss.lost, loss.probes, loss.rate_max)
            for cosine, loss in measured.losses.items()
        },
    }
