"""faceflash: sign codes of 512 bits, scanned whole, the best rescored."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search.engine import Engine, Setting
from search.workload import TOP_K


class FaceFlash(Engine):
    """faceflash's index on vectors made elsewhere."""

    settings = tuple(
        Setting(f"{n} candidates", {"candidates": n}) for n in (100, 300, 1000, 3000, 10_000)
    )

    def build(self) -> None:
        from faceflash.index import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
            FaceIndex,
        )

        self._index = FaceIndex(dim=self.workload.dimension)
        # In one batch: every batch copies all that came before it.
        self._index.add_batch(self.workload.vectors(), [""] * self.workload.rows)

    def configure(self, setting: Setting) -> None:
        self._candidates = setting.values["candidates"]

    def search(self, probe: NDArray[np.float32]) -> Sequence[int]:
        found = self._index.search(probe, k=TOP_K, n_candidates=self._candidates)
        return [ordinal for _, _, ordinal in found]
