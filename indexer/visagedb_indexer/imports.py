"""The imports of a gallery: entries enrolled together with the checkpoint that speaks of them."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from visagedb_indexer import limits
from visagedb_indexer.clock import now_us
from visagedb_indexer.commands import Effects, RunCommand
from visagedb_indexer.enrollment import foresee
from visagedb_indexer.enrolment_gate import EnrolmentGate
from visagedb_indexer.errors import IndexerError, StorageCorruptError
from visagedb_indexer.exchange.entries import (
    Answer,
    BareIdentity,
    Content,
    Entry,
    Outcome,
    VectorRow,
)
from visagedb_indexer.exchange.steps import Done, steps_of
from visagedb_indexer.failpoints import reached
from visagedb_indexer.gallery_values import EnrollMode, EnrollOutcome, NewFace
from visagedb_indexer.loose_faces import NewLooseFaces, recall_loose
from visagedb_indexer.store import (
    GalleryStore,
    ImportFailure,
    ImportRecord,
    Reader,
    Transaction,
)
from visagedb_indexer.values import ImportState, ModelIdentity

_PAUSE_SECONDS: Final = 0.02


class Imports:
    """The imports of one gallery.

    Args:
        store: The gallery's database.
        run: The gallery's writer.
        model: That all vectors come from.
        gate: What has to pass before a face is enrolled.
        busy: Whether searches take all cores at this moment.
    """

    def __init__(
        self,
        store: GalleryStore,
        run: RunCommand,
        model: ModelIdentity,
        gate: EnrolmentGate,
        busy: Callable[[], bool],
    ) -> None:
        self._store = store
        self._run = run
        self._model = model
        self._gate = gate
        self._busy = busy

    def get(self, import_id: str) -> ImportRecord:
        """An import.

        Raises:
            ImportNotFoundError: There is none of this id.
        """
        with self._store.read() as view:
            return view.imports.get(import_id)

    def find(self, import_id: str) -> ImportRecord | None:
        """An import, or None."""
        with self._store.read() as view:
            return view.imports.find(import_id)

    def all(self) -> list[ImportRecord]:
        """All imports, oldest first."""
        with self._store.read() as view:
            return view.imports.all()

    def failures(
        self, import_id: str, start: int, most: int, reason: str = ""
    ) -> list[tuple[int, ImportFailure]]:
        """Number and record of up to `most` failures from a number on, for one reason or all.

        Raises:
            ImportNotFoundError: There is no such import.
        """
        found: list[tuple[int, ImportFailure]] = []
        with self._store.read() as view:
            view.imports.get(import_id)
            for number, failure in view.imports.failures(import_id, start):
                if reason in {"", failure.reason}:
                    found.append((number, failure))
                    if len(found) == most:
                        break
        return found

    def begin(self, record: ImportRecord) -> ImportRecord:
        """Keeps a new import, or takes up one that a stop of the server cut short."""

        def command(txn: Transaction) -> Effects[ImportRecord]:
            known = txn.imports.find(record.id)
            if known is not None:
                known = replace(known, resumptions=known.resumptions + 1)
                return Effects(txn.imports.put(known))
            txn.imports.forget(limits.IMPORTS_KEPT_MAX - 1)
            first = replace(record, first_number=txn.counters().next_number)
            return Effects(txn.imports.put(first))

        return self._run(command)

    def change(
        self, import_id: str, change: Callable[[ImportRecord], ImportRecord]
    ) -> ImportRecord:
        """Changes an import's record, for example to hold it.

        Raises:
            ImportNotFoundError: There is no such import.
        """

        def command(txn: Transaction) -> Effects[ImportRecord]:
            return Effects(txn.imports.put(change(txn.imports.get(import_id))))

        return self._run(command)

    def end(
        self, import_id: str, state: ImportState, error: IndexerError | None = None
    ) -> ImportRecord:
        """Notes how an import has ended."""
        reached("import.before_end")
        ended = self.change(
            import_id,
            lambda record: replace(
                record,
                state=state,
                paused=False,
                end_time_us=now_us(),
                error_reason="" if error is None else error.reason,
                error_message="" if error is None else _shortened(error.message),
            ),
        )
        reached("import.after_end")
        return ended

    def enroll(self, import_id: str, entries: Sequence[Entry], mode: EnrollMode) -> ImportRecord:
        """Enrols entries and moves the import's position behind them, in one commit.

        Args:
            import_id: Of the import.
            entries: In the order of the source.
            mode: What is done with what is there already. `SKIP_EXISTING` skips faces of
                identities that were there before the import began.

        Raises:
            StorageFullError: The disk is full; nothing was changed.
        """
        contents: list[Content] = [entry.content for entry in entries]
        if mode is EnrollMode.SKIP_EXISTING:
            contents, mode = self._without_existing(import_id, contents), EnrollMode.INSERT
        steps = steps_of(contents, mode, self._model, self._gate)

        def command(txn: Transaction) -> Effects[ImportRecord]:
            done = Done()
            for step in steps:
                done.run(step, txn)
            reached("import.before_checkpoint")
            record = _advanced(txn.imports.get(import_id), entries, done)
            record = txn.imports.put(record, _failures(entries, done.answers))
            reached("import.after_checkpoint")
            return done.effects(record)

        reached("import.before_commit")
        record = self._run(command)
        reached("import.after_commit")
        return record

    def foresee(self, record: ImportRecord, content: Content, mode: EnrollMode) -> Answer | None:
        """What will become of a face whose image need not be embedded to know; else None."""
        try:
            with self._store.read() as view:
                if isinstance(content, NewLooseFaces):
                    known = recall_loose(content, view)
                    return None if known is None else Outcome(known.outcome)
                if not isinstance(content, NewFace):
                    return None
                if mode is EnrollMode.SKIP_EXISTING:
                    if _was_there(view, content.identity_id, record.first_number):
                        return Outcome(EnrollOutcome.SKIPPED)
                    mode = EnrollMode.INSERT
                answer = foresee(content, mode, view)
                return None if answer is None else Outcome(answer.outcome)
        except StorageCorruptError:
            raise
        except IndexerError as error:
            return error

    def give_way(self, check: Callable[[], None]) -> None:
        """Waits a little while searches take all cores: they go first."""
        until = time.monotonic() + limits.IMPORT_YIELD_SECONDS_MAX
        while self._busy() and time.monotonic() < until:
            check()
            time.sleep(_PAUSE_SECONDS)

    def _without_existing(self, import_id: str, contents: Iterable[Content]) -> list[Content]:
        with self._store.read() as view:
            first_number = view.imports.get(import_id).first_number
            return [
                Outcome(EnrollOutcome.SKIPPED)
                if isinstance(content, VectorRow | NewFace | BareIdentity)
                and _was_there(view, content.identity_id, first_number)
                else content
                for content in contents
            ]


def _was_there(view: Reader, identity_id: str, first_number: int) -> bool:
    """Whether an identity is older than an import: numbers count up and never come again."""
    owner = view.find_identity(identity_id)
    return owner is not None and owner.number < first_number


def _advanced(record: ImportRecord, entries: Sequence[Entry], now_done: Done) -> ImportRecord:
    answers = now_done.answers
    done = [answer for answer in answers if isinstance(answer, Outcome)]
    failed = [answer for answer in answers if isinstance(answer, IndexerError)]
    outcomes = Counter(record.outcomes) + Counter(str(answer.outcome) for answer in done)
    return replace(
        record,
        position=entries[-1].after if entries else record.position,
        done_count=record.done_count + len(done) + len(failed),
        ignored_count=record.ignored_count + len(answers) - len(done) - len(failed),
        outcomes=dict(outcomes),
        identity_created_count=record.identity_created_count + now_done.created_count,
        failures=dict(Counter(record.failures) + Counter(error.reason for error in failed)),
        resumptions=0,
    )


def _failures(entries: Sequence[Entry], answers: Sequence[Answer]) -> list[ImportFailure]:
    return [
        ImportFailure(
            _shortened(entry.name),
            _shortened(entry.identity_id),
            answer.reason,
            _shortened(answer.message),
        )
        for entry, answer in zip(entries, answers, strict=True)
        if isinstance(answer, IndexerError)
    ]


def _shortened(text: str) -> str:
    """Text of limited length in which nothing can move a terminal's cursor."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    most = limits.IMPORT_FAILURE_TEXT_LENGTH_MAX
    return shown if len(shown) <= most else shown[: most - 3] + "..."
