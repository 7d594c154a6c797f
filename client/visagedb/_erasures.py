"""What was erased, and whether it is gone for good."""

from dataclasses import dataclass
from datetime import datetime

from visagedb._names import last_id, segment
from visagedb._values import ErasureCause, ErasureKind, ErasureState


@dataclass(frozen=True, slots=True)
class Erasure:
    """The receipt of an erasure. It holds no template.

    Attributes:
        name: ``galleries/{gallery}/erasures/{erasure}``.
        state: Pending until no byte of the templates is left in the data directory.
        kind: What was erased: an identity, a face or a gallery.
        cause: Somebody asked for it, or the identity's time was over.
        delete_time: When it was deleted: since then nothing returns it.
        complete_time: When the compaction ended that left no byte of it; None before.
        target: Its resource name then.
        target_uid: Of the identity or gallery: tells it from another one of the same name.
        identity_count: Identities erased.
        face_count: Faces erased.
        content_digest: SHA-256 over the ascending SHA-256 digests of what the faces were made
            from; empty for a gallery.
        expire_time: When the identity expired, if that was the cause.
        overwritten: Whether zeros were written over the old file before it was removed.
        not_reached: What the receipt does not speak for, in words.
    """

    name: str
    state: ErasureState
    kind: ErasureKind
    cause: ErasureCause
    delete_time: datetime | None
    complete_time: datetime | None
    target: str
    target_uid: str
    identity_count: int
    face_count: int
    content_digest: str
    expire_time: datetime | None
    overwritten: bool
    not_reached: str

    @property
    def id(self) -> str:
        """The plain id of the receipt."""
        return last_id(self.name)

    @property
    def identity(self) -> str:
        """Id of the identity erased, or of the one whose face it was; empty for none."""
        return segment(self.target, "identities")


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction has done.

    Attributes:
        name: Resource name of the gallery, ``galleries/{gallery}``.
        bytes_before: Of the database file.
        bytes_after: Of the new one.
        completed_erasure_count: Receipts that are complete by it.
        held_up_seconds: How long writes had to wait at the switch.
    """

    name: str
    bytes_before: int
    bytes_after: int
    completed_erasure_count: int
    held_up_seconds: float


@dataclass(frozen=True, slots=True)
class ServerClock:
    """What the server thinks of its clock. Nobody expires while it does not believe it.

    Attributes:
        time: What it shows.
        trusted: Whether the server believes it.
        last_trusted_time: The last time it did, if it does not now.
        reason: Why it does not.
    """

    time: datetime | None
    trusted: bool
    last_trusted_time: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class Retention:
    """How far the erasing of a gallery is.

    Attributes:
        pending_erasure_count: Receipts that are pending.
        oldest_pending_time: Time of the oldest of them.
        compaction_due_time: By when the server compacts for its sake.
        next_expire_time: When the next identity expires.
        clock: What the server thinks of its clock.
    """

    pending_erasure_count: int
    oldest_pending_time: datetime | None
    compaction_due_time: datetime | None
    next_expire_time: datetime | None
    clock: ServerClock
