"""Page tokens: opaque to callers, tied to the listing they came from."""

import base64
import binascii
import zlib
from collections.abc import Sequence
from typing import Final, TypeVar

from google.protobuf.message import Message

from visagedb_indexer import limits
from visagedb_indexer.errors import InvalidArgumentError, InvalidPageTokenError

Item = TypeVar("Item", bound=Message)

_DIGITS_MAX: Final = 9
"""Of an ordinal, a number or a rank."""


def page_size(asked: int) -> int:
    """How many items a page has; 0 asks for the default.

    Raises:
        InvalidArgumentError: Negative.
    """
    if asked < 0:
        raise InvalidArgumentError("page_size is negative", {"field": "page_size"})
    return min(asked or limits.PAGE_SIZE_DEFAULT, limits.PAGE_SIZE_MAX)


def read_token(token: str, listing: str) -> str:
    """The id after which to go on; empty for the first page.

    Raises:
        InvalidPageTokenError: It does not come from this listing.
    """
    if not token:
        return ""
    try:
        data = base64.urlsafe_b64decode(token.encode("ascii"))
        position = data[4:].decode("ascii")
    except (UnicodeError, binascii.Error) as error:
        raise _foreign() from error
    if data[:4] != _mark(listing) or not position:
        raise _foreign()
    return position


def read_number(token: str, listing: str) -> int:
    """The number after which to go on; -1 for the first page.

    Raises:
        InvalidPageTokenError: It does not come from this listing.
    """
    position = read_token(token, listing) or "-1"
    if position != "-1" and (not position.isdecimal() or len(position) > _DIGITS_MAX):
        raise _foreign()
    return int(position)


def token_after(position: str | int, listing: str) -> str:
    """The token of the page after an id or a number."""
    return base64.urlsafe_b64encode(_mark(listing) + str(position).encode("ascii")).decode()


def cut_page(items: Sequence[Item], size: int) -> tuple[Sequence[Item], bool]:
    """The page that some messages begin with, and whether more of them follow.

    It has at most `size` messages and is not much larger than a message may be.
    """
    page, total_bytes = 0, 0
    while page < min(size, len(items)) and total_bytes < limits.PAGE_BYTES_MAX:
        total_bytes += items[page].ByteSize()
        page += 1
    return items[:page], len(items) > page


def _foreign() -> InvalidPageTokenError:
    return InvalidPageTokenError(
        "the page token does not belong to this listing", {"field": "page_token"}
    )


def _mark(listing: str) -> bytes:
    return zlib.crc32(listing.encode()).to_bytes(4, "big")
