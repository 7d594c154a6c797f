from collections.abc import Iterator

import pytest
from guarded import Guarded, first_admin_key
from servers import make_config

from visagedb_server.server import Server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    data = tmp_path_factory.mktemp("guarded") / "data"
    admin = first_admin_key(data)
    server = Server(make_config(data))
    server.start()
    yield Guarded(server, admin)
    server.stop(grace=5)
