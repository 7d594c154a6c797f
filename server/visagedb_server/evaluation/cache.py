"""Templates of images that were embedded before, by the digest of their bytes."""

import hashlib
import sqlite3
from pathlib import Path
from typing import Final

import numpy as np

from visagedb_indexer.errors import InvalidArgumentError
from visagedb_indexer.values import Box
from visagedb_server.evaluation.values import Embedded, Failure, Outcome

_FILE: Final = "templates.sqlite"
_COMMIT_EVERY: Final = 64
_WAIT_SECONDS: Final = 60.0
"""Another evaluation may be writing to the same cache."""
_INSERT: Final = "INSERT OR REPLACE INTO templates VALUES (?,?,?,?,?,?,?,?,?)"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS templates (
    key TEXT PRIMARY KEY, reason TEXT, message TEXT,
    vector BLOB, quality REAL, x REAL, y REAL, width REAL, height REAL
) WITHOUT ROWID
"""


class TemplateCache:
    """A small database in a folder. Templates are biometric data: only the owner can read it.

    Args:
        folder: Made if it does not exist.
        recipe: Everything besides the image that decides the outcome: model, its version,
            precision, which face. Another recipe does not see what this one stored.
        dimension: Length of the vectors.

    Raises:
        InvalidArgumentError: The folder or the file in it cannot be used.
    """

    def __init__(self, folder: Path, recipe: str, dimension: int) -> None:
        self._recipe = recipe.encode()
        self._dimension = dimension
        self._pending = 0
        path = folder / _FILE
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
            self._database = sqlite3.connect(path, timeout=_WAIT_SECONDS)
            self._database.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise _unusable(path, error) from error
        self._path = path

    def key(self, content: bytes) -> str:
        """Of an image with this recipe."""
        return hashlib.sha256(hashlib.sha256(content).digest() + self._recipe).hexdigest()

    def get(self, key: str) -> Outcome | None:
        """What was found in the image; None if it was not embedded yet."""
        try:
            found = self._database.execute("SELECT * FROM templates WHERE key = ?", [key])
            row = found.fetchone()
        except sqlite3.Error as error:
            raise _unusable(self._path, error) from error
        if row is None:
            return None
        _, reason, message, vector, quality, *box = row
        if vector is None:
            return Failure(reason, message)
        values = np.frombuffer(vector, dtype="<f4")
        if len(values) != self._dimension:
            return None
        return Embedded(values.astype(np.float32), quality, Box(*box))

    def put(self, key: str, outcome: Outcome) -> None:
        """Keeps what was found; written to disk every few dozen images."""
        row: list[object] = [key]
        if isinstance(outcome, Failure):
            row += [outcome.reason, outcome.message, *[None] * 6]
        else:
            box = outcome.box
            row += [None, None, outcome.vector.astype("<f4").tobytes(), outcome.quality]
            row += [box.x, box.y, box.width, box.height]
        self._pending += 1
        try:
            self._database.execute(_INSERT, row)
            if self._pending % _COMMIT_EVERY == 0:
                self._database.commit()
        except sqlite3.Error as error:
            raise _unusable(self._path, error) from error

    def close(self) -> None:
        """Writes what is pending."""
        self._database.commit()
        self._database.close()


def _unusable(path: Path, error: Exception) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"the cache {path} cannot be used ({error}); remove it or choose another folder"
    )
