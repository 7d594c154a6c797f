"""API keys and callers, as frozen values."""

from dataclasses import dataclass, field
from datetime import datetime

from visagedb._names import last_id
from visagedb._values import Role


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key, without its secret.

    Attributes:
        name: ``apiKeys/{key}``.
        display_name: For people.
        role: What it is for.
        galleries: Ids of the galleries that it sees; None for all.
        expire_time: When it ceases to be valid; None for never.
        revoke_time: When it was revoked; None if it was not.
    """

    name: str
    display_name: str
    role: Role
    galleries: tuple[str, ...] | None
    create_time: datetime | None
    expire_time: datetime | None
    revoke_time: datetime | None

    @property
    def id(self) -> str:
        """The plain id, which is also in the key's text."""
        return last_id(self.name)


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key that was just made.

    Attributes:
        key: What the server keeps of it.
        secret: The text that callers send. It cannot be had again, and is not printed with
            this object.
    """

    key: ApiKey
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who the server takes this client for.

    Attributes:
        api_key: Id of its key; empty where the server needs none.
        role: What it may do.
        galleries: Ids of the galleries that it sees; None for all.
    """

    api_key: str
    role: Role
    galleries: tuple[str, ...] | None
