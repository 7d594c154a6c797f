"""Access: who calls, and what callers may do.

`rules.py` is the one table of all methods. The interceptor in `calls.py` asks the gate about
every call, and handlers learn who calls from `current_caller()`.
"""

from visagedb_server.access.caller import Caller, current_caller
from visagedb_server.access.gate import Admission, Gate

__all__ = ["Admission", "Caller", "Gate", "current_caller"]
