"""The chain: one line for each entry, ``{digest} {JSON}``.

The digest is an HMAC-SHA256, under the log's key, of the digest before and the JSON. Whoever has
the files but not the key cannot write a line that fits, and a line that is missing or in another
place leaves its neighbours without theirs.
"""

import hmac
from typing import Final

import msgspec

from visagedb_server.audit_log.entries import Entry

DIGEST_LENGTH: Final = 64
"""Hexadecimal digits."""
NO_DIGEST: Final = "0" * DIGEST_LENGTH
"""Stands before the first entry of all."""

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    """The JSON of an entry."""
    return _ENCODER.encode(entry)


def digest_of(key: bytes, previous: str, content: bytes) -> str:
    """The digest of an entry's JSON after another entry."""
    return hmac.digest(key, previous.encode() + content, "sha256").hex()


def line_of(digest: str, content: bytes) -> bytes:
    """A line as it is in the file."""
    return digest.encode() + b" " + content + b"\n"


def parse_line(line: bytes) -> tuple[str, bytes, Entry]:
    """Digest, JSON and entry of a line without its end.

    Raises:
        ValueError: It is no such line.
    """
    digest, content = line[:DIGEST_LENGTH].decode("ascii"), line[DIGEST_LENGTH + 1 :]
    if len(digest) != DIGEST_LENGTH or line[DIGEST_LENGTH : DIGEST_LENGTH + 1] != b" ":
        raise ValueError("a line begins with its digest")
    try:
        return digest, content, _DECODER.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"a line that is no entry: {error}") from error
