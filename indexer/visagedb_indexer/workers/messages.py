"""What goes over the socket between the pool and its children."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from visagedb_indexer.choice import Choice
from visagedb_indexer.errors import IndexerError
from visagedb_indexer.values import Extraction


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a child sets itself up."""

    card_paths: tuple[Path, ...]
    precision: str
    device: str
    threads: int
    niceness: int


@dataclass(frozen=True, slots=True)
class Started:
    """The child is ready, or says why it never will be."""

    error: IndexerError | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Images to work on; answered in order of arrival."""

    model: str
    flip: bool
    embed: bool
    choice: Choice
    images: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One outcome per image of the batch, and the seconds spent per stage."""

    outcomes: tuple[Extraction | IndexerError, ...]
    seconds: Mapping[str, float]
