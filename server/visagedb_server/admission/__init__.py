"""Who is served now, who waits, and who is sent away, before a request is read.

Calls of each kind have threads of their own, a `Lane`. Where a queue stands, calls that have
waited too long are refused at once, with the time after which to try again: work that nobody
will wait for is not begun, so that a server with ten times the load it can serve goes on
serving what it can.
"""

from visagedb_server.admission.images import Images
from visagedb_server.admission.lanes import Lane, Lanes, Ticket
from visagedb_server.admission.rates import Rates
from visagedb_server.admission.shedding import QueueDelay, overloaded

__all__ = ["Images", "Lane", "Lanes", "QueueDelay", "Rates", "Ticket", "overloaded"]
