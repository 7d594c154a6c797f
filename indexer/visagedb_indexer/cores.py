"""How many processors this process may use."""

import os
from typing import Final

CORES: Final = len(os.sched_getaffinity(0))
