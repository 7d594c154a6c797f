"""API keys in the catalogue. What they may do is the server's business."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    """An API key, without its secret. Times are microseconds since 1970.

    Attributes:
        id: The part of the key's text that is no secret.
        role: What it is for; a word of the server's.
        salt: Random bytes.
        digest: HMAC-SHA256 of the secret under the salt.
        galleries: Ids of the galleries that it sees; None for all.
        expire_time_us: When it ceases to be valid; None for never.
        revoke_time_us: When it was revoked; None if it was not.
    """

    id: str
    role: str
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    create_time_us: int
    display_name: str = ""
    galleries: tuple[str, ...] | None = None
    expire_time_us: int | None = None
    revoke_time_us: int | None = None
