from collections.abc import Iterator

import pytest
from wire import Api

from visagedb_server.server import Server


@pytest.fixture
def api(vector_server: Server) -> Iterator[Api]:
    """A server of its own with an empty gallery ``people`` of 16 dimensions."""
    api = Api(vector_server.address)
    api.create_gallery()
    yield api
    api.close()
