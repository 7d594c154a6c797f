"""Pieces of work on several threads."""

import itertools
import threading

import numpy as np
import pytest

from visagedb_indexer.clustering.threads import Scratch, Threads


def test_results_come_in_the_order_of_the_pieces() -> None:
    with Threads(3) as threads:
        assert list(threads.map(lambda n: n * n, range(100))) == [n * n for n in range(100)]


def test_an_endless_supply_of_pieces_is_taken_as_results_are() -> None:
    with Threads(2) as threads:
        squares = threads.map(lambda n: n * n, itertools.count())
        assert [next(squares) for _ in range(5)] == [0, 1, 4, 9, 16]


def test_what_a_piece_raises_comes_to_the_caller() -> None:
    with Threads(2) as threads, pytest.raises(ZeroDivisionError):
        list(threads.map(lambda n: 1 // n, [1, 0]))


def test_each_thread_has_scratch_memory_of_its_own() -> None:
    scratch = Scratch(6)
    mine = scratch.matrix(2, 3)
    theirs = []
    thread = threading.Thread(target=lambda: theirs.append(scratch.matrix(2, 3)))
    thread.start()
    thread.join()
    assert not np.shares_memory(mine, theirs[0])
    assert np.shares_memory(mine, scratch.matrix(1, 6))
    assert scratch.matrix(5, 5).shape == (5, 5)
