"""What operators see of a running server: metrics, health, traces.

The rest of the server tells this room of its calls and lets itself be asked for its state;
nothing in it depends on what is measured here.
"""

from visagedb_server.observability.endpoint import Endpoint
from visagedb_server.observability.metrics import Metrics
from visagedb_server.observability.readiness import Readiness
from visagedb_server.observability.state import ServerState

__all__ = ["Endpoint", "Metrics", "Readiness", "ServerState"]
