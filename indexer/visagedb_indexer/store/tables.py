"""Keys and values as they lie in the sub-databases, for checks and repairs of all of them."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from visagedb_indexer.store.schema import SubDatabase

if TYPE_CHECKING:
    from visagedb_indexer.store.environment import LmdbTransaction

HandleOf: TypeAlias = Callable[[SubDatabase], Any]


class Tables:
    """The sub-databases of one database in one transaction.

    Args:
        handle_of: Gives the open sub-database.
        txn: A read transaction, or a write transaction for `put` and `delete`.
    """

    def __init__(self, handle_of: HandleOf, txn: "LmdbTransaction") -> None:
        self._handle_of = handle_of
        self._txn = txn

    @property
    def transaction(self) -> int:
        """Number of the commit that is looked at; see `PageFile`."""
        return int(self._txn.id())

    def count(self, database: SubDatabase) -> int:
        """Entries of a sub-database."""
        return int(self._txn.stat(self._handle_of(database))["entries"])

    def get(self, database: SubDatabase, key: bytes) -> bytes | None:
        """A value, or None."""
        data = self._txn.get(key, db=self._handle_of(database))
        return None if data is None else bytes(data)

    def items(self, database: SubDatabase, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Entries in the order of their keys, from `start` on."""
        with self._txn.cursor(db=self._handle_of(database)) as cursor:
            found = cursor.set_range(start) if start else cursor.first()
            while found:
                key, data = cursor.item()
                yield bytes(key), bytes(data)
                found = cursor.next()

    def keys(self, database: SubDatabase) -> Iterator[bytes]:
        """Keys in order; reads no values."""
        with self._txn.cursor(db=self._handle_of(database)) as cursor:
            for key in cursor.iternext(keys=True, values=False):
                yield bytes(key)

    def put(self, database: SubDatabase, key: bytes, value: bytes) -> None:
        """Sets a value."""
        self._txn.put(key, value, db=self._handle_of(database))

    def delete(self, database: SubDatabase, key: bytes) -> None:
        """Removes an entry."""
        self._txn.delete(key, db=self._handle_of(database))
