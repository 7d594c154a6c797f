"""Makes what is derived anew from what is primary, in one transaction.

Nothing is invented. What is primary and damaged stays as it is, unless the caller allows it to be
dropped; then the list of what was dropped is part of the report.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

from visagedb_indexer.errors import StorageCorruptError
from visagedb_indexer.failpoints import reached
from visagedb_indexer.integrity import codes, columns, records
from visagedb_indexer.integrity.facts import NO_OWNER, Facts
from visagedb_indexer.integrity.invariants import INVARIANTS, PAGES
from visagedb_indexer.integrity.values import Finding, Progress, Report
from visagedb_indexer.integrity.verify import ignore_progress, verify_store
from visagedb_indexer.store import GalleryStore, schema
from visagedb_indexer.store.tables import Tables


def repair_store(
    store: GalleryStore, *, drop_damaged: bool = False, progress: Progress = ignore_progress
) -> Report:
    """Repairs a database that nobody else has open; all of it or, on an error, nothing.

    Args:
        store: The gallery's database.
        drop_damaged: Also drop identities, faces and results that cannot be used as they are.
        progress: Takes how far it is.

    Returns:
        How it is afterwards, what was done, and what was dropped.

    Raises:
        StorageCorruptError: LMDB itself cannot read it.
        StorageFullError: There is no room for the repair; nothing was changed.
    """
    start = time.monotonic()
    dropped: tuple[Finding, ...] = ()
    repairs: list[str] = []
    with store.read() as view:
        unreadable = PAGES.check(Facts(store, view.tables)).findings
    if unreadable:
        raise StorageCorruptError(unreadable[0].message)
    reached("repair.before_begin")
    with store.environment.write() as txn:
        tables = Tables(store.environment.handle, txn)
        if drop_damaged:
            dropped = tuple(_dropped(Facts(store, tables)))
        for place, invariant in enumerate(INVARIANTS):
            progress(0.5 * place / len(INVARIANTS), f"repairing {invariant.name}")
            facts = Facts(store, tables)
            if invariant.repair is not None and invariant.check(facts).count:
                changed = invariant.repair(facts)
                repairs.append(f"{invariant.name}: {changed} made anew")
        reached("repair.before_commit")
    reached("repair.after_commit")
    if codes.remove_if_broken(store):
        repairs.append("codes: removed; they are built anew from the vectors")
    reached("repair.after_codes")
    report = verify_store(store, lambda done, stage: progress(0.5 + 0.5 * done, stage))
    seconds = time.monotonic() - start
    return replace(report, seconds=seconds, repairs=tuple(repairs), dropped=dropped)


def _dropped(facts: Facts) -> Iterator[Finding]:
    """Removes the primary records that cannot be used; what follows from them goes later."""
    lost = list(_damaged_identities(facts))
    faces = dict(_damaged_faces(facts, {number for number, _ in lost}))
    findings = [facts.about("damaged, dropped", number) for number, _ in lost]
    findings += [_face(facts, key) for key in faces]
    for table in records.RESULTS:
        for key in [k for k, data in facts.items(table.database) if table.problem(facts, k, data)]:
            findings.append(Finding(f"a {table.holds} was damaged, dropped (key {key[:64]!r})"))
            facts.tables.delete(table.database, key)
    for _, key in lost:
        facts.tables.delete(schema.IDENTITIES, key)
    for key in faces:
        facts.tables.delete(schema.FACES, key)
    yield from findings


def _face(facts: Facts, key: bytes) -> Finding:
    if len(key) != 12:
        return Finding(f"a face was damaged, dropped (key {key[:64]!r})")
    return facts.about("damaged, dropped", *schema.read_face_key(key))


def _damaged_identities(facts: Facts) -> Iterator[tuple[int, bytes]]:
    for key, data in facts.items(schema.IDENTITIES):
        if records.IDENTITIES.problem(facts, key, data):
            yield int.from_bytes(key[:4], "big"), key


def _damaged_faces(facts: Facts, lost: set[int]) -> Iterator[tuple[bytes, None]]:
    """Keys of faces that cannot be used, or whose identity goes."""
    for key, data in facts.items(schema.FACES):
        if int.from_bytes(key[:4], "big") in lost or records.FACES.problem(facts, key, data):
            yield key, None
    for block in columns.vector_blocks(facts):
        for ordinal, _ in columns.damaged(block):
            assert facts.owners[ordinal] != NO_OWNER
            yield schema.face_key(int(facts.owners[ordinal]), ordinal), None
