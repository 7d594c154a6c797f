"""Which identities carry which label, as compressed bitmaps in memory.

The truth is in the store; a bitmap is read from there when a filter asks for it first
and kept in step by the gallery's writer from then on.
"""

import threading
from array import array
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyroaring import BitMap

from visagedb_indexer.filters import And, Filter, HasLabel, Not, Or
from visagedb_indexer.store import Arrivals, IdentityRecord

_BITMAPS_KEPT_MAX: Final = 4096
_MASKS_KEPT_MAX: Final = 4


class LabelIndex:
    """The identities of a gallery by label.

    Args:
        numbers: All identities, by number; shape (n,).
        load: Reads the numbers of the identities with a label (key and value), or with
            any value of a key when the value is None.
    """

    def __init__(self, numbers: ArrayLike, load: Callable[[str, str | None], list[int]]) -> None:
        self._all = BitMap(array("I", np.asarray(numbers, dtype=np.uint32).tobytes()))
        self._load = load
        self._bitmaps: dict[HasLabel, BitMap] = {}
        self._masks: dict[Filter, NDArray[np.bool_]] = {}
        self._lock = threading.Lock()

    def add(self, record: IdentityRecord) -> None:
        """An identity was created."""
        with self._lock:
            self._add(record)

    def add_arrivals(self, arrivals: Arrivals) -> None:
        """Many identities were created."""
        first = arrivals.first_number
        with self._lock:
            self._masks.clear()
            self._all.add_range(first, first + arrivals.identity_count)
            for (key, value), numbers in arrivals.labels.items():
                for term in (HasLabel(key, value), HasLabel(key, None)):
                    if term in self._bitmaps:
                        self._bitmaps[term].update(numbers)

    def remove(self, record: IdentityRecord) -> None:
        """An identity was deleted."""
        with self._lock:
            self._remove(record)

    def replace(self, old: IdentityRecord, new: IdentityRecord) -> None:
        """An identity's labels were changed."""
        # In one step: a listing in between would miss the identity.
        with self._lock:
            self._remove(old)
            self._add(new)

    def numbers(self, chosen: Filter | None, after: int = -1) -> Iterator[int]:
        """Numbers above `after` of the identities that pass, ascending."""
        with self._lock:
            bitmap = self._all.copy() if chosen is None else self._evaluate(chosen)
        yield from bitmap.iter_equal_or_larger(after + 1)

    def mask(self, chosen: Filter | None) -> NDArray[np.bool_] | None:
        """Which identities pass, by number: shape (largest number + 1,); None without a filter."""
        if chosen is None:
            return None
        with self._lock:
            known = self._masks.get(chosen)
            if known is not None:
                return known
            passing = np.asarray(self._evaluate(chosen).to_array(), dtype=np.int64)
            mask = np.zeros(int(passing[-1]) + 1 if len(passing) else 0, dtype=np.bool_)
            mask[passing] = True
            mask.flags.writeable = False
            # Searches with the same filter come in crowds, and a change makes all masks stale.
            if len(self._masks) >= _MASKS_KEPT_MAX:
                self._masks.clear()
            self._masks[chosen] = mask
        return mask

    def _add(self, record: IdentityRecord) -> None:
        self._masks.clear()
        self._all.add(record.number)
        for term in _terms(record):
            if term in self._bitmaps:
                self._bitmaps[term].add(record.number)

    def _remove(self, record: IdentityRecord) -> None:
        self._masks.clear()
        self._all.discard(record.number)
        for term in _terms(record):
            if term in self._bitmaps:
                self._bitmaps[term].discard(record.number)

    def _evaluate(self, chosen: Filter) -> BitMap:
        if isinstance(chosen, HasLabel):
            return self._bitmap(chosen)
        if isinstance(chosen, Not):
            return self._all - self._evaluate(chosen.term)
        bitmaps = [self._evaluate(term) for term in chosen.terms]
        if isinstance(chosen, And):
            return reduce(BitMap.__and__, bitmaps)
        assert isinstance(chosen, Or)
        return reduce(BitMap.__or__, bitmaps)

    def _bitmap(self, term: HasLabel) -> BitMap:
        bitmap = self._bitmaps.get(term)
        if bitmap is None:
            if len(self._bitmaps) >= _BITMAPS_KEPT_MAX:
                self._bitmaps.clear()
            bitmap = self._bitmaps[term] = BitMap(self._load(term.key, term.value))
        return bitmap


def _terms(record: IdentityRecord) -> Iterator[HasLabel]:
    for key, value in record.labels.items():
        yield HasLabel(key, value)
        yield HasLabel(key, None)
