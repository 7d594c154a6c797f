"""What is done for a gallery that is in use by whoever runs it: proofs and copies."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.integrity import Finding, Kind, Progress, Report, Result, verify_store
from visagedb_indexer.label_index import LabelIndex
from visagedb_indexer.store import GalleryStore
from visagedb_indexer.store.environment import Environment

_LOOKS: Final = 5
_PAUSE_SECONDS: Final = 0.05


class Upkeep:
    """Upkeep of one gallery.

    Args:
        store: Its database.
        owners: The owner of every face by ordinal, as the search engine has it.
        labels: Its identities in memory.
    """

    def __init__(
        self,
        store: GalleryStore,
        owners: Callable[[], NDArray[np.int32]],
        labels: LabelIndex,
    ) -> None:
        self._store = store
        self._owners = owners
        self._labels = labels

    @property
    def environment(self) -> Environment:
        """The open database, to be copied."""
        return self._store.environment

    def verify(self, progress: Progress) -> Report:
        """Proves that the database, and what is in memory of it, are what they should be.

        Raises:
            GalleryClosedError: The gallery is being closed.
        """
        with self._store.upkeep:
            report = verify_store(self._store, progress)
        progress(1.0, "memory")
        return replace(report, results=(*report.results, self._memory()))

    def _memory(self) -> Result:
        findings = tuple(self._differences())
        return Result(
            invariant="memory",
            statement="the search structures in memory know the faces and identities of the store",
            kind=Kind.DERIVED,
            broken_count=len(findings),
            findings=findings,
        )

    def _differences(self) -> Iterator[Finding]:
        """What differs at every one of several looks: memory follows a commit a moment later."""
        faces, identities = self._look()
        for _ in range(_LOOKS):
            if not faces and not identities:
                return
            time.sleep(_PAUSE_SECONDS)
            again_faces, again_identities = self._look()
            faces &= again_faces
            identities &= again_identities
        if faces:
            ordinal, stored, known = min(faces)
            yield Finding(
                f"{len(faces)} faces have another owner in memory, as {ordinal}: {known} for "
                f"{stored}; restart the server",
                ordinal=ordinal,
            )
        if identities:
            yield Finding(
                f"{len(identities)} identities are known to one side only, as number "
                f"{min(identities)}; restart the server"
            )

    def _look(self) -> tuple[set[tuple[int, int, int]], set[int]]:
        with self._store.read() as view:
            stored = view.owners()
            numbers = set(view.numbers(stored).tolist())
        known = self._owners()[: len(stored)]
        stored = stored[: len(known)]
        places = np.flatnonzero(stored != known)
        differing = zip(
            places.tolist(), stored[places].tolist(), known[places].tolist(), strict=True
        )
        return set(differing), numbers ^ set(self._labels.numbers(None))
