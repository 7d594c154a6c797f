"""The overload campaign, cut short: it runs, the server lives, and every answer is a typed one."""

import asyncio

import overload

import visagedb
from visagedb_server.server import Server


def test_ten_times_the_load_ends_nobody(vector_server: Server) -> None:
    with visagedb.Client(vector_server.address, timeout=60) as client:
        requests = overload.search_requests(client, faces=20_000, dimension=256)
        settings = overload.Settings(seconds=2.0, peak_seconds=0.3)
        found = asyncio.run(overload.campaign(vector_server.address, requests, settings, lambda: 0))
        assert found["overload"]["codes"]["OK"] > 0
        assert set(found["overload"]["codes"]) <= {"OK", "RESOURCE_EXHAUSTED", "answered later"}
        assert found["health"]["asked"] > 0
        assert found["health"]["failed"] == 0
        assert client.get_gallery(overload.GALLERY).face_count == 20_000
