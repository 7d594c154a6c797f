"""Plain ids on the outside, resource names on the wire."""

import re
from typing import Final

from visagedb._errors import InvalidNameError

ID_LENGTH_MAX: Final = 128
_ID: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def check_id(value: str, kind: str) -> str:
    """The id itself, if it can be part of a resource name.

    Args:
        value: What the caller gave.
        kind: What it names, for the message.

    Raises:
        InvalidNameError: It is empty, too long, or has other characters than
            ``a-z A-Z 0-9 . _ -``, or starts with a dot.
        TypeError: It is not a string.
    """
    if not isinstance(value, str):
        raise TypeError(f"the {kind} id is a string, not {type(value).__name__}")
    if len(value) > ID_LENGTH_MAX or not _ID.fullmatch(value):
        raise InvalidNameError(
            f"{value!r} is no valid {kind} id: 1 to {ID_LENGTH_MAX} of the characters "
            "a-z A-Z 0-9 . _ - and not starting with a dot",
            code="INVALID_ARGUMENT",
            reason="INVALID_NAME",
            metadata={"kind": kind},
        )
    return value


def gallery_name(gallery: str) -> str:
    """``galleries/{gallery}``."""
    return f"galleries/{check_id(gallery, 'gallery')}"


def identity_name(gallery: str, identity: str) -> str:
    """``galleries/{gallery}/identities/{identity}``."""
    return f"{gallery_name(gallery)}/identities/{check_id(identity, 'identity')}"


def face_name(gallery: str, identity: str, face: str) -> str:
    """``galleries/{gallery}/identities/{identity}/faces/{face}``; loose without an identity."""
    return f"{owner_name(gallery, identity)}/faces/{check_id(face, 'face')}"


def owner_name(gallery: str, identity: str) -> str:
    """Name of an identity, or with an empty id that of the gallery, for its loose faces."""
    return identity_name(gallery, identity) if identity else gallery_name(gallery)


def last_id(name: str) -> str:
    """The last part of a resource name."""
    return name.rpartition("/")[2]


def segment(name: str, collection: str) -> str:
    """The id that follows a collection in a resource name; empty if there is none."""
    parts = name.split("/")
    pairs = dict(zip(parts[::2], parts[1::2], strict=False))
    return pairs.get(collection, "")
