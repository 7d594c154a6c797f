"""What a gallery's database still says of people who are erased, taken out before a compaction."""

from collections.abc import Callable, Container
from typing import Any, Final

from visagedb_indexer.clock import now_us
from visagedb_indexer.commands import Command, Effects, RunCommand
from visagedb_indexer.store import GalleryStore, Reader, Transaction

_ANSWERS_PER_COMMIT: Final = 2048


def tidy(store: GalleryStore, run: RunCommand, check: Callable[[], None]) -> None:
    """Takes out kept answers, pairs of calibrations and failures of imports that name the erased.

    Args:
        store: The gallery's database.
        run: The gallery's writer.
        check: Called between commits; raises to stop.
    """
    after: bytes | None = b""
    while after is not None:
        check()
        after = run(_tidy_answers(after))
    with store.read() as view:
        gone = {one.identity_id for one in view.erasures.pending() if one.identity_id}
        gone = {identity_id for identity_id in gone if view.find_identity(identity_id) is None}
    if gone:
        check()
        run(_forget_people(gone))


def _tidy_answers(after: bytes) -> Command[bytes | None]:
    def command(txn: Transaction) -> Effects[bytes | None]:
        def speaks_of_erased(answer: Any) -> bool:
            return _speaks_of_erased(answer, txn)

        return Effects(txn.requests.tidy(after, _ANSWERS_PER_COMMIT, now_us(), speaks_of_erased))

    return command


def _forget_people(gone: Container[str]) -> Command[None]:
    def command(txn: Transaction) -> Effects[None]:
        txn.calibrations.forget_people(lambda identity_id: identity_id not in gone)
        txn.imports.forget_people(gone)
        return Effects(None)

    return command


def _speaks_of_erased(answer: Any, view: Reader) -> bool:
    """Whether a kept answer, in plain maps and lists, holds a face or identity that is erased."""
    if isinstance(answer, list):
        return any(_speaks_of_erased(one, view) for one in answer)
    if not isinstance(answer, dict):
        return False
    return (
        _names_erased_face(answer, view)
        or _names_erased_identity(answer, view)
        or _names_erased_change(answer, view)
        or any(_speaks_of_erased(one, view) for one in answer.values())
    )


def _names_erased_face(answer: dict[str, Any], view: Reader) -> bool:
    ordinal = answer.get("ordinal")
    return isinstance(ordinal, int) and view.owner(ordinal) < 0


def _names_erased_identity(answer: dict[str, Any], view: Reader) -> bool:
    number = answer.get("number")
    if not isinstance(number, int) or "uid" not in answer:
        return False
    # An identity that was merged is part of another one, and its change can be undone.
    return view.identity_by_number(number) is None and not view.lineage.numbers_of(number)


def _names_erased_change(answer: dict[str, Any], view: Reader) -> bool:
    change = answer.get("lineage")
    return isinstance(change, int) and change >= 0 and view.lineage.find(change) is None
