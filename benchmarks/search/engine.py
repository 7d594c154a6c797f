"""The contract of an engine under test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from search.workload import Workload


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to search a built index.

    Attributes:
        label: As printed.
        values: What `Engine.configure` is given.
    """

    label: str
    values: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an engine works.

    Attributes:
        workload: What is searched.
        own: An empty folder for this engine.
        shared: A folder that all engines of a run share.
        threads: Threads that an index may be built with.
    """

    workload: Workload
    own: Path
    shared: Path
    threads: int


class Engine:
    """An engine under test, alone in its process.

    `load`, `build`, `configure`, then `search` from any number of threads at once. Imports
    of the engine's package belong into its methods: a missing package skips the engine.
    """

    settings: tuple[Setting, ...] = (Setting("stock"),)
    """The stock setting first, then by rising effort."""
    notes: ClassVar[str] = ""
    judged: ClassVar[bool] = True
    """Whether effort rises only until few enough mates are lost; else all is measured."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.workload = place.workload

    def load(self) -> None:
        """Stores the vectors, where that is a step of its own."""

    def build(self) -> None:
        """Makes the vectors searchable, and waits until nothing is left to do."""
        raise NotImplementedError

    def configure(self, setting: Setting) -> None:
        """Changes the effort of the searches that follow."""

    def search(self, probe: NDArray[np.float32]) -> Sequence[int]:
        """Ordinals of the ten best, best first, for a probe of shape (dimension,)."""
        raise NotImplementedError

    def extra_processes(self) -> list[int]:
        """Processes that work for the engine and are no children of this one."""
        return []

    def close(self) -> None:
        """Stops what was started."""
