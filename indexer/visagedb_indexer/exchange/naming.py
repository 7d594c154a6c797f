"""From the names of files and folders to identities."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from visagedb_indexer import limits, validation
from visagedb_indexer.errors import InvalidArgumentError, InvalidNameError

IMAGE_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ico"}
    | {".pbm", ".pgm", ".ppm", ".pnm"}
)
DEFAULT: Final = "{identity}/**"
_PIECES: Final = re.compile(r"\{identity\}|\*\*|\*")
_WILDCARDS_MAX: Final = 4
_HASH_LENGTH: Final = 8


class Naming:
    """How a path, relative to the source, names its identity.

    Args:
        pattern: One ``{identity}`` stands for the name, ``*`` for any part without a slash,
            ``**`` for any with it; empty for a folder of each identity.

    Raises:
        InvalidArgumentError: It is too long, has no ``{identity}`` or several, or too many
            asterisks.
    """

    def __init__(self, pattern: str = "") -> None:
        pattern = pattern or DEFAULT
        pieces = _PIECES.findall(pattern)
        if (
            pieces.count("{identity}") != 1
            or len(pieces) > 1 + _WILDCARDS_MAX
            or len(pattern) > limits.NAMING_LENGTH_MAX
        ):
            raise InvalidArgumentError(
                "naming has one {identity} and up to four asterisks, for example {identity}_*.jpg",
                {"field": "naming"},
            )
        texts = [re.escape(text) for text in _PIECES.split(pattern)]
        forms = {"{identity}": "([^/]+)", "*": "[^/]*", "**": ".*"}
        self._form = re.compile(
            texts[0] + "".join(forms[p] + t for p, t in zip(pieces, texts[1:], strict=True)),
            re.DOTALL,
        )
        self._ids: dict[str, str] = {}
        self.by_folder = pattern == DEFAULT

    def know(self, names: Iterable[str]) -> None:
        """Gives ids to the names of folders, so that different names get different ids."""
        taken: set[str] = set()
        # Names that are ids already keep them, whichever comes first.
        for name in sorted(names, key=lambda name: (_cleaned(name) != name, name)):
            wanted = _cleaned(name)
            if wanted in taken:
                wanted = _with_digest(wanted, name)
            taken.add(wanted)
            self._ids[name] = wanted

    def identity(self, path: str) -> tuple[str, str]:
        """Id and name of the identity of an image.

        Raises:
            InvalidNameError: The path does not say.
        """
        found = self._form.fullmatch(path)
        if found is None:
            raise InvalidNameError("the path does not name an identity", {"field": "naming"})
        return self.id_of(found[1]), found[1]

    def id_of(self, name: str) -> str:
        """The id for a name: the name itself, or one made from it that no other name gets.

        Raises:
            InvalidNameError: The name is empty.
        """
        if not name.strip():
            raise InvalidNameError("the name of the identity is empty", {"field": "naming"})
        if name in self._ids:
            return self._ids[name]
        cleaned = _cleaned(name)
        return name if cleaned == name else _with_digest(cleaned, name)


def check_readable(name: str) -> str:
    """The name of a file or member.

    Raises:
        InvalidNameError: It has control characters, is not text, or is too long.
    """
    if not name.isprintable() or len(name) > limits.SOURCE_LENGTH_MAX:
        raise InvalidNameError(
            f"the name has control characters, is not text, or is longer than "
            f"{limits.SOURCE_LENGTH_MAX} characters",
            {"field": "path"},
        )
    return name


def suffix_of(name: str) -> str:
    """The ending of a file's name with its dot, in small letters."""
    _, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return f"{dot}{suffix}".lower()


def _cleaned(name: str) -> str:
    """A name without accents, and with ``_`` for what an id may not have."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii")
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "_", plain.strip()).lstrip(".")
    if not re.search(r"[A-Za-z0-9]", cleaned):
        return f"person-{_digest(name)}"
    return validation.check_id(cleaned[: limits.ID_LENGTH_MAX], "identity")


def _with_digest(cleaned: str, name: str) -> str:
    suffix = f"-{_digest(name)}"
    return cleaned[: limits.ID_LENGTH_MAX - len(suffix)] + suffix


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:_HASH_LENGTH]
