"""Strict reading of the tables of a model card: every complaint names the file and the field."""

import math
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, TypeVar, overload

from visagedb_indexer.errors import InvalidModelCardError, ModelFileMissingError

CARD_BYTES_MAX: Final = 1 << 20

T = TypeVar("T", bound=str | int)


class Table:
    """One table of a card. Fields are taken out one by one; `finish` refuses the rest.

    Args:
        path: The card, for messages.
        prefix: Dotted path of this table, for messages.
        values: What the file says.
    """

    def __init__(self, path: Path, prefix: str, values: dict[str, Any]) -> None:
        self._path = path
        self._prefix = prefix
        self._values = values

    def error(self, key: str, message: str) -> InvalidModelCardError:
        """The error for one field."""
        field = f"{self._prefix}{key}"
        return InvalidModelCardError(
            f"{self._path}: {field} {message}", {"file": str(self._path), "field": field}
        )

    def remaining(self) -> tuple[str, ...]:
        """Keys that have not been taken."""
        return tuple(self._values)

    def finish(self) -> None:
        """Refuses what nobody asked for: it is a misspelling more often than not."""
        for key in self._values:
            raise self.error(key, "is not a known field")

    def _take(self, key: str, kind: type | tuple[type, ...], name: str) -> Any:
        if key not in self._values:
            raise self.error(key, "is missing")
        value = self._values.pop(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.error(key, f"must be {name}, not {value!r:.60}")
        return value

    def text(self, key: str, *, default: str | None = None, pattern: str = r"(?s).+") -> str:
        """A text that matches the pattern."""
        if default is not None and key not in self._values:
            return default
        value: str = self._take(key, str, "a text")
        if not re.fullmatch(pattern, value):
            raise self.error(key, f"must match {pattern}, not {value!r:.60}")
        return value

    def digest(self, key: str) -> str:
        """A SHA-256 digest in hexadecimal."""
        return self.text(key, pattern=r"[0-9a-f]{64}")

    def relative_path(self, key: str) -> str:
        """A path that stays inside its folder."""
        value = self.text(key)
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or "\\" in value or "\0" in value:
            raise self.error(key, "must be a relative path without '..'")
        return value

    def integer(self, key: str, least: int, most: int) -> int:
        """A whole number in a range."""
        value: int = self._take(key, int, "a whole number")
        if not least <= value <= most:
            raise self.error(key, f"must be {least} to {most}, not {value}")
        return value

    def number(self, key: str, least: float, most: float) -> float:
        """A number in a range."""
        value = float(self._take(key, (int, float), "a number"))
        if not least <= value <= most:
            raise self.error(key, f"must be {least} to {most}, not {value}")
        return value

    def key_number(self, key: str) -> float:
        """A key that is itself a rate between 0 and 1."""
        try:
            value = float(key)
        except ValueError:
            value = math.nan
        if not 0.0 < value < 1.0:
            raise self.error(key, "must be a rate between 0 and 1")
        return value

    def choice(self, key: str, allowed: Sequence[T]) -> Any:
        """One of a few values."""
        value = self._take(key, (str, int), f"one of {list(allowed)}")
        if value not in allowed:
            raise self.error(key, f"must be one of {list(allowed)}, not {value!r:.60}")
        return value

    def numbers(self, key: str, count: int) -> list[float]:
        """A list of so many finite numbers."""
        values: list[Any] = self._take(key, list, f"a list of {count} numbers")
        if len(values) != count or not all(_is_number(value) for value in values):
            raise self.error(key, f"must be a list of {count} finite numbers")
        return [float(value) for value in values]

    def points(self, key: str, count: int) -> list[tuple[float, float]]:
        """A list of so many [x, y] pairs."""
        values: list[Any] = self._take(key, list, f"a list of {count} points")
        pairs = all(
            isinstance(pair, list) and len(pair) == 2 and all(_is_number(v) for v in pair)
            for pair in values
        )
        if len(values) != count or not pairs:
            raise self.error(key, f"must be a list of {count} points [x, y]")
        return [(float(x), float(y)) for x, y in values]

    @overload
    def table(self, key: str, *, optional: Literal[False] = False) -> "Table": ...

    @overload
    def table(self, key: str, *, optional: Literal[True]) -> "Table | None": ...

    def table(self, key: str, *, optional: bool = False) -> "Table | None":
        """A table inside this one."""
        if optional and key not in self._values:
            return None
        values = self._take(key, dict, "a table")
        return Table(self._path, f"{self._prefix}{key}.", values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def parse_toml(path: Path) -> Table:
    """The top table of a card.

    Raises:
        ModelFileMissingError: There is no such file.
        InvalidModelCardError: It is not TOML, or unreasonably large.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(CARD_BYTES_MAX + 1)
    except (FileNotFoundError, IsADirectoryError):
        raise ModelFileMissingError(f"{path} does not exist", {"file": str(path)}) from None
    if len(content) > CARD_BYTES_MAX:
        raise InvalidModelCardError(f"{path}: larger than {CARD_BYTES_MAX} bytes")
    try:
        values = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidModelCardError(f"{path}: not a TOML file: {error}") from error
    return Table(path, "", values)
