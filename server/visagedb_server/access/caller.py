"""Who calls. Every call runs with its caller in a context variable."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from visagedb_server.access.roles import PERMISSIONS, Permission, Role


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a call comes from.

    Attributes:
        key_id: Id of the API key; empty for a caller without one.
        role: What the key is for.
        galleries: Ids of the galleries that the key was given; None for all.
    """

    key_id: str
    role: Role
    galleries: frozenset[str] | None = None

    def may(self, permission: Permission) -> bool:
        """Whether the role includes a permission."""
        return permission in PERMISSIONS[self.role]

    def sees(self, gallery_id: str) -> bool:
        """Whether a gallery is one of this caller's; the empty id stands for the whole server."""
        return self.galleries is None or gallery_id in self.galleries


TRUSTED: Final = Caller("", Role.ADMIN)
"""Everybody who can connect to a server that has no keys."""
NOBODY: Final = Caller("", Role.READER, frozenset())
"""A caller without a valid key, where keys are needed."""

_CALLER: ContextVar[Caller] = ContextVar("visagedb_caller")


def current_caller() -> Caller:
    """The caller of the call that is being served.

    gRPC gives each call a context of its own, and runs its handler in it. Threads that a handler
    starts do not have it: read it in the handler, and pass it on.

    Raises:
        LookupError: No call is being served in this thread.
    """
    return _CALLER.get()


def set_caller(caller: Caller) -> None:
    """Makes a caller that of the present call; only the interceptor does."""
    _CALLER.set(caller)
