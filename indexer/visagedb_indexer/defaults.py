"""How a new gallery makes and compares templates unless it is told otherwise.

Measured: docs/decisions/0011-fusion-and-templates.md.
"""

from typing import Final

from visagedb_indexer.values import Fusion

FUSION: Final = Fusion.ADAPTIVE_MEAN
FLIP_AVERAGING: Final = True
"""Where the server makes the vectors; of vectors made elsewhere nobody knows."""
