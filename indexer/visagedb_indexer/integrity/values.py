"""What a check of a database finds."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from visagedb_indexer import limits

Progress: TypeAlias = Callable[[float, str], None]
"""Takes what is done, 0 to 1, and what is being looked at; raises to stop the check."""


class Kind(StrEnum):
    """What can be done about an invariant that is broken.

    Attributes:
        DERIVED: A repair makes it anew from what is primary.
        PRIMARY: Nothing else holds it: restore a backup, or drop what is damaged.
    """

    DERIVED = "derived"
    PRIMARY = "primary"


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where an invariant does not hold.

    Attributes:
        message: What is wrong there.
        identity: Id of the identity it concerns; empty for none, or if it cannot be known.
        face: Id of the face; likewise.
        ordinal: Of the face; -1 for none.
    """

    message: str
    identity: str = ""
    face: str = ""
    ordinal: int = -1


@dataclass(slots=True)
class Tally:
    """Findings as they come: all are counted, the first are kept."""

    count: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, make: Callable[..., Finding], *arguments: object) -> None:
        """Counts a finding, and makes it if it is to be kept: naming a face costs look-ups."""
        self.count += 1
        if len(self.findings) < limits.INTEGRITY_FINDINGS_MAX:
            self.findings.append(make(*arguments))

    @classmethod
    def of(cls, found: Iterable[Finding]) -> "Tally":
        """All of some findings."""
        tally = cls()
        for finding in found:
            tally.add(lambda one=finding: one)
        return tally


@dataclass(frozen=True, slots=True)
class Result:
    """One invariant and how it holds.

    Attributes:
        invariant: Its name.
        statement: What should be true.
        kind: What can be done if it is not.
        broken_count: Places where it does not hold.
        findings: The first of them, at most `limits.INTEGRITY_FINDINGS_MAX`.
    """

    invariant: str
    statement: str
    kind: Kind
    broken_count: int = 0
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a check of one gallery.

    Attributes:
        gallery: Its id; empty if its settings cannot be read.
        results: Each invariant that was checked, in the order of checking.
        seconds: How long it took.
        repairs: What a repair has done, as sentences.
        dropped: Identities and faces that were dropped because they were damaged.
    """

    gallery: str
    results: tuple[Result, ...]
    seconds: float = 0.0
    repairs: tuple[str, ...] = ()
    dropped: tuple[Finding, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether every invariant holds."""
        return not any(result.broken_count for result in self.results)

    @property
    def broken(self) -> tuple[Result, ...]:
        """The invariants that do not hold."""
        return tuple(result for result in self.results if result.broken_count)
