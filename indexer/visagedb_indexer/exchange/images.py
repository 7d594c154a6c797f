"""From one image of a folder or a tar to an entry of an import."""

import hashlib
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from visagedb_indexer import limits
from visagedb_indexer.errors import ImageTooLargeError, IndexerError
from visagedb_indexer.exchange.entries import Entry
from visagedb_indexer.exchange.naming import Naming, check_readable
from visagedb_indexer.exchange.said import Said
from visagedb_indexer.gallery_values import NewFace
from visagedb_indexer.loose_faces import NewLooseFaces
from visagedb_indexer.values import Vector

NO_VECTOR: Final[Vector] = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class ImageEntries:
    """Makes entries of images.

    Attributes:
        naming: How paths name identities.
        loose: Enrol all faces without an identity.
        labels: Of identities that are new.
    """

    naming: Naming
    loose: bool
    labels: dict[str, str]

    def of(self, path: str, after: str, image: bytes, said: Said | None = None) -> Entry:
        """The entry of an image; what cannot be used is its content."""
        try:
            check_readable(path)
            content = self._content(path, image, said or Said())
        except IndexerError as error:
            return Entry(path, after, error)
        owner = content.identity_id if isinstance(content, NewFace) else ""
        return Entry(path, after, content, image, owner)

    def _content(self, path: str, image: bytes, said: Said) -> NewFace | NewLooseFaces:
        digest = hashlib.sha256(image).digest()
        source = said.source or path
        if self.loose:
            return NewLooseFaces((), digest, source=source)
        identity_id, name = self._identity(path, said)
        new = said.new_identity(self.labels)
        return NewFace(
            identity_id=identity_id,
            vector=NO_VECTOR,
            content_sha256=digest,
            face_id=said.face_id,
            source=source,
            new_identity=replace(new, display_name=new.display_name or name),
        )

    def _identity(self, path: str, said: Said) -> tuple[str, str]:
        if said.identity_id:
            return said.identity_id, ""
        if said.identity_name:
            name = check_readable(said.identity_name)
            return self.naming.id_of(name), _display_name(name)
        identity_id, name = self.naming.identity(path)
        return identity_id, _display_name(name)


def too_large(size: int) -> ImageTooLargeError:
    """The refusal of an image whose size is known before it is read."""
    return ImageTooLargeError(
        f"the image has {size} bytes, the most is {limits.IMAGE_BYTES_MAX}",
        {"bytes": str(size), "limit": str(limits.IMAGE_BYTES_MAX)},
    )


def _display_name(name: str) -> str:
    return name if len(name) <= limits.DISPLAY_NAME_LENGTH_MAX else ""
