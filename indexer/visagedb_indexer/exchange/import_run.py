"""Running an import: from its source, through the workers, into the gallery, commit by commit.

Images are worked on many at a time and enrolled in the order of the source, so that a position
says all that is done. What is wrong with one entry is a failure of that entry; what is wrong
with the source ends the import; and what will pass, such as a full disk, is waited for.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from visagedb_indexer import limits
from visagedb_indexer.clock import now_us
from visagedb_indexer.errors import (
    FailedPreconditionError,
    ImageError,
    InvalidSourceError,
    OverloadedError,
    StorageFullError,
    UnavailableError,
)
from visagedb_indexer.exchange.entries import Entry, Source, VectorRow
from visagedb_indexer.exchange.pace import Pace, PaceMeter
from visagedb_indexer.exchange.sources import ImportPlan, has_images
from visagedb_indexer.failpoints import reached
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import NewFace
from visagedb_indexer.loose_faces import NewLooseFaces
from visagedb_indexer.store import ImportRecord
from visagedb_indexer.values import ExtractedFace, Extraction, SourceFormat

_LOOK_SECONDS: Final = 0.2
"""Between looks while an import is held, or waits for an image."""
_PASSING: Final = (OverloadedError, UnavailableError)


class ImageReader(Protocol):
    """What finds and embeds the faces of images, after all interactive work."""

    def submit(self, image: bytes) -> "Future[Extraction]":
        """Asks for the faces of an image."""
        ...

    def chosen(self, found: Extraction) -> tuple[ExtractedFace, ...]:
        """The faces that are meant, with vectors.

        Raises:
            ImageError: There is none, or there are several where one is expected.
        """
        ...


class Report(Protocol):
    """Takes note of how an import stands."""

    def __call__(self, record: ImportRecord, pace: Pace, stage: str, /) -> None:
        """Called after every commit and while the import waits."""
        ...


@dataclass(slots=True, eq=False)
class _Pending:
    """An entry on its way; the future is that of its image."""

    entry: Entry
    faces: "Future[Extraction] | None" = None


@dataclass(slots=True)
class ImportRun:
    """One run of an import: from its beginning, or from where a stop of the server cut it short.

    Attributes:
        gallery: Whose import it is.
        import_id: Its id.
        plan: What is asked for.
        kind: What the source is.
        source: The source.
        reader: What reads images; None for a source of vectors.
        report: Takes note of how it stands.
        check: Raises when the import was cancelled or the server stops.
    """

    gallery: Gallery
    import_id: str
    plan: ImportPlan
    kind: SourceFormat
    source: Source
    reader: ImageReader | None
    report: Report
    check: Callable[[], None]
    _record: ImportRecord = field(init=False)
    _meter: PaceMeter = field(default_factory=PaceMeter, init=False)
    _pending: deque[_Pending] = field(default_factory=deque, init=False)
    _pending_bytes: int = field(default=0, init=False)
    _ready: list[Entry] = field(default_factory=list, init=False)
    _ready_bytes: int = field(default=0, init=False)
    _committed: float = field(default=0.0, init=False)

    def run(self) -> ImportRecord:
        """Imports all that is left.

        Returns:
            The record of the import, which has not ended for it yet.

        Raises:
            InvalidSourceError: The source cannot be read to its end, or has changed since the
                import began.
            FailedPreconditionError: It was begun too often without any progress, or the gallery
                is closed.
            CancelledError: By `check`.
        """
        self._begin()
        self._committed = time.monotonic()
        broken: InvalidSourceError | None = None
        try:
            for entry in self._entries():
                self._take(entry)
                while self._pending and (self._full() or _done(self._pending[0])):
                    self._finish(self._pending.popleft())
        except InvalidSourceError as error:
            broken = error
        # What was read before a source broke is enrolled all the same.
        while self._pending:
            self._finish(self._pending.popleft())
        self._commit_ready()
        if broken is not None:
            raise broken
        return self._record

    def _begin(self) -> None:
        fresh = ImportRecord(
            id=self.import_id,
            create_time_us=now_us(),
            path=self.plan.path,
            format=self.kind,
            source_mark=self.source.mark,
        )
        reached("import.before_begin")
        self._record = self.gallery.imports.begin(fresh)
        reached("import.after_begin")
        if self._record.source_mark != self.source.mark:
            raise InvalidSourceError(
                "the source has changed since the import began; import it again"
            )
        if self._record.resumptions > limits.IMPORT_RESUMPTIONS_MAX:
            raise FailedPreconditionError(
                f"the server ended {limits.IMPORT_RESUMPTIONS_MAX} times in this import without "
                f"any progress; it stands at {self._record.position or 'its beginning'}"
            )
        if not self._record.entry_count:
            self._tell("counting")
            count = self.source.count()
            self._record = self.gallery.imports.change(
                self.import_id, lambda record: replace(record, entry_count=count)
            )
        self._tell("importing")

    def _entries(self) -> Iterator[Entry]:
        for entry in self.source.entries(self._record.position):
            self.check()
            yield entry

    def _take(self, entry: Entry) -> None:
        pending = _Pending(entry)
        if entry.image is not None:
            # What is there already need not be looked at again.
            known = self.gallery.imports.foresee(self._record, entry.content, self.plan.mode)
            if known is not None:
                pending.entry = replace(entry, content=known, image=None)
            else:
                assert self.reader is not None
                pending.faces = self.reader.submit(entry.image)
        self._pending.append(pending)
        self._pending_bytes += _image_bytes(pending.entry)

    def _full(self) -> bool:
        return (
            len(self._pending) >= limits.IMPORT_IMAGES_IN_FLIGHT
            or self._pending_bytes >= limits.IMPORT_IMAGE_BYTES_IN_FLIGHT
        )

    def _finish(self, pending: _Pending) -> None:
        self._pending_bytes -= _image_bytes(pending.entry)
        entry = self._finished(pending)
        # Only now: while the image was waited for, what was ready may have been committed.
        self._ready.append(entry)
        self._ready_bytes += _vector_bytes(entry)
        if self._due():
            self._commit()

    def _finished(self, pending: _Pending) -> Entry:
        """The entry with the vectors of its image, or with why there are none."""
        entry = pending.entry
        while pending.faces is not None:
            try:
                found = self._result(pending.faces)
                assert self.reader is not None
                return _with_faces(entry, self.reader.chosen(found))
            except _PASSING as error:
                # What is done meanwhile is not held back by what has to wait.
                self._commit_ready()
                self._wait(f"waiting: {error.message}")
                assert self.reader is not None
                pending.faces = self.reader.submit(entry.image or b"")
            except ImageError as error:
                return replace(entry, content=error, image=None)
        return entry if entry.image is None else replace(entry, image=None)

    def _result(self, faces: "Future[Extraction]") -> Extraction:
        while not wait([faces], _LOOK_SECONDS).done:
            self.check()
            if self._due():
                self._commit()
        return faces.result()

    def _due(self) -> bool:
        return bool(self._ready) and (
            len(self._ready) >= limits.IMPORT_ENTRIES_PER_COMMIT
            or self._ready_bytes >= limits.IMPORT_BYTES_PER_COMMIT
            or (
                has_images(self.kind)
                and time.monotonic() - self._committed >= limits.IMPORT_COMMIT_SECONDS
            )
        )

    def _commit_ready(self) -> None:
        if self._ready:
            self._commit()

    def _commit(self) -> None:
        entries, self._ready, self._ready_bytes = self._ready, [], 0
        self._hold()
        self.gallery.imports.give_way(self.check)
        while True:
            self.check()
            try:
                self._record = self.gallery.imports.enroll(self.import_id, entries, self.plan.mode)
                break
            except (StorageFullError, UnavailableError) as error:
                self._wait(f"waiting: {error.message}")
        self._committed = time.monotonic()
        self._tell("importing")

    def _hold(self) -> None:
        """Waits while the import is held."""
        while self.gallery.imports.get(self.import_id).paused:
            self._meter.pause()
            self._tell("paused")
            self.check()
            time.sleep(_LOOK_SECONDS)

    def _wait(self, stage: str) -> None:
        self._meter.pause()
        self._tell(stage)
        until = time.monotonic() + limits.IMPORT_RETRY_SECONDS
        while time.monotonic() < until:
            self.check()
            time.sleep(_LOOK_SECONDS)

    def _tell(self, stage: str) -> None:
        record = self._record
        progress = self.source.progress(record.position)
        if progress is None:
            progress = record.done_count / max(1, record.entry_count)
        pace = self._meter.measure(record.done_count, min(1.0, progress))
        self.report(record, pace, stage)


def _done(pending: _Pending) -> bool:
    return pending.faces is None or pending.faces.done()


def _image_bytes(entry: Entry) -> int:
    return 0 if entry.image is None else len(entry.image)


def _vector_bytes(entry: Entry) -> int:
    content = entry.content
    return content.vector.nbytes if isinstance(content, VectorRow | NewFace) else 0


def _with_faces(entry: Entry, faces: tuple[ExtractedFace, ...]) -> Entry:
    content = entry.content
    vectors = [face.vector for face in faces if face.vector is not None]
    if isinstance(content, NewLooseFaces):
        enrolled = replace(content, vectors=vectors, extracted=faces)
        return replace(entry, content=enrolled, image=None)
    assert isinstance(content, NewFace)
    ((face, vector),) = zip(faces, vectors, strict=True)
    return replace(entry, content=replace(content, vector=vector, extracted=face), image=None)
