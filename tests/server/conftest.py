from collections.abc import Iterator

import pytest
from visagedb_server.server import Server
from wire import Api


@pytest.fixture
def api(vector_server: Server) -> Iterator[Api]:
    """A server of its own with an empty gallery ``people`` of 16 dimensions."""
    api = Api(vector_server.address)
    api.create_gallery()
    yield api
    api.close()
