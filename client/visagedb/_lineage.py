"""Who came from where: the changes of who some faces belong to."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from visagedb._names import last_id, segment
from visagedb._resources import Face, Identity


class ChangeKind(StrEnum):
    """What was done with some faces."""

    UNKNOWN = "unknown"
    MOVE = "move"
    MERGE = "merge"
    SPLIT = "split"
    UNDO = "undo"


@dataclass(frozen=True, slots=True)
class LineageSource:
    """Where some faces of a change came from.

    Attributes:
        name: Resource name of the identity; empty for loose faces.
        face_count: How many faces.
        ended: Whether the change ended this identity.
    """

    name: str
    face_count: int
    ended: bool

    @property
    def identity(self) -> str:
        """The identity's plain id; empty for loose faces."""
        return segment(self.name, "identities")


@dataclass(frozen=True, slots=True)
class LineageEntry:
    """One change of who some faces belong to.

    Attributes:
        name: ``galleries/{gallery}/lineage/{number}``.
        destination: Resource name of the identity that received the faces; empty when they
            became loose.
        founded: Whether the change created the destination.
        sources: Where the faces came from.
        undone: Whether it has been undone.
        undoes: Of an undo: the name of the change it undid, whose faces went back.
    """

    name: str
    kind: ChangeKind
    create_time: datetime | None
    destination: str
    founded: bool
    sources: tuple[LineageSource, ...]
    face_count: int
    undone: bool
    undoes: str

    @property
    def id(self) -> str:
        """The number of the change in its gallery."""
        return last_id(self.name)

    @property
    def gallery(self) -> str:
        """Id of its gallery."""
        return segment(self.name, "galleries")

    @property
    def identity(self) -> str:
        """The destination's plain id; empty when the faces became loose."""
        return segment(self.destination, "identities")


@dataclass(frozen=True, slots=True)
class Change:
    """The answer to a move, merge, split or assignment.

    Attributes:
        identity: The identity that has the faces now; None for a move.
        faces: The faces of a move under their new names; empty elsewhere.
        face_count: How many faces changed hands.
        lineage: What `undo_change` takes; None when nothing had to change.
    """

    identity: Identity | None
    faces: tuple[Face, ...]
    face_count: int
    lineage: LineageEntry | None
