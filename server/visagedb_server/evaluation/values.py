"""What was evaluated, and what came of each image."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from visagedb_indexer.values import Box, Vector


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """The face of an image.

    Attributes:
        vector: Its template, shape (dimension,), unit length.
        quality: Its score, 0 to 1.
        box: Where it is.
    """

    vector: Vector
    quality: float
    box: Box


@dataclass(frozen=True, slots=True)
class Failure:
    """An image without a usable face.

    Attributes:
        reason: A stable word, such as NO_FACE.
        message: For people.
    """

    reason: str
    message: str


Outcome: TypeAlias = Embedded | Failure


@dataclass(frozen=True, slots=True)
class FailedImage:
    """An image that could not be used.

    Attributes:
        name: As people know it.
        reason: A stable word.
        message: For people.
    """

    name: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class FaceReference:
    """A face as people can find it again.

    Attributes:
        name: Path relative to the folder, or the source kept in the gallery.
        person: Whose it is said to be; empty if nobody said.
        path: Of the image; None for a face of a gallery.
        box: Where the face is.
    """

    name: str
    person: str
    path: Path | None = None
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What was evaluated.

    Attributes:
        kind: ``folder``, ``pairs`` or ``gallery``.
        name: Of the folder, the list or the gallery.
        model: ``name@version`` of the embedder.
        created: When.
        images: How many were looked at.
        faces: How many faces were usable.
        people: Whose they are; 0 when a list does not say.
        failures: Images without a usable face.
        options: Settings that decide the figures, by name.
        notes: What a reader should know besides.
        references: Of each face, in the order of the evaluation.
    """

    kind: str
    name: str
    model: str
    created: datetime
    images: int
    faces: int
    people: int
    failures: tuple[FailedImage, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    references: tuple[FaceReference, ...] = ()

    @property
    def failure_counts(self) -> dict[str, int]:
        """How often each reason came up, most frequent first."""
        return dict(Counter(failure.reason for failure in self.failures).most_common())
