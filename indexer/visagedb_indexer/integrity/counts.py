"""Counts that follow from the records: the gallery's, and those of each identity."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from visagedb_indexer.integrity.facts import NO_OWNER, Facts
from visagedb_indexer.integrity.values import Finding
from visagedb_indexer.store import (
    LOOSE_NUMBER,
    AuditRecord,
    ClusteringRecord,
    Counters,
    IdentityRecord,
    LineageRecord,
    QuarantineRecord,
    schema,
)
from visagedb_indexer.store.records import encode


def check_face_counts(facts: Facts) -> Iterator[Finding]:
    """Every identity knows how many faces it has."""
    for record, count in _miscounted(facts):
        message = f"an identity counts {record.face_count} faces and has {count}"
        yield Finding(message, record.id)


def repair_face_counts(facts: Facts) -> int:
    """Counts the faces of every identity anew; how many were wrong."""
    wrong = list(_miscounted(facts))
    for record, count in wrong:
        key = schema.u32(record.number)
        facts.tables.put(schema.IDENTITIES, key, encode(replace(record, face_count=count)))
    return len(wrong)


def _miscounted(facts: Facts) -> Iterator[tuple[IdentityRecord, int]]:
    owners = facts.owners
    owned = owners[(owners != NO_OWNER) & (owners != LOOSE_NUMBER)]
    numbers, counts = np.unique(owned, return_counts=True)
    count_of = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    for record in facts.identities():
        count = count_of.get(record.number, 0)
        if record.face_count != count:
            yield record, count


def check_counters(facts: Facts) -> Iterator[Finding]:
    """The gallery's counters are those of what is in it."""
    counters = facts.counters
    if counters is None:
        yield Finding("the gallery's counters cannot be read")
        return
    exact, least = _exact(facts), _least(facts)
    for name, count in exact.items():
        if getattr(counters, name) != count:
            yield Finding(f"the counter {name} is {getattr(counters, name)}, not {count}")
    for name, count in least.items():
        if getattr(counters, name) < count:
            yield Finding(f"the counter {name} is {getattr(counters, name)}, under {count}")


def repair_counters(facts: Facts) -> int:
    """Counts anew; numbers that may have been given are not given again."""
    known = facts.counters
    counters = known or Counters()
    least = _least(facts)
    if known is None:
        # How many were deleted at the end is not known: whole blocks are passed over.
        least["next_ordinal"] = facts.capacity
    raised = {name: max(count, getattr(counters, name)) for name, count in least.items()}
    repaired = replace(counters, **_exact(facts), **raised)
    if repaired == known:
        return 0
    facts.tables.put(schema.META, schema.COUNTERS_KEY, encode(repaired))
    return 1


def _exact(facts: Facts) -> dict[str, int]:
    owners = facts.owners
    return {
        "identity_count": len(facts.numbers),
        "face_count": int(np.count_nonzero(owners != NO_OWNER)),
        "loose_face_count": int(np.count_nonzero(owners == LOOSE_NUMBER)),
    }


def _least(facts: Facts) -> dict[str, int]:
    """Numbers that are in use, plus one."""
    ordinal = int(np.flatnonzero(facts.owners != NO_OWNER).max(initial=-1)) + 1
    numbers = [int(facts.numbers.max(initial=-1))]
    lineage = [-1]
    for _, entry in facts.readable(schema.LINEAGE, LineageRecord):
        lineage.append(entry.number)
        touched = [entry.to_number, *(source.number for source in entry.sources)]
        numbers += [number for number in touched if number != LOOSE_NUMBER]
    generations = [0]
    for _, clustering in facts.readable(schema.CLUSTERINGS, ClusteringRecord):
        generations.append(clustering.generation)
    for _, audit in facts.readable(schema.AUDITS, AuditRecord):
        generations.append(audit.generation)
    quarantined = facts.readable(schema.QUARANTINE, QuarantineRecord)
    return {
        "next_ordinal": ordinal,
        "next_number": max(numbers) + 1,
        "next_lineage": max(lineage) + 1,
        "next_quarantine": 1 + max((record.number for _, record in quarantined), default=-1),
        "generation": max(generations),
    }
