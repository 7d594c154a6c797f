"""What a source of an import is made of, and what becomes of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from visagedb_indexer.errors import IndexerError
from visagedb_indexer.gallery_values import EnrollOutcome, NewFace, NewIdentity
from visagedb_indexer.loose_faces import NewLooseFaces
from visagedb_indexer.values import ExtractedFace, Vector


@dataclass(frozen=True, slots=True, eq=False)
class VectorRow:
    """A vector of an identity of which nothing else is said; the usual row of a table."""

    identity_id: str
    vector: Vector
    face_id: str
    source: str
    said: NewIdentity


@dataclass(frozen=True, slots=True)
class BareIdentity:
    """An identity without faces; one that exists already is left as it is."""

    identity_id: str
    new: NewIdentity


@dataclass(frozen=True, slots=True, eq=False)
class LooseCopy:
    """A copy of a loose face, known by its id."""

    face_id: str
    vector: Vector
    content_sha256: bytes
    source: str = ""
    extracted: ExtractedFace | None = None
    copied_from_us: int | None = None


@dataclass(frozen=True, slots=True)
class Ignored:
    """A file that is no entry: hidden, not an image, a link."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an entry that did not fail."""

    outcome: EnrollOutcome


Answer: TypeAlias = Outcome | Ignored | IndexerError
Content: TypeAlias = VectorRow | NewFace | NewLooseFaces | LooseCopy | BareIdentity | Answer


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One entry of a source, ready to be enrolled, or why it cannot be.

    Attributes:
        name: Where it is in the source, for a person.
        after: The position behind it, where an import goes on.
        content: What is enrolled; its vectors are empty while there is an image.
        image: The encoded image that the vectors are made from; None for none.
        identity_id: Whom it is meant for; empty when unknown.
    """

    name: str
    after: str
    content: Content
    image: bytes | None = None
    identity_id: str = ""


class Source(Protocol):
    """Where entries come from, in an order that never changes."""

    mark: str
    """What the source looks like; another mark means that it has changed. Empty if it may."""

    def count(self) -> int:
        """How many entries there are; 0 when that is not known."""
        ...

    def entries(self, position: str) -> Iterator[Entry]:
        """The entries behind a position; empty for the beginning.

        What is wrong with one entry is the content of that entry.

        Raises:
            InvalidSourceError: The source cannot be read any further.
        """
        ...

    def progress(self, position: str) -> float | None:
        """How much of the source is in front of a position, 0 to 1; None goes by the count."""
        ...

    def close(self) -> None:
        """Closes the files."""
        ...
