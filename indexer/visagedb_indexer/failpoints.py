"""Named moments at which the process can be made to fail, for the tests of durability.

A durable step calls `reached` before and after what it does, with a literal name
``room.step``. Nothing happens unless the process was started with

    VISAGEDB_FAILPOINT="commit.before_sync=kill@3"

and then, in this example, the third arrival at that place ends the process as a power cut
would. Several, separated by commas, may be armed at once. What may happen:

    kill             SIGKILL to the own process
    error            OSError, no space left on the device
    error:EIO        OSError with another number
    pause            half a second's wait
    pause:5          a wait of so many seconds

``@3`` means the third arrival, ``@3-5`` the third to the fifth, ``@3-`` every one from the third
on; without it every arrival counts. ``VISAGEDB_FAILPOINT_TRACE=FILE`` appends each name to a file
when it is reached for the first time.
"""

import errno
import logging
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LOG = logging.getLogger(__name__)
ARMED_VARIABLE: Final = "VISAGEDB_FAILPOINT"
TRACE_VARIABLE: Final = "VISAGEDB_FAILPOINT_TRACE"
NAME: Final = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
"""What a name looks like: the room, a dot, the step."""

_ARMED: Final = re.compile(
    rf"(?P<name>{NAME.pattern})=(?P<action>kill|error|pause)(:(?P<detail>[A-Z0-9.]+))?"
    r"(@(?P<first>\d+)(?P<range>-(?P<last>\d*))?)?"
)
_PAUSE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Failpoint:
    """What happens at one name, from the first to the last arrival that counts."""

    name: str
    action: str
    detail: str
    first: int
    last: float

    def strike(self) -> None:
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
            # The signal ends every thread; this one must not go on until it does.
            signal.pause()
        elif self.action == "pause":
            time.sleep(float(self.detail or _PAUSE_SECONDS))
        else:
            number = getattr(errno, self.detail or "ENOSPC")
            raise OSError(number, f"{os.strerror(number)} (failpoint {self.name})")


class _Armed:
    """The failpoints of this process, and how often each was reached."""

    def __init__(self, failpoints: Mapping[str, _Failpoint], trace: str) -> None:
        self._failpoints = failpoints
        self._trace = trace
        self._lock = threading.Lock()
        self._arrivals: Counter[str] = Counter()

    def reached(self, name: str) -> None:
        with self._lock:
            self._arrivals[name] += 1
            arrival = self._arrivals[name]
            if arrival == 1 and self._trace:
                with Path(self._trace).open("a", encoding="utf-8") as file:
                    file.write(name + "\n")
        failpoint = self._failpoints.get(name)
        if failpoint is not None and failpoint.first <= arrival <= failpoint.last:
            failpoint.strike()


def _parsed(text: str) -> _Failpoint:
    found = _ARMED.fullmatch(text.strip())
    detail = (found and found["detail"]) or ""
    if found is None or (found["action"] == "error" and not hasattr(errno, detail or "ENOSPC")):
        raise ValueError(f"{ARMED_VARIABLE}: {text.strip()!r} is not NAME=ACTION[@ARRIVAL]")
    first = int(found["first"] or 1)
    last: float = float("inf")
    if found["range"] is None and found["first"]:
        last = first
    elif found["last"]:
        last = int(found["last"])
    return _Failpoint(found["name"], found["action"], detail, first, last)


_armed_here: _Armed | None = None


def arm(environment: Mapping[str, str]) -> None:
    """Arms this process as an environment says; arrivals are counted from now on.

    Raises:
        ValueError: It cannot be read.
    """
    global _armed_here
    wanted = environment.get(ARMED_VARIABLE, "")
    trace = environment.get(TRACE_VARIABLE, "")
    failpoints = [_parsed(text) for text in wanted.split(",") if text.strip()]
    if failpoints:
        _LOG.warning("failpoints are armed: %s", wanted)
    by_name = {failpoint.name: failpoint for failpoint in failpoints}
    _armed_here = _Armed(by_name, trace) if by_name or trace else None


arm(os.environ)


def reached(name: str) -> None:
    """Marks a moment of a durable step; does nothing unless the environment armed it.

    Args:
        name: A literal ``room.step``, in one place of the source only.

    Raises:
        OSError: The environment asks for it.
    """
    if _armed_here is not None:
        _armed_here.reached(name)
