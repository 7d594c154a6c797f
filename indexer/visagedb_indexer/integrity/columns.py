"""Columns: the vector, its checksum and the owner of every face, by ordinal."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.errors import StorageCorruptError
from visagedb_indexer.integrity.facts import NO_OWNER, Facts
from visagedb_indexer.integrity.values import Finding, Tally
from visagedb_indexer.store import checksums, schema
from visagedb_indexer.store.blocks import Column, packed

MISSING: Final = -2
"""Stands for an owner whose block is lost."""
NORM_TOLERANCE: Final = 1e-3
"""Vectors are brought to unit length in double precision and kept as float32."""


@dataclass(frozen=True, slots=True, eq=False)
class VectorBlock:
    """One block of vectors with what should be true of it.

    Attributes:
        first: Its first ordinal.
        owners: Of its rows, as the faces say; shape (rows,).
        rows: Shape (rows, dimension); None if the block is missing or has a wrong size.
        checksums: As stored; shape (rows,); zeros where their block is missing.
    """

    first: int
    owners: NDArray[np.int32]
    rows: NDArray[np.float32] | None
    checksums: NDArray[np.uint32]

    @property
    def owned(self) -> NDArray[np.int64]:
        """Places of the rows that faces have."""
        return np.flatnonzero(self.owners != NO_OWNER)

    @property
    def free(self) -> NDArray[np.int64]:
        """Places of the rows that no face has."""
        return np.flatnonzero(self.owners == NO_OWNER)


def vector_blocks(facts: Facts) -> Iterator[VectorBlock]:
    """All blocks of vectors."""
    column = facts.store.opened.vector_column
    stored = _stored_checksums(facts)
    for block in range(facts.capacity // column.rows_per_block):
        facts.tick(block)
        first = block * column.rows_per_block
        here = slice(first, first + column.rows_per_block)
        rows = _rows(facts, column, block)
        vectors = None if rows is None else rows.astype(np.float32, copy=False)
        yield VectorBlock(first, facts.owners[here], vectors, stored[here])


def _stored_checksums(facts: Facts) -> NDArray[np.uint32]:
    """The checksums by ordinal; zeros where a block is missing or has a wrong size."""
    return _column(facts, facts.store.opened.checksum_column, 0).astype(np.uint32)


def stored_owners(facts: Facts) -> NDArray[np.int32]:
    """The owners by ordinal as stored; `MISSING` where there is no usable block."""
    return _column(facts, facts.store.opened.owner_column, MISSING).astype(np.int32)


def _column(facts: Facts, column: Column, missing: int) -> NDArray[np.generic]:
    values = np.full(facts.capacity, missing, dtype=column.dtype)
    for block in range(-(-facts.capacity // column.rows_per_block)):
        rows = _rows(facts, column, block)
        if rows is not None:
            first = block * column.rows_per_block
            room = values[first : first + column.rows_per_block]
            room[:] = rows[: len(room), 0]
    return values


def _rows(facts: Facts, column: Column, block: int) -> NDArray[np.generic] | None:
    data = facts.tables.get(column.database, schema.u32(block))
    try:
        return None if data is None else column.rows(memoryview(data))
    except StorageCorruptError:
        return None


def vectors_of(facts: Facts, ordinals: NDArray[np.int64]) -> NDArray[np.float32]:
    """Vectors by ordinal, shape (n, dimension); zeros where the block is missing."""
    column = facts.store.opened.vector_column
    vectors = np.zeros((len(ordinals), column.width), dtype=np.float32)
    blocks = ordinals // column.rows_per_block
    for block in np.unique(blocks).tolist():
        rows = _rows(facts, column, block)
        if rows is not None:
            here = blocks == block
            vectors[here] = rows[ordinals[here] % column.rows_per_block]
    return vectors


def damaged(block: VectorBlock) -> Iterator[tuple[int, str]]:
    """Ordinals of the faces of a block whose vectors are not what was written, and why."""
    owned = block.owned
    if block.rows is None:
        for place in owned.tolist():
            yield block.first + place, "its vector is missing"
        return
    rows = block.rows[owned]
    with np.errstate(all="ignore"):
        norms = np.sqrt(np.sum(rows.astype(np.float64) ** 2, axis=1))
    unit = np.abs(norms - 1) < NORM_TOLERANCE
    same = checksums.of_vectors(rows) == block.checksums[owned]
    # A checksum that is lost can be made again from a vector that is whole.
    lost = block.checksums[owned] == 0
    for place in np.flatnonzero(~unit | ~(same | lost)).tolist():
        zero = not rows[place].any()
        reason = (
            "its vector is gone: it is zero"
            if zero
            else "its vector has not unit length"
            if not unit[place]
            else "its vector is not what was written: the checksum differs"
        )
        yield block.first + int(owned[place]), reason


@dataclass(frozen=True, slots=True)
class VectorFaults:
    """What one walk over all vectors finds.

    Attributes:
        damaged: Faces whose vector is not what was written.
        checksums: Faces without a checksum, and checksums without a face.
        left: Vectors that no face has: what was deleted must leave no bytes.
    """

    damaged: Tally
    checksums: Tally
    left: Tally


def check_vectors(facts: Facts) -> VectorFaults:
    """Walks over all vectors once."""
    faults = VectorFaults(Tally(), Tally(), Tally())
    for block in vector_blocks(facts):
        for ordinal, reason in damaged(block):
            faults.damaged.add(facts.about, reason, int(facts.owners[ordinal]), ordinal)
        for place in block.owned[block.checksums[block.owned] == 0].tolist():
            reason = "a vector has lost its checksum"
            ordinal, number = block.first + place, int(block.owners[place])
            faults.checksums.add(facts.about, reason, number, ordinal)
        for place in block.free[block.checksums[block.free] != 0].tolist():
            faults.checksums.add(Finding, "a checksum without a face", "", "", block.first + place)
        if block.rows is not None:
            left = np.any(block.rows[block.free] != 0, axis=1)
            for place in block.free[left].tolist():
                faults.left.add(Finding, "a vector without a face", "", "", block.first + place)
    return faults


def check_owners(facts: Facts) -> Iterator[Finding]:
    """Every ordinal has the owner that its face says, and none where there is no face."""
    end = facts.ordinal_end
    stored, expected = stored_owners(facts)[:end], facts.owners[:end]
    for ordinal in np.flatnonzero(stored != expected).tolist():
        number = int(expected[ordinal])
        if number == NO_OWNER:
            yield Finding("an owner without a face", ordinal=ordinal)
        else:
            yield facts.about("a face has another owner by its ordinal", number, ordinal)


def repair_checksums(facts: Facts) -> int:
    """Makes the checksums anew that are lost, and forgets those without a face."""
    values = _stored_checksums(facts)
    before = values.copy()
    for block in vector_blocks(facts):
        sums = values[block.first : block.first + len(block.owners)]
        sums[block.free] = 0
        if block.rows is not None:
            broken = {ordinal - block.first for ordinal, _ in damaged(block)}
            lost = [p for p in block.owned.tolist() if sums[p] == 0 and p not in broken]
            sums[lost] = checksums.of_vectors(block.rows[lost])
    return _put(facts, facts.store.opened.checksum_column, before, values)


def repair_owners(facts: Facts) -> int:
    """Makes the owners anew from the faces."""
    stored = stored_owners(facts)
    expected = facts.owners.copy()
    # Ordinals that were never given have zeros, like all rows behind the last.
    expected[facts.ordinal_end :] = 0
    stored[facts.ordinal_end :] = 0
    return _put(facts, facts.store.opened.owner_column, stored, expected)


def repair_erased(facts: Facts) -> int:
    """Overwrites vectors that no face has with zeros."""
    changed = 0
    column = facts.store.opened.vector_column
    for block in vector_blocks(facts):
        if block.rows is None:
            continue
        left = block.free[np.any(block.rows[block.free] != 0, axis=1)]
        if len(left):
            rows = block.rows.astype(column.dtype)
            rows[left] = 0
            key = schema.u32(block.first // column.rows_per_block)
            facts.tables.put(column.database, key, packed(rows))
            changed += len(left)
    return changed


def _put(
    facts: Facts, column: Column, before: NDArray[np.generic], after: NDArray[np.generic]
) -> int:
    """Writes the blocks of a column that have changed; how many rows have."""
    size = column.rows_per_block
    for block in range(-(-len(after) // size)):
        here = slice(block * size, (block + 1) * size)
        missing = _rows(facts, column, block) is None
        if missing or not np.array_equal(before[here], after[here]):
            rows = np.zeros(size, dtype=column.dtype)
            rows[: len(after[here])] = after[here]
            facts.tables.put(column.database, schema.u32(block), packed(rows))
    return int(np.count_nonzero(before != after))
