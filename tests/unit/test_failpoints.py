"""Failpoints: what the environment may ask for, and that nothing happens unless it does."""

import errno
import signal
import subprocess
import sys
import timeit
from pathlib import Path

import pytest

from visagedb_indexer import failpoints

ARRIVE = """
from visagedb_indexer.failpoints import reached
for arrival in range(1, 6):
    try:
        reached("test.step")
        print(arrival, "passed", flush=True)
    except OSError as error:
        print(arrival, error.errno, flush=True)
"""


def arrive(armed: str, trace: Path | None = None) -> tuple[int, list[str]]:
    """Exit code and what was printed when a step is reached five times in a new process."""
    environment = {"VISAGEDB_FAILPOINT": armed, "PYTHONPATH": ":".join(sys.path)}
    if trace is not None:
        environment["VISAGEDB_FAILPOINT_TRACE"] = str(trace)
    command = [sys.executable, "-c", ARRIVE]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return run.returncode, run.stdout.splitlines()


def test_nothing_happens_unless_it_is_asked_for() -> None:
    failpoints.reached("test.step")
    assert arrive("")[0] == 0
    assert len(arrive("test.other=kill")[1]) == 5
    # Reported, not judged: what a step pays for having a name.
    print(timeit.timeit(lambda: failpoints.reached("test.step"), number=100_000) / 1e5, "seconds")


def test_a_kill_comes_at_the_arrival_that_was_named() -> None:
    code, printed = arrive("test.step=kill@3")
    assert (code, len(printed)) == (-signal.SIGKILL, 2)


@pytest.mark.parametrize(
    ("armed", "struck"),
    [
        ("test.step=error", {1, 2, 3, 4, 5}),
        ("test.step=error@2", {2}),
        ("test.step=error@2-3", {2, 3}),
        ("test.step=error@4-", {4, 5}),
    ],
)
def test_errors_come_at_the_arrivals_that_were_named(armed: str, struck: set[int]) -> None:
    _, printed = arrive(armed)
    assert {int(line.split()[0]) for line in printed if "passed" not in line} == struck
    assert {line.split()[1] for line in printed if "passed" not in line} == {str(errno.ENOSPC)}


def test_an_error_may_have_another_number_and_a_pause_another_length() -> None:
    assert arrive("test.step=error:EIO@1, test.other=kill")[1][0] == f"1 {errno.EIO}"
    assert len(arrive("test.step=pause:0.01")[1]) == 5


@pytest.mark.parametrize("armed", ["nothing", "step=kill", "test.step=error:NONSENSE", "a.b=fall"])
def test_what_cannot_be_read_is_refused_at_the_start(armed: str) -> None:
    code, printed = arrive(armed)
    assert code != 0
    assert not printed


def test_a_trace_has_each_name_once(tmp_path: Path) -> None:
    arrive("", tmp_path / "trace")
    assert (tmp_path / "trace").read_text() == "test.step\n"
