"""Servers in this process must not write to the output that tests of commands read."""

import pytest

from visagedb_server import logs


@pytest.fixture(autouse=True)
def quiet_logs() -> None:
    logs.configure("error", "text")
