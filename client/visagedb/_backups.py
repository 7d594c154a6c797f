"""Backups on the server, and what a check of a gallery's integrity says."""

from dataclasses import dataclass
from datetime import datetime

from visagedb._names import segment
from visagedb._values import InvariantKind, ModelIdentity


@dataclass(frozen=True, slots=True)
class BackedUpGallery:
    """A gallery in a backup.

    Attributes:
        gallery: Its id at that time.
        model: That all its vectors come from.
        identity_count: At that moment; likewise the other counts.
        face_count: Of identities, and loose ones.
        generation: Counts the committed changes of the gallery's content.
        size_bytes: Of its database in the backup.
        broken_invariants: What did not hold when the copy was checked; empty for a sound one.
    """

    gallery: str
    model: ModelIdentity
    identity_count: int
    face_count: int
    generation: int
    size_bytes: int
    broken_invariants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Backup:
    """What was written at one moment.

    Attributes:
        id: Name of its folder.
        create_time: When.
        complete: Whether it is of the whole server: all galleries, and the catalogue.
        galleries: What is in it.
        size_bytes: Of all its files.
    """

    id: str
    create_time: datetime | None
    complete: bool
    galleries: tuple[BackedUpGallery, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RestoredGallery:
    """A gallery made of one in a backup.

    Attributes:
        name: ``galleries/{gallery}``.
        identity_count: People in it.
        face_count: Of them, and loose ones.
        replaced: Whether it took the place of a gallery that was there.
    """

    name: str
    identity_count: int
    face_count: int
    replaced: bool

    @property
    def id(self) -> str:
        """The plain id of the gallery."""
        return segment(self.name, "galleries")


@dataclass(frozen=True, slots=True)
class IntegrityFinding:
    """One place where an invariant does not hold.

    Attributes:
        message: What is wrong there.
        identity: Resource name of the identity it concerns; empty for none, or if unknown.
        face: Resource name of the face; likewise.
    """

    message: str
    identity: str
    face: str


@dataclass(frozen=True, slots=True)
class IntegrityResult:
    """One invariant and how it holds.

    Attributes:
        invariant: Its name.
        statement: What should be true.
        kind: Whether a repair makes it true again, or only a backup holds what is lost.
        broken_count: Places where it does not hold.
        findings: The first of them.
    """

    invariant: str
    statement: str
    kind: InvariantKind
    broken_count: int
    findings: tuple[IntegrityFinding, ...]


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """The outcome of a check of one gallery.

    Attributes:
        gallery: Its id.
        ok: Whether every invariant holds.
        results: Each invariant that was checked.
        duration_seconds: How long it took.
        repairs: What a repair has done, as sentences.
        dropped: Identities and faces that were dropped because they were damaged.
    """

    gallery: str
    ok: bool
    results: tuple[IntegrityResult, ...]
    duration_seconds: float
    repairs: tuple[str, ...]
    dropped: tuple[IntegrityFinding, ...]

    @property
    def broken(self) -> tuple[IntegrityResult, ...]:
        """The invariants that do not hold."""
        return tuple(result for result in self.results if result.broken_count)
