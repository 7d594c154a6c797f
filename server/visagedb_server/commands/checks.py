"""The single checks of `visagedb doctor`. None of them changes anything that stays."""

import fcntl
import importlib
import importlib.metadata
import io
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from visagedb_indexer.errors import IndexerError
from visagedb_indexer.faces.registry import ModelRegistry

PYTHON_MIN: Final = (3, 11)
FREE_BYTES_WARN: Final = 5 * 1024**3
FREE_BYTES_FAIL: Final = 200 * 1024**2
SERVER_TIMEOUT_SECONDS: Final = 3.0
SELF_TEST_PIXELS: Final = 320
DETAIL_CHARACTERS_MAX: Final = 200

# Import name, distribution name, and the extra that brings it.
_PACKAGES: Final = (
    ("grpc", "grpcio", "server"),
    ("google.protobuf", "protobuf", "server"),
    ("numpy", "numpy", "server"),
    ("grpc_health.v1.health_pb2_grpc", "grpcio-health-checking", "server"),
    ("grpc_reflection.v1alpha.reflection", "grpcio-reflection", "server"),
    ("grpc_status.rpc_status", "grpcio-status", "server"),
    ("cryptography", "cryptography", "server"),
    ("lmdb", "lmdb", "server"),
    ("msgspec", "msgspec", "server"),
    ("xxhash", "xxhash", "server"),
    ("pydantic_settings", "pydantic-settings", "server"),
    ("structlog", "structlog", "server"),
    ("faiss", "faiss-cpu", "server"),
    ("prometheus_client", "prometheus-client", "server"),
    ("pyroaring", "pyroaring", "server"),
    ("scipy", "scipy", "server"),
    ("torch", "torch", "faces"),
    ("onnx", "onnx", "faces"),
    ("PIL", "pillow", "faces"),
    ("jinja2", "jinja2", "evaluation"),
    ("matplotlib", "matplotlib", "evaluation"),
)


class Status(StrEnum):
    """How a check ended."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What was looked at.
        status: How it is.
        detail: What was found.
        fix: What to do about it; empty when nothing is needed.
    """

    name: str
    status: Status
    detail: str
    fix: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain values, ready for JSON."""
        return {
            "name": self.name,
            "status": self.status.value,
            "detail": self.detail,
            "fix": self.fix,
        }


def python() -> Iterator[Check]:
    """Version of Python."""
    version = platform.python_version()
    if sys.version_info >= PYTHON_MIN:
        yield Check("python", Status.OK, version)
    else:
        wanted = ".".join(map(str, PYTHON_MIN))
        yield Check("python", Status.FAIL, version, f"install Python {wanted} or newer")


def packages() -> Iterator[Check]:
    """Whether every package can be imported."""
    for module, distribution, extra in _PACKAGES:
        fix = f"pip install 'visagedb[{extra}]'"
        try:
            version = importlib.metadata.version(distribution)
            importlib.import_module(module)
        except importlib.metadata.PackageNotFoundError:
            yield Check(distribution, _without(extra), "not installed", fix)
        except Exception as error:  # noqa: BLE001 (a broken package may raise anything)
            why = str(error).partition("\n")[0][:DETAIL_CHARACTERS_MAX]
            detail = f"{version} cannot be imported: {why}"
            yield Check(distribution, Status.FAIL, detail, f"{fix} --upgrade --force-reinstall")
        else:
            yield Check(distribution, Status.OK, version)


def _without(extra: str) -> Status:
    # A server without face models still takes vectors, and needs no reports.
    return Status.WARN if extra in ("faces", "evaluation") else Status.FAIL


def processor() -> Iterator[Check]:
    """Instructions that make search and embedding fast."""
    flags = _cpu_flags()
    if not flags:
        yield Check("processor", Status.OK, f"{platform.machine()}, features unknown")
        return
    simd = next((name for name in ("avx512f", "avx2", "asimd") if name in flags), "")
    bf16 = [name for name in ("amx_bf16", "avx512_bf16", "bf16") if name in flags]
    detail = f"{simd or 'no vector instructions'}, bfloat16: {', '.join(bf16) or 'no'}"
    if simd:
        yield Check("processor", Status.OK, detail)
    else:
        fix = "use a processor with AVX2 or better; searches will be slow on this one"
        yield Check("processor", Status.WARN, detail, fix)


def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def models(cards: tuple[Path, ...]) -> Iterator[Check]:
    """Whether the files of every model are those of its card."""
    try:
        registry = ModelRegistry(cards)
    except IndexerError as error:
        yield Check("model cards", Status.FAIL, error.message, "mend or remove the card")
        return
    for name in registry.names():
        card = registry.get(name)
        try:
            registry.check_files(card)
        except IndexerError as error:
            status = Status.FAIL if card.weights.folder else _without("faces")
            yield Check(f"model {name}", status, error.message, "pip install 'visagedb[faces]'")
        else:
            yield Check(f"model {name}", Status.OK, f"{card.identity().version}, digests agree")


def disk(folder: Path, *, is_data: bool) -> Iterator[Check]:
    """Whether the data directory can be written, and the room that is left."""
    existing = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
    )
    name = "data directory" if is_data else "working directory"
    if not existing.is_dir():
        yield Check(name, Status.FAIL, f"{existing} is a file", "choose another --data")
        return
    try:
        with tempfile.TemporaryFile(dir=existing) as probe:
            probe.write(b"visagedb")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        fix = f"make {existing} writable for this user, or choose another --data"
        yield Check(name, Status.FAIL, f"{existing} is not writable: {error.strerror}", fix)
    else:
        yield Check(name, Status.OK, f"{existing} is writable")
    free = shutil.disk_usage(existing).free
    detail = f"{free / 1024**3:.1f} GiB free at {existing}"
    if free < FREE_BYTES_WARN:
        status = Status.FAIL if free < FREE_BYTES_FAIL else Status.WARN
        yield Check("disk", status, detail, "free some space, or choose another --data")
    else:
        yield Check("disk", Status.OK, detail)


def galleries(data: Path | None) -> Iterator[Check]:
    """Whether the database files of a data directory are whole, as far as a glance shows."""
    if data is None or not (data / "LOCK").exists():
        return
    from visagedb_indexer.store.pages import check_file

    name = "galleries"
    with (data / "LOCK").open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield Check(name, Status.OK, "in use by a server: visagedb gallery list")
            return
        folders = [data / "catalogue", *sorted((data / "galleries").glob("*"))]
        damaged = 0
        for folder in folders:
            try:
                check_file(folder)
            except IndexerError as error:
                damaged += 1
                fix = "visagedb backup restore, or visagedb data restore"
                yield Check(name, Status.FAIL, error.message, fix)
    if not damaged:
        detail = f"{len(folders) - 1} and their catalogue; for a proof: visagedb data verify"
        yield Check(name, Status.OK, detail)


def server(address: str | None) -> Iterator[Check]:
    """Whether a server answers. None needs to run, unless an address was given."""
    from visagedb import DEFAULT_ADDRESS, Client, HealthStatus, VisageError

    where = address or DEFAULT_ADDRESS
    try:
        with Client(where, timeout=SERVER_TIMEOUT_SECONDS) as client:
            health = client.health()
    except VisageError as error:
        if address is None:
            yield Check("server", Status.OK, f"none runs at {where}")
        else:
            yield Check("server", Status.WARN, error.message, "visagedb serve --data DIR")
        return
    if health is HealthStatus.SERVING:
        yield Check("server", Status.OK, f"serving at {where}")
    else:
        fix = "wait for it to start, or look at its log"
        yield Check("server", Status.WARN, f"{health} at {where}", fix)


def self_test(cards: tuple[Path, ...]) -> Iterator[Check]:
    """Runs the detector on a generated picture and every network once."""
    name = "self-test"
    fix = "visagedb models check"
    try:
        from PIL import Image

        from visagedb_indexer.faces.pipeline import load_pipeline

        start = time.perf_counter()
        registry = ModelRegistry(cards)
        for card in registry.embedders():
            registry.check(card)
        picture = io.BytesIO()
        Image.effect_noise((SELF_TEST_PIXELS, SELF_TEST_PIXELS), 64).convert("RGB").save(
            picture, "PNG"
        )
        (result,) = load_pipeline(registry, None).extract([picture.getvalue()], embed=False)
    except ImportError as error:
        install = "pip install 'visagedb[faces]'"
        yield Check(name, Status.WARN, f"left out: {error}", install)
        return
    except Exception as error:  # noqa: BLE001 (whatever it is, it would stop a server)
        yield Check(name, Status.FAIL, f"{type(error).__name__}: {error}", fix)
        return
    if isinstance(result, Exception):
        yield Check(name, Status.FAIL, str(result), fix)
        return
    seconds = time.perf_counter() - start
    yield Check(name, Status.OK, f"detector and embedders ran in {seconds:.1f} s")
