"""Checks a gallery's database against all invariants."""

import time
from collections.abc import Iterator

from visagedb_indexer.integrity.facts import Facts
from visagedb_indexer.integrity.invariants import INVARIANTS, Invariant
from visagedb_indexer.integrity.values import Progress, Report, Result, Tally
from visagedb_indexer.store import GalleryStore, Reader


def ignore_progress(done: float, stage: str) -> None:
    """For callers that do not ask how far it is."""


def verify_store(store: GalleryStore, progress: Progress = ignore_progress) -> Report:
    """Checks one database, as it is at one moment; it may be written to meanwhile.

    Raises:
        StorageCorruptError: LMDB itself cannot read it.
    """
    start = time.monotonic()
    with store.read() as view:
        results = tuple(check(store, view, progress))
        gallery = Facts(store, view, lambda: None).gallery
    return Report("" if gallery is None else gallery.id, results, time.monotonic() - start)


def check(store: GalleryStore, view: Reader, progress: Progress) -> Iterator[Result]:
    """The invariants, one by one, in one transaction."""
    stage = (0.0, "")
    facts = Facts(store, view, lambda: progress(*stage))
    for place, invariant in enumerate(INVARIANTS):
        stage = (place / len(INVARIANTS), invariant.name)
        progress(*stage)
        yield _result(invariant, invariant.check(facts))


def _result(invariant: Invariant, tally: Tally) -> Result:
    return Result(
        invariant=invariant.name,
        statement=invariant.statement,
        kind=invariant.kind,
        broken_count=tally.count,
        findings=tuple(tally.findings),
    )
