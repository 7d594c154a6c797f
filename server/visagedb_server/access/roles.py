"""Who may do what: roles, and the permissions that they are made of."""

from enum import StrEnum
from typing import Final


class Permission(StrEnum):
    """What a method needs."""

    READ = "read"
    """Search, and read what is stored, but for templates."""
    ENROL = "enrol"
    """Change the people of a gallery: enrol, delete, move, cluster."""
    EXPORT = "export"
    """Take templates or whole galleries out of the server."""
    ADMINISTER = "administer"
    """Create, configure, back up and delete galleries; keys."""
    AUDIT = "audit"
    """Read the audit log and the list of keys."""


class Role(StrEnum):
    """What a key is for."""

    READER = "reader"
    ENROLLER = "enroller"
    ADMIN = "admin"
    AUDITOR = "auditor"


PERMISSIONS: Final = {
    Role.READER: frozenset({Permission.READ}),
    Role.ENROLLER: frozenset({Permission.READ, Permission.ENROL}),
    Role.ADMIN: frozenset(Permission),
    # An auditor sees who did what, and no face.
    Role.AUDITOR: frozenset({Permission.AUDIT}),
}

assert set(PERMISSIONS) == set(Role)
