"""Chinese whispers on a weighted graph (Biemann 2006), many rows at once."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.clustering.agglomeration import number_by_appearance

_ROUNDS_MAX: Final = 30
_GROUPS: Final = 8


def chinese_whispers(
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    weights: NDArray[np.float32],
    count: int,
    check: Callable[[], None] | None = None,
    seed: int = 1,
) -> NDArray[np.int32]:
    """Labels of the rows of a graph, shape (count,).

    The original visits one row after the other. Here an eighth of the rows, drawn anew in
    every round, votes at a time; that is enough to break the oscillations of all at once.

    Args:
        left: One end of each edge, shape (m,).
        right: The other end, shape (m,).
        weights: Shape (m,).
        count: Rows.
        check: Called between rounds; raises to give up.
        seed: Of the order of the rows.
    """
    random = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int32)
    rows, others = np.concatenate([left, right]), np.concatenate([right, left])
    votes = np.concatenate([weights, weights]).astype(np.float64)
    for _ in range(_ROUNDS_MAX):
        changes = 0
        group = random.integers(0, _GROUPS, count, dtype=np.int8)[rows]
        for number in range(_GROUPS):
            if check is not None:
                check()
            here = np.flatnonzero(group == number)
            changes += _vote(labels, rows[here], others[here], votes[here])
        if not changes:
            break
    return number_by_appearance(labels)


def _vote(
    labels: NDArray[np.int32],
    rows: NDArray[np.int32],
    others: NDArray[np.int32],
    votes: NDArray[np.float64],
) -> int:
    """Every row takes the label of most weight among its neighbours; says how many changed."""
    if not len(rows):
        return 0
    keys, which = np.unique((rows.astype(np.int64) << 32) | labels[others], return_inverse=True)
    weight = np.bincount(which, votes)
    voter, label = (keys >> 32).astype(np.int32), (keys & 0xFFFFFFFF).astype(np.int32)
    # A row that is content with its label keeps it, so that ties come to rest.
    content = label == labels[voter]
    order = np.lexsort((label, ~content, -weight, voter))
    first = np.ones(len(order), np.bool_)
    first[1:] = voter[order][1:] != voter[order][:-1]
    winners = order[first]
    changed = int(np.count_nonzero(labels[voter[winners]] != label[winners]))
    labels[voter[winners]] = label[winners]
    return changed
