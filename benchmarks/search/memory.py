"""Memory of a process and all that it started, from Linux's accounting."""

import ctypes
import gc
from collections.abc import Iterable
from pathlib import Path

_MIB_KIB = 1024


def processes_below(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            found.extend(processes_below(int(child)))
    return found


def memory_mib(roots: Iterable[int]) -> tuple[float, float]:
    """Memory of process trees in MiB: private and shared, and pages of mapped files.

    Pages that several processes share are counted once (proportional set size). Mapped
    files are kept apart: the kernel takes those pages back when it needs them.
    """
    gc.collect()
    # Freed memory goes back first, so that a peak of the build does not count as its size.
    ctypes.CDLL(None).malloc_trim(0)
    own = mapped = 0.0
    for pid in {below for root in roots for below in processes_below(root)}:
        fields = _rollup(pid)
        own += fields.get("Pss_Anon", 0) + fields.get("Pss_Shmem", 0)
        mapped += fields.get("Pss_File", 0)
    return own / _MIB_KIB, mapped / _MIB_KIB


def _rollup(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    pairs = (line.split(":") for line in lines if line.startswith("Pss"))
    return {name: int(value.split()[0]) for name, value in pairs}
