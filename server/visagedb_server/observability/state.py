"""What the metrics and the health of a server are made of."""

from dataclasses import dataclass

from visagedb_indexer.database import Database
from visagedb_server.admission import Lanes
from visagedb_server.extraction import Extractor
from visagedb_server.operations import Operations


@dataclass(frozen=True, slots=True)
class ServerState:
    """The parts of a running server that can be asked how they are."""

    database: Database
    extractor: Extractor
    operations: Operations
    lanes: Lanes
