"""Page tokens: opaque to callers, tied to the listing they came from."""

import base64
import binascii
import zlib
from collections.abc import Sequence
from typing import TypeVar

from visagedb_indexer import limits
from visagedb_indexer.errors import InvalidArgumentError, InvalidPageTokenError

Item = TypeVar("Item")


def page_size(asked: int) -> int:
    """How many items a page has; 0 asks for the default.

    Raises:
        InvalidArgumentError: Negative.
    """
    if asked < 0:
        raise InvalidArgumentError("page_size is negative", {"field": "page_size"})
    return min(asked or limits.PAGE_SIZE_DEFAULT, limits.PAGE_SIZE_MAX)


def read_token(token: str, listing: str) -> int:
    """The position after which to go on; -1 for the first page.

    Raises:
        InvalidPageTokenError: It does not come from this listing.
    """
    if not token:
        return -1
    try:
        data = base64.urlsafe_b64decode(token.encode("ascii"))
    except (UnicodeEncodeError, binascii.Error):
        data = b""
    if len(data) != 12 or data[:4] != _mark(listing):
        raise InvalidPageTokenError(
            "the page token does not belong to this listing", {"field": "page_token"}
        )
    return int.from_bytes(data[4:], "big")


def token_after(position: int, listing: str) -> str:
    """The token of the page after a position."""
    return base64.urlsafe_b64encode(_mark(listing) + position.to_bytes(8, "big")).decode()


def cut_page(items: Sequence[Item], size: int) -> tuple[Sequence[Item], bool]:
    """A page of at most `size` items from one more than that, and whether more follow."""
    return items[:size], len(items) > size


def _mark(listing: str) -> bytes:
    return zlib.crc32(listing.encode()).to_bytes(4, "big")
