"""Which keys change while a database is being copied, so that the copy can be brought up to it.

A write transaction is wrapped for as long as a copy is made. The wrapper does what LMDB does, and
notes the keys; they are passed on when the transaction is committed.
"""

import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, TypeAlias

Change: TypeAlias = tuple[bytes, bytes]
"""Name of the sub-database, and the key."""


class Changes:
    """The keys changed by commits since they were last taken.

    Args:
        names: The name of each open sub-database by its handle.
    """

    def __init__(self, names: Mapping[Any, bytes]) -> None:
        self._names = names
        self._lock = threading.Lock()
        self._changed: set[Change] = set()

    def __len__(self) -> int:
        return len(self._changed)

    def watched(self, txn: Any) -> "WatchedTransaction":
        """The transaction, with its changes noted."""
        return WatchedTransaction(txn, self._names)

    def committed(self, changed: Iterable[Change]) -> None:
        """A transaction with these changes has been committed."""
        with self._lock:
            self._changed.update(changed)

    def take(self) -> set[Change]:
        """What has changed since the last time."""
        with self._lock:
            taken, self._changed = self._changed, set()
        return taken


class WatchedTransaction:
    """An LMDB write transaction that notes the keys it changes.

    Attributes:
        changed: The keys so far.
    """

    def __init__(self, txn: Any, names: Mapping[Any, bytes]) -> None:
        self._txn = txn
        self._names = names
        self.changed: set[Change] = set()

    def __getattr__(self, name: str) -> Any:
        # Reads are those of LMDB; what writes is below, all of it.
        return getattr(self._txn, name)

    def put(self, key: bytes, value: Any, *, db: Any, **options: Any) -> Any:
        """As LMDB's."""
        self.changed.add((self._names[db], bytes(key)))
        return self._txn.put(key, value, db=db, **options)

    def delete(self, key: bytes, *, db: Any, **options: Any) -> Any:
        """As LMDB's."""
        self.changed.add((self._names[db], bytes(key)))
        return self._txn.delete(key, db=db, **options)

    def replace(self, key: bytes, value: Any, *, db: Any) -> Any:
        """As LMDB's."""
        self.changed.add((self._names[db], bytes(key)))
        return self._txn.replace(key, value, db=db)

    def pop(self, key: bytes, *, db: Any) -> Any:
        """As LMDB's."""
        self.changed.add((self._names[db], bytes(key)))
        return self._txn.pop(key, db=db)

    def drop(self, db: Any, *, delete: bool = True) -> Any:
        """As LMDB's, for a sub-database that stays."""
        assert not delete, "the sub-databases are those of the schema"
        with self._txn.cursor(db=db) as cursor:
            for key in cursor.iternext(keys=True, values=False):
                self.changed.add((self._names[db], bytes(key)))
        return self._txn.drop(db, delete=False)

    def cursor(self, *, db: Any) -> "WatchedCursor":
        """As LMDB's."""
        return WatchedCursor(self._txn.cursor(db=db), self._names[db], self.changed)


class WatchedCursor:
    """A cursor that notes the keys it changes."""

    def __init__(self, cursor: Any, name: bytes, changed: set[Change]) -> None:
        self._cursor = cursor
        self._name = name
        self._changed = changed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __iter__(self) -> Any:
        return iter(self._cursor)

    def __enter__(self) -> "WatchedCursor":
        self._cursor.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cursor.__exit__(kind, error, trace)

    def put(self, key: bytes, value: Any, **options: Any) -> Any:
        """As LMDB's."""
        self._changed.add((self._name, bytes(key)))
        return self._cursor.put(key, value, **options)

    def putmulti(self, items: Iterable[tuple[Any, Any]], **options: Any) -> Any:
        """As LMDB's."""
        pairs = [(bytes(key), value) for key, value in items]
        self._changed.update((self._name, key) for key, _ in pairs)
        return self._cursor.putmulti(pairs, **options)

    def delete(self, **options: Any) -> Any:
        """As LMDB's."""
        self._changed.add((self._name, bytes(self._cursor.key())))
        return self._cursor.delete(**options)

    def replace(self, key: bytes, value: Any) -> Any:
        """As LMDB's."""
        self._changed.add((self._name, bytes(key)))
        return self._cursor.replace(key, value)

    def pop(self, key: bytes) -> Any:
        """As LMDB's."""
        self._changed.add((self._name, bytes(key)))
        return self._cursor.pop(key)
