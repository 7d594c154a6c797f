"""The snapshot of the codes: whole, of this gallery, complete, and made from its vectors."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from visagedb_indexer import limits
from visagedb_indexer.integrity.columns import vectors_of
from visagedb_indexer.integrity.facts import NO_OWNER, Facts
from visagedb_indexer.integrity.values import Finding, Tally
from visagedb_indexer.search import Snapshot
from visagedb_indexer.store import GalleryStore


def check_codes(facts: Facts) -> Iterator[Finding]:
    """What is wrong with the snapshot; nothing if there is none."""
    gallery = facts.gallery
    if gallery is None:
        return
    snapshot = Snapshot(_folder(facts.store), gallery.uid, gallery.model.dimension)
    try:
        known = snapshot.read(facts.ordinal_end)
    except ValueError as error:
        yield Finding(f"the snapshot of the codes cannot be used: {error}")
        return
    if known is None:
        return
    index, _ = known
    ordinals = np.concatenate([s.ordinals for s in index.segments] or [np.empty(0, np.uint32)])
    if len(np.unique(ordinals)) != len(ordinals):
        yield Finding("a face has several codes")
    if len(ordinals) and int(ordinals.max()) >= index.indexed:
        yield Finding("a face beyond the end of the codes has one")
    live = np.flatnonzero(facts.owners[: index.indexed] != NO_OWNER)
    for ordinal in np.setdiff1d(live, ordinals).tolist():
        yield facts.about("a face has no code", int(facts.owners[ordinal]), ordinal)
    chosen = np.intersect1d(live, ordinals)
    if len(chosen) > limits.INTEGRITY_CODES_SAMPLED:
        random = np.random.default_rng(len(chosen))
        chosen = np.sort(random.choice(chosen, limits.INTEGRITY_CODES_SAMPLED, replace=False))
    for ordinal in index.differing(chosen, vectors_of(facts, chosen)).tolist():
        yield facts.about("a code is not that of the vector", int(facts.owners[ordinal]), ordinal)


def remove_if_broken(store: GalleryStore) -> bool:
    """Removes the snapshot if something is wrong with it; whether it did."""
    with store.read() as view:
        broken = Tally.of(check_codes(Facts(store, view.tables))).count > 0
    if broken:
        shutil.rmtree(_folder(store))
    return broken


def _folder(store: GalleryStore) -> Path:
    return store.environment.path / "codes"
