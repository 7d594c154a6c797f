"""Steps from one version of the storage format to the next.

A change that old bytes cannot be read with takes a new `schema.FORMAT_VERSION`, a step here from
the version before, and golden directories of both (tests/golden). A step runs when a database is
opened, in one write transaction that also raises the version: it is done, or it begins anew at
the next opening. Nobody else has the data directory open, and nothing reads it before the end.

A step gets all sub-databases through `Tables`, also those that the schema no longer has: it
declares them in its own module, with the records as they were then.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from visagedb_indexer.store.tables import Tables

Step: TypeAlias = Callable[[Tables], None]

GALLERY_STEPS: Final[Mapping[int, Step]] = {}
"""Of a gallery's database: by version, the step to the version after it."""

CATALOGUE_STEPS: Final[Mapping[int, Step]] = {}
"""Of the catalogue's."""
