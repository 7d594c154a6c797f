"""The root of the tree in `visagedb_indexer.errors`, and branches that rooms of their own go on."""

from collections.abc import Mapping
from typing import ClassVar, Final

OUT_OF_MEMORY: Final = "out_of_memory"
"""The metadata's `cause` of an image that memory did not suffice for."""


class IndexerError(Exception):
    """Base of all errors the indexer raises on purpose.

    Args:
        message: One sentence for a person.
        metadata: Machine-readable details (short strings), passed on to the caller.
    """

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})

    def __reduce__(self) -> tuple[type["IndexerError"], tuple[str, dict[str, str]]]:
        """Errors travel between processes; the default would lose the metadata."""
        return type(self), (self.message, self.metadata)


class NotFoundError(IndexerError):
    """Something that was named does not exist."""

    reason = "NOT_FOUND"


class FailedPreconditionError(IndexerError):
    """The request is right in itself, but not in the present state."""

    reason = "FAILED_PRECONDITION"
