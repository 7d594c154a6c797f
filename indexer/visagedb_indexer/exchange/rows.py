"""From rows of a table of vectors to entries of an import."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from visagedb_indexer import limits
from visagedb_indexer.errors import (
    IndexerError,
    InvalidArgumentError,
    InvalidSourceError,
    InvalidVectorError,
)
from visagedb_indexer.exchange.entries import BareIdentity, Content, Entry, LooseCopy, VectorRow
from visagedb_indexer.exchange.said import FIELDS, Said, said_of, said_plainly
from visagedb_indexer.gallery_values import NewFace
from visagedb_indexer.loose_faces import NewLooseFaces
from visagedb_indexer.values import Vector

_PLAIN: Final = frozenset({"identity_id", "face_id", "vector", "source"})
"""What is read without looking at the whole row."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a table are what.

    Attributes:
        names: Names in the table by the names of `FIELDS`; only of those that are there.
    """

    names: dict[str, str]

    @classmethod
    def of(cls, present: Sequence[str], renamed: Mapping[str, str], *, loose: bool) -> "Columns":
        """The columns of a table.

        Args:
            present: Names of all its columns.
            renamed: Names in the table by the names of `FIELDS`, where they differ.
            loose: The faces get no identity, so that none is needed.

        Raises:
            InvalidSourceError: One that is needed is not there.
        """
        check_renamed(renamed)
        names = {name: renamed.get(name, name) for name in FIELDS}
        needed = {"vector", *renamed} | (set() if loose else {"identity_id"})
        for name in sorted(needed):
            if names[name] not in present:
                shown = ", ".join(sorted(map(str, present))[:20]) or "none"
                raise InvalidSourceError(
                    f"there is no column {names[name]!r}; the columns are {shown}. Say which one "
                    f"is the {name}",
                    {"field": "columns", "column": name},
                )
        return cls({name: there for name, there in names.items() if there in present})


def check_renamed(renamed: Mapping[str, str]) -> None:
    """Names of columns that a caller gives.

    Raises:
        InvalidArgumentError: One is for nothing that a table may have.
    """
    unknown = sorted(set(renamed) - set(FIELDS))
    if unknown or len(renamed) > limits.IMPORT_COLUMNS_MAX:
        raise InvalidArgumentError(
            f"columns are for {', '.join(FIELDS)}, not for {unknown[:3]}", {"field": "columns"}
        )


class RowEntries:
    """Makes entries of rows.

    Args:
        loose: Enrol all faces without an identity.
        labels: Of identities that are new.
    """

    def __init__(self, *, loose: bool, labels: dict[str, str]) -> None:
        self._loose = loose
        self._labels = labels
        self._plain = Said().new_identity(labels)

    def of(
        self,
        first: int,
        columns: Mapping[str, Sequence[Any]],
        vectors: Sequence[Vector | None],
    ) -> Iterator[Entry]:
        """The entries of some rows.

        Args:
            first: Number of the first row, from 0.
            columns: Values by the names of `FIELDS`.
            vectors: Of the rows, each of any length; None where there is none.
        """
        plain = set(columns) <= _PLAIN
        for place, vector in enumerate(vectors):
            row = {name: values[place] for name, values in columns.items()}
            number = first + place
            owner = row.get("identity_id")
            identity_id = str(owner) if isinstance(owner, str | int) else ""
            content: Content
            try:
                content = self._content(row, vector, plain=plain)
            except IndexerError as error:
                content = error
            yield Entry(f"row {number}", str(number + 1), content, None, identity_id)

    def _content(self, row: Mapping[str, Any], vector: Vector | None, *, plain: bool) -> Content:
        said = said_plainly(row) if plain else said_of(row)
        if vector is None:
            if said.face_id or not said.identity_id:
                raise InvalidVectorError("there is no vector", {"field": "vector"})
            return BareIdentity(said.identity_id, said.new_identity(self._labels))
        if plain and said.identity_id and not self._loose:
            return VectorRow(said.identity_id, vector, said.face_id, said.source, self._plain)
        # As a caller's vector is known when it is enrolled by itself.
        digest = said.content_sha256 or hashlib.sha256(vector.astype("<f4").tobytes()).digest()
        if said.identity_id and not self._loose:
            return NewFace(
                identity_id=said.identity_id,
                vector=vector,
                content_sha256=digest,
                face_id=said.face_id,
                source=said.source,
                extracted=said.extracted,
                new_identity=said.new_identity(self._labels),
                copied_from_us=said.face_create_time_us,
            )
        if said.face_id:
            return LooseCopy(
                said.face_id,
                vector,
                digest,
                said.source,
                said.extracted,
                said.face_create_time_us,
            )
        where = () if said.extracted is None else (said.extracted,)
        return NewLooseFaces((vector,), digest, where, said.source)


def as_float32(values: Any) -> Vector:
    """Numbers as float32, shape kept; what is too large becomes infinite and is refused later.

    Raises:
        InvalidSourceError: They are no numbers.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise InvalidSourceError(f"the vectors are of type {array.dtype}, not numbers")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)
