"""What a source of an import is made of, and what becomes of it."""

from dataclasses import dataclass
from typing import TypeAlias

from visagedb_indexer.errors import IndexerError
from visagedb_indexer.gallery_values import EnrollOutcome, NewFace, NewIdentity
from visagedb_indexer.loose_faces import NewLooseFaces
from visagedb_indexer.values import ExtractedFace, Vector


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


Content: TypeAlias = NewFace | NewLooseFaces | LooseCopy | BareIdentity | IndexerError


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One entry of a source, ready to be enrolled, or why it cannot be.

    Attributes:
        name: Where it is in the source, for a person.
        after: The position behind it, where an import goes on.
        content: What is enrolled.
        identity_id: Whom it was meant for; empty when unknown.
    """

    name: str
    after: str
    content: Content
    identity_id: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an entry that did not fail."""

    outcome: EnrollOutcome
    identity_created: bool = False


Answer: TypeAlias = Outcome | IndexerError
