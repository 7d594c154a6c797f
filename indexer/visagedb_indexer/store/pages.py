"""Looks at an LMDB file page by page, without LMDB, before LMDB maps it.

LMDB trusts its file: a page beyond the end of a file that was cut short ends the process with
SIGBUS, one that is filled with something else with SIGSEGV. So the sizes are compared before
every opening, and `verify` walks over all pages that are in use.

The layout is that of LMDB's format 1: two meta pages at the front, of which the one with the
later transaction counts; trees of branch and leaf pages; overflow pages for large values.
"""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.errors import StorageCorruptError

DATA_FILE: Final = "data.mdb"

_HEADER: Final = struct.Struct("<QHHHH")
_META: Final = struct.Struct("<IIQQ48s48sQQ")
_TREE: Final = struct.Struct("<IHHQQQQQ")
_MAGIC: Final = 0xBEEFC0DE
_VERSION: Final = 1
_BRANCH, _LEAF, _OVERFLOW, _METAPAGE = 1, 2, 4, 8
_BIG_DATA, _SUB_DATABASE = 1, 2
_NO_PAGE: Final = 2**64 - 1
_DEPTH_MAX: Final = 32
_PAGE_BYTES_MAX: Final = 65_536

Nodes: TypeAlias = NDArray[np.int64]
"""Of a page: low, high, flags, key bytes and place of each node; shape (n, 5)."""


@dataclass(frozen=True, slots=True)
class Meta:
    """What a meta page says.

    Attributes:
        page_bytes: Size of a page.
        last_page: The highest page ever used.
        transaction: Number of the commit that wrote it.
        roots: Root pages of the tree of free pages and of the tree of sub-databases.
    """

    page_bytes: int
    last_page: int
    transaction: int
    roots: tuple[int, int]


def shows(path: Path, transaction: int) -> bool:
    """Whether a commit can still be looked at: it is one of the last two."""
    try:
        PageFile(path, transaction).close()
    except StorageCorruptError:
        return False
    return True


def check_file(folder: Path) -> None:
    """Refuses a database file that LMDB must not map.

    Raises:
        StorageCorruptError: It is cut short, or not an LMDB file.
    """
    path = folder / DATA_FILE
    if not path.exists() or not path.stat().st_size:
        return
    with PageFile(path) as file:
        # Pages given back by the commit that took them were perhaps never written.
        file.check_names() if file.complete else file.check_pages()


class PageFile:
    """A database file, read without LMDB.

    Args:
        path: The file.
        transaction: Look at it as this commit left it; None for the latest.

    Raises:
        StorageCorruptError: Its meta pages cannot be read.
    """

    def __init__(self, path: Path, transaction: int | None = None) -> None:
        self._path = path
        self._file = path.open("rb", buffering=0)
        self._bytes = os.fstat(self._file.fileno()).st_size
        try:
            self._meta = self._choose(transaction)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "PageFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    @property
    def complete(self) -> bool:
        """Whether the file reaches as far as its pages ever did."""
        return self._bytes >= (self._meta.last_page + 1) * self._meta.page_bytes

    def check_names(self) -> None:
        """Checks the tree of sub-databases, which is read when the file is opened.

        Raises:
            StorageCorruptError: A page of it is missing or is something else.
        """
        for root in self._meta.roots:
            for _ in self._pages(root, descend=False):
                pass

    def check_pages(self, tick: Callable[[], None] = lambda: None) -> int:
        """Checks every page that is in use; returns how many there are.

        Raises:
            StorageCorruptError: A page is missing or is something else.
        """
        seen = np.zeros(self._meta.last_page + 1, dtype=np.bool_)
        count = 0
        for root in self._meta.roots:
            for first, pages in self._pages(root, descend=True):
                if seen[first : first + pages].any():
                    raise self._damaged(f"page {first} is used twice")
                seen[first : first + pages] = True
                count += pages
                tick()
        return count

    def _choose(self, transaction: int | None) -> Meta:
        first = self._read_meta(0)
        # The second one lies a page further on; without the first its size is not known.
        sizes = [first.page_bytes] if first else [1 << bits for bits in range(9, 17)]
        second = next((meta for size in sizes if (meta := self._read_meta(size))), None)
        metas = [meta for meta in (first, second) if meta is not None]
        if transaction is not None:
            metas = [meta for meta in metas if meta.transaction == transaction]
        if not metas:
            raise self._damaged("its first pages cannot be read")
        return max(metas, key=lambda meta: meta.transaction)

    def _read_meta(self, offset: int) -> Meta | None:
        data = os.pread(self._file.fileno(), _HEADER.size + _META.size, offset)
        if len(data) < _HEADER.size + _META.size:
            return None
        _, _, flags, _, _ = _HEADER.unpack_from(data)
        magic, version, _, _, free, main, last_page, transaction = _META.unpack_from(
            data, _HEADER.size
        )
        if not flags & _METAPAGE or magic != _MAGIC or version != _VERSION:
            return None
        page_bytes, roots = _TREE.unpack(free)[0], (_TREE.unpack(free)[7], _TREE.unpack(main)[7])
        if not 512 <= page_bytes <= _PAGE_BYTES_MAX or page_bytes & (page_bytes - 1):
            return None
        if last_page * page_bytes > max(2 * self._bytes, 1 << 40):
            return None
        return Meta(page_bytes, last_page, transaction, roots)

    def _pages(self, root: int, *, descend: bool) -> Iterator[tuple[int, int]]:
        """First page and number of pages of all that a tree consists of, or leads to."""
        waiting = [] if root == _NO_PAGE else [(root, 0)]
        while waiting:
            number, depth = waiting.pop()
            if depth > _DEPTH_MAX:
                raise self._damaged(f"page {number} lies too deep")
            data, flags, nodes = self._page(number)
            yield number, 1
            if flags & _BRANCH:
                waiting += [(page, depth + 1) for page in _children(nodes)]
                continue
            for place in np.flatnonzero(nodes[:, 2] & (_BIG_DATA | _SUB_DATABASE)).tolist():
                low, high, kind, key_bytes, at = nodes[place].tolist()
                start = at + 8 + key_bytes
                if kind & _BIG_DATA and descend:
                    page = _number(data, start)
                    yield page, self._overflow(page, low | high << 16)
                elif kind & _SUB_DATABASE:
                    below = _number(data, start + 40)
                    if below != _NO_PAGE:
                        # Unless asked to descend, the first page of each is all that is read.
                        waiting += [(below, depth + 1)] if descend else []
                        self._page(below)

    def _page(self, number: int) -> tuple[bytes, int, Nodes]:
        """A branch or leaf page: its bytes, its flags, its nodes."""
        size = self._meta.page_bytes
        data = self._read(number, size)
        stored, _, flags, lower, upper = _HEADER.unpack_from(data)
        kind = flags & (_BRANCH | _LEAF | _OVERFLOW | _METAPAGE)
        if stored != number or kind not in (_BRANCH, _LEAF):
            raise self._damaged(f"page {number} holds something else")
        if not _HEADER.size <= lower <= upper <= size or lower % 2:
            raise self._damaged(f"page {number} is not in order")
        places = np.frombuffer(data, "<u2", (lower - _HEADER.size) // 2, _HEADER.size)
        places = places.astype(np.int64)
        if len(places) and (places.min() < upper or places.max() + 8 > size or (places % 2).any()):
            raise self._damaged(f"page {number} points outside itself")
        words = np.frombuffer(data, "<u2").astype(np.int64)
        nodes = np.stack([words[places // 2 + part] for part in range(4)] + [places], axis=1)
        ends = places + 8 + nodes[:, 3]
        if flags & _LEAF:
            large = (nodes[:, 2] & _BIG_DATA) > 0
            ends += np.where(large, 8, nodes[:, 0] | nodes[:, 1] << 16)
        if len(ends) and ends.max() > size:
            raise self._damaged(f"page {number} points outside itself")
        return data, flags, nodes

    def _overflow(self, number: int, value_bytes: int) -> int:
        data = self._read(number, _HEADER.size)
        stored, _, flags, low, high = _HEADER.unpack_from(data)
        pages = int(low | high << 16)
        needed = -(-(_HEADER.size + value_bytes) // self._meta.page_bytes)
        if stored != number or not flags & _OVERFLOW or pages < needed:
            raise self._damaged(f"page {number} holds something else")
        self._read(number + pages - 1, self._meta.page_bytes)
        return pages

    def _read(self, number: int, size: int) -> bytes:
        if number > self._meta.last_page:
            raise self._damaged(f"it refers to page {number}, of {self._meta.last_page}")
        data = os.pread(self._file.fileno(), size, number * self._meta.page_bytes)
        if len(data) < size:
            raise self._damaged(
                f"it is cut short: page {number} is missing, and the file has {self._bytes} bytes"
            )
        return data

    def _damaged(self, what: str) -> StorageCorruptError:
        return StorageCorruptError(
            f"the database file {self._path} is damaged: {what}; restore it from a backup",
            {"path": str(self._path)},
        )


def _children(nodes: Nodes) -> list[int]:
    children: list[int] = (nodes[:, 0] | nodes[:, 1] << 16 | nodes[:, 2] << 32).tolist()
    return children


def _number(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 8], "little")
