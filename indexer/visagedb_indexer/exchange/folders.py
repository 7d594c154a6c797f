"""A folder of images as the source of an import.

Files come in the order of their names, folder by folder, so that a path is a position. Links
are not followed.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from visagedb_indexer import limits
from visagedb_indexer.errors import IndexerError, InvalidSourceError
from visagedb_indexer.exchange.entries import Entry, Ignored
from visagedb_indexer.exchange.images import ImageEntries, too_large
from visagedb_indexer.exchange.naming import IMAGE_SUFFIXES, suffix_of
from visagedb_indexer.exchange.paths import OpenFolders


class FolderSource:
    """The images in a folder and the folders below it.

    Args:
        folder: Its real path.
        folders: What may be opened.
        images: Makes entries of images.
        check: Called now and then; raises to stop.
    """

    mark = ""

    def __init__(
        self,
        folder: Path,
        folders: OpenFolders,
        images: ImageEntries,
        check: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._folders = folders
        self._images = images
        self._check = check

    def count(self) -> int:
        """How many images there are."""
        return sum(is_image for _, is_image in self._walk(self._folder, (), (), ordered=False))

    def entries(self, position: str) -> Iterator[Entry]:
        """See `Source.entries`."""
        naming = self._images.naming
        if naming.by_folder and not self._images.loose:
            naming.know(entry.name for entry in _listed(self._folder) if _is_folder(entry))
        after = tuple(json.loads(position)) if position else ()
        for parts, is_image in self._walk(self._folder, (), after, ordered=True):
            name = "/".join(parts)
            # In ASCII, where bytes that are no text have escapes.
            here = json.dumps(parts)
            yield self._entry(name, here) if is_image else Entry(name, here, Ignored())

    def _entry(self, name: str, here: str) -> Entry:
        try:
            with self._folders.open(self._folder / name) as file:
                size = os.fstat(file.fileno()).st_size
                if size > limits.IMAGE_BYTES_MAX:
                    return Entry(name, here, too_large(size))
                image = file.read(limits.IMAGE_BYTES_MAX)
        except OSError as error:
            problem = InvalidSourceError(f"the file cannot be read: {error.strerror}")
            return Entry(name, here, problem)
        except IndexerError as error:
            return Entry(name, here, error)
        return self._images.of(name, here, image)

    def _walk(
        self, folder: Path, parts: tuple[str, ...], after: tuple[str, ...], *, ordered: bool
    ) -> Iterator[tuple[tuple[str, ...], bool]]:
        """Paths behind one, and whether each is an image."""
        self._check()
        entries = _listed(folder)
        for entry in sorted(entries, key=lambda entry: entry.name) if ordered else entries:
            if after and entry.name < after[0]:
                continue
            rest = after[1:] if after and entry.name == after[0] else ()
            here = (*parts, entry.name)
            hidden = entry.name.startswith(".")
            if _is_folder(entry) and not hidden:
                yield from self._walk(folder / entry.name, here, rest, ordered=ordered)
            elif not after or entry.name != after[0]:
                is_file = not hidden and entry.is_file(follow_symlinks=False)
                yield here, is_file and suffix_of(entry.name) in IMAGE_SUFFIXES

    def progress(self, position: str) -> float | None:
        """See `Source.progress`."""
        return None

    def close(self) -> None:
        """Nothing stays open."""


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        raise InvalidSourceError(f"the folder {folder} cannot be read: {error.strerror}") from error


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    return entry.is_dir(follow_symlinks=False)
