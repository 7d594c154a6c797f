"""Checks a gallery's database against all invariants."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from visagedb_indexer.integrity.facts import Facts
from visagedb_indexer.integrity.invariants import INVARIANTS, PAGES, Invariant
from visagedb_indexer.integrity.values import Progress, Report, Result, Tally
from visagedb_indexer.store import GalleryStore, Reader
from visagedb_indexer.store.pages import DATA_FILE, shows
from visagedb_indexer.store.tables import Tables

_ATTEMPTS: Final = 100
"""Two commits between the beginning of a transaction and a look at the file are rare."""


def ignore_progress(done: float, stage: str) -> None:
    """For callers that do not ask how far it is."""


def verify_store(store: GalleryStore, progress: Progress = ignore_progress) -> Report:
    """Checks one database, as it is at one moment; it may be written to meanwhile.

    Raises:
        StorageCorruptError: LMDB itself cannot read it.
    """
    start = time.monotonic()
    with _shown_view(store) as view:
        results = tuple(check(store, view.tables, progress))
        gallery = Facts(store, view.tables).gallery
    return Report("" if gallery is None else gallery.id, results, time.monotonic() - start)


@contextmanager
def _shown_view(store: GalleryStore) -> Iterator[Reader]:
    """A view whose pages can be looked at in the file too, unless it is damaged."""
    path = store.environment.path / DATA_FILE
    for _ in range(_ATTEMPTS):
        with store.read() as view:
            if shows(path, view.tables.transaction):
                yield view
                return
    with store.read() as view:
        yield view


def check(store: GalleryStore, tables: Tables, progress: Progress) -> Iterator[Result]:
    """The invariants, one by one, in one transaction."""
    stage = (0.0, "")
    facts = Facts(store, tables, lambda: progress(*stage))
    for place, invariant in enumerate(INVARIANTS):
        stage = (place / len(INVARIANTS), invariant.name)
        progress(*stage)
        result = _result(invariant, invariant.check(facts))
        yield result
        if invariant is PAGES and result.broken_count:
            # To read on through LMDB might end the process.
            return


def _result(invariant: Invariant, tally: Tally) -> Result:
    return Result(
        invariant=invariant.name,
        statement=invariant.statement,
        kind=invariant.kind,
        broken_count=tally.count,
        findings=tuple(tally.findings),
    )
