"""The aggregate: one gallery is a store, a search engine and its identities.

Every read and write of a gallery passes here, so that the three stay in step.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer import commands, enrollment, ranking, validation
from visagedb_indexer.audits import Audits
from visagedb_indexer.bulk import BulkEnrollment
from visagedb_indexer.calibrations import Calibrations
from visagedb_indexer.clusterings import Clusterings
from visagedb_indexer.commands import Command, Effects, Result
from visagedb_indexer.compactions import Compactions
from visagedb_indexer.enrolment_gate import EnrolmentGate
from visagedb_indexer.erasures import Erasures
from visagedb_indexer.errors import IndexerError
from visagedb_indexer.exports import Exports
from visagedb_indexer.filters import parse_filter
from visagedb_indexer.following import follow
from visagedb_indexer.gallery_values import (
    Enrollment,
    EnrollMode,
    GalleryPatch,
    GalleryStats,
    IdentityPatch,
    NewFace,
    NewIdentity,
    SearchAnswer,
    SearchOptions,
)
from visagedb_indexer.identification import Identification, Moment
from visagedb_indexer.imports import Imports
from visagedb_indexer.label_index import LabelIndex
from visagedb_indexer.loose_faces import LooseFaces
from visagedb_indexer.moves import Moves
from visagedb_indexer.operating_points import CardThresholds, Evidence, no_card
from visagedb_indexer.quarantine import Quarantine
from visagedb_indexer.search import SearchEngine, SearchRequest, Snapshot, all_cores_search
from visagedb_indexer.store import (
    Change,
    Counters,
    FaceRecord,
    GalleryRecord,
    GalleryStore,
    GroupCommit,
    IdentityRecord,
    Transaction,
)
from visagedb_indexer.upkeep import Upkeep
from visagedb_indexer.values import FaceScope, ModelIdentity, Vector


class Gallery:
    """An open gallery.

    Args:
        path: The folder of its database.
        create: The settings of a new gallery; None opens an existing one.
        card_thresholds: What model cards say of thresholds.

    Raises:
        StorageCorruptError: The database cannot be read.
        FormatTooNewError: A newer release has written it.
    """

    def __init__(
        self,
        path: Path,
        create: GalleryRecord | None = None,
        card_thresholds: CardThresholds = no_card,
    ) -> None:
        self._card_thresholds = card_thresholds
        self._store = GalleryStore(path, create)
        with self._store.read() as view:
            self._record = view.gallery()
            self._counters = view.counters()
            owners = view.owners()
            numbers = view.numbers(owners)
        self._labels = LabelIndex(numbers, self._store.numbers_with_label)
        dimension = self.model.dimension
        snapshot = Snapshot(path / "codes", self._record.uid, dimension)
        self._engine = SearchEngine(
            dimension, self._store, owners, snapshot, self._record.mate_loss_bound
        )
        self._identification = Identification(
            self._engine,
            self._store,
            lambda: Moment(self._record.fusion, self._counters.generation),
        )
        self.writer = GroupCommit(self._store, self._record.id)
        self.upkeep = Upkeep(self._store, self._engine.all_owners, self._labels)
        self.audits = Audits(self._store, self._run)
        self.clusterings = Clusterings(self._store, self._run)
        self.calibrations = Calibrations(self._store, self._run, self._labels, all_cores_search)
        self._gate = EnrolmentGate(self._store, self)
        self.loose = LooseFaces(
            self._store, self._run, self._engine, self._labels, self.model, self._gate
        )
        self.moves = Moves(self._store, self._run)
        self.bulk = BulkEnrollment(self.writer, self._durable, self.model, self._gate)
        self.quarantine = Quarantine(self._store, self._run, self._record.id)
        self.exports = Exports(self._store, all_cores_search)
        self.imports = Imports(self._store, self._run, self.model, self._gate, all_cores_search)
        self.erasures = Erasures(self._store, self._run, lambda: self._record)
        self.compactions = Compactions(
            self._store, self._run, self._engine, self.erasures, self.clusterings
        )

    def close(self) -> None:
        """Finishes the writes in progress and closes the database."""
        self.compactions.close()
        self.calibrations.close()
        self.writer.close()
        self._engine.close()
        self._store.close()

    # Settings and state

    @property
    def record(self) -> GalleryRecord:
        """The settings."""
        return self._record

    @property
    def model(self) -> ModelIdentity:
        """The model that all its vectors come from."""
        return self._record.model

    @property
    def counters(self) -> Counters:
        """How many identities and faces there are, and how many changes there were."""
        return self._counters

    def stats(self) -> GalleryStats:
        """Counts and sizes."""
        file = self._store.environment
        sizes = (file.used_bytes(), file.file_bytes(), self.quarantine.count(), file.reader_count())
        return GalleryStats(self._counters, self._engine.stats(), *sizes)

    def evidence(self) -> Evidence:
        """What is known of strangers' scores here."""
        faces = self._counters.face_count / max(1, self._counters.identity_count)
        card = self._card_thresholds(self.model)
        return Evidence(self._record.threshold, self.calibrations.latest, card, max(1.0, faces))

    def wait_until_settled(self, timeout: float) -> bool:
        """Waits (seconds) until the search structures have caught up."""
        return self._engine.wait_until_settled(timeout)

    def update(self, patch: GalleryPatch, etag: str = "") -> GalleryRecord:
        """Changes settings.

        Raises:
            EtagMismatchError: The settings changed since the caller read them.
            InvalidArgumentError: A value is out of range, the name too long.
            NotCalibratedError: A check compares faces, and nothing tells when two are one person.
        """
        self._gate.check_patch(patch)
        return self._run(commands.update_gallery(patch, etag))

    # Identities

    def create_identity(
        self, identity_id: str, new: NewIdentity, request_id: str = ""
    ) -> IdentityRecord:
        """Creates an identity without faces; an empty id makes one.

        Raises:
            IdentityExistsError: There is one of this id.
            RequestIdReusedError: The request id belonged to another request.
            InvalidArgumentError: A name, label or the metadata is not valid.
        """
        return self._run(commands.create_identity(identity_id, new, request_id))

    def identity(self, identity_id: str) -> IdentityRecord:
        """An identity.

        Raises:
            IdentityNotFoundError: There is none of this id.
        """
        with self._store.read() as view:
            return view.identity(identity_id)

    def identities(self, text: str = "", after: int = -1, most: int = 100) -> list[IdentityRecord]:
        """Up to `most` identities that pass a filter, with numbers above `after`.

        In the order of creation.

        Raises:
            InvalidFilterError: The filter cannot be read.
        """
        found: list[IdentityRecord] = []
        with self._store.read() as view:
            for number in self._labels.numbers(parse_filter(text), after):
                record = view.identity_by_number(number)
                if record is not None:
                    found.append(record)
                if len(found) == most:
                    break
        return found

    def update_identity(
        self, identity_id: str, patch: IdentityPatch, etag: str = ""
    ) -> IdentityRecord:
        """Changes some fields of an identity.

        Raises:
            IdentityNotFoundError: There is none of this id.
            EtagMismatchError: It changed since the caller read it.
            InvalidArgumentError: A label or the metadata is not valid.
        """
        return self._run(commands.update_identity(identity_id, patch, etag))

    def delete_identity(
        self, identity_id: str, etag: str = "", *, allow_missing: bool = False
    ) -> int:
        """Deletes an identity, as `erasures` does; returns how many faces it had."""
        receipt = self.erasures.delete_identity(identity_id, etag, allow_missing=allow_missing)
        return 0 if receipt is None else receipt.face_count

    # Faces

    def foresee_enrollment(
        self, new: NewFace, mode: EnrollMode = EnrollMode.INSERT
    ) -> Enrollment | None:
        """The answer of `enroll` if it is known without a vector, so that none need be made.

        Raises:
            IndexerError: What `enroll` would raise, as far as it can be known.
        """
        with self._store.read() as view:
            return enrollment.foresee(new, mode, view)

    def enroll(self, new: NewFace, mode: EnrollMode = EnrollMode.INSERT) -> Enrollment:
        """Adds a face; durable and searchable on return.

        The same content for the same identity returns the face that is there.

        Raises:
            IdentityNotFoundError: There is no such identity, and none may be created.
            FaceExistsError: The face id belongs to a face made from something else.
            RequestIdReusedError: The request id belonged to another request.
            InvalidVectorError: The vector cannot be used.
            InvalidArgumentError: A name, label or the metadata is not valid.
            LimitExceededError: The identity has too many faces, or the quarantine is full.
            EnrolmentRejectedError: A check of the gallery rejects the face.
            NotCalibratedError: A check compares faces, and nothing tells when two are one person.
        """
        (answer,) = self.enroll_many([new], mode)
        if isinstance(answer, IndexerError):
            raise answer
        return answer

    def enroll_many(
        self, faces: Sequence[NewFace], mode: EnrollMode = EnrollMode.INSERT
    ) -> list[Enrollment | IndexerError]:
        """Adds many faces in one commit; durable and searchable on return.

        Returns:
            For each face what `enroll` returns or raises. A refused one changes nothing.
        """
        return self._run(enrollment.enroll_many(faces, mode, self.model, self._gate))

    def face(
        self, identity_id: str, face_id: str, *, with_vector: bool = False
    ) -> tuple[FaceRecord, Vector | None]:
        """A face, and its vector if asked for; with an empty identity id a loose face.

        Raises:
            IdentityNotFoundError: There is no such identity.
            FaceNotFoundError: It has no such face.
        """
        with self._store.read() as view:
            face = view.face_by_id(identity_id, face_id)
            return face, view.vectors(np.array([face.ordinal]))[0] if with_vector else None

    def faces(
        self, identity_id: str, after: int = -1, most: int = 100, *, with_vectors: bool = False
    ) -> list[tuple[FaceRecord, Vector | None]]:
        """Up to `most` faces of an identity with ordinals above `after`, oldest first.

        With an empty identity id those of the loose faces.

        Raises:
            IdentityNotFoundError: There is no such identity.
        """
        with self._store.read() as view:
            number = view.owner_number(identity_id)
            found = [face for _, face in zip(range(most), view.faces(number, after), strict=False)]
            if not with_vectors:
                return [(face, None) for face in found]
            ordinals = np.array([face.ordinal for face in found], dtype=np.int64)
            return list(zip(found, view.vectors(ordinals), strict=True))

    def delete_face(self, identity_id: str, face_id: str, *, allow_missing: bool = False) -> None:
        """Deletes a face, as `erasures` does."""
        self.erasures.delete_face(identity_id, face_id, allow_missing=allow_missing)

    # Search

    def identify(self, probe: Vector, options: SearchOptions) -> SearchAnswer:
        """The answer for a single probe; see `identify_many`."""
        return self.identify_many([probe], options)[0]

    def identify_many(self, probes: Sequence[Vector], options: SearchOptions) -> list[SearchAnswer]:
        """For each probe the most similar identities, best first; they share scans.

        Args:
            probes: Each of shape (dimension,); any length but zero.
            options: How to search.

        Raises:
            InvalidVectorError: A probe cannot be used.
            InvalidFilterError: The filter cannot be read.
            InvalidArgumentError: An option is out of range.
            DeadlineExceededError: The deadline passed before the answer was there.
        """
        validation.check_top_k(options.top_k)
        validation.check_cosine(options.min_score, "min_score")
        allowed = self._labels.mask(parse_filter(options.filter))
        requests = [
            SearchRequest(
                vector=validation.unit_vector(probe, self.model.dimension),
                top_k=options.top_k,
                allowed=allowed,
                min_score=options.min_score,
                exact=options.exact,
                deadline=options.deadline,
            )
            for probe in probes
        ]
        return self._identification.run(requests)

    def compare(self, probe: Vector, identity_id: str) -> tuple[float, FaceRecord]:
        """The score of a probe against one identity, fused as the gallery says, and its best face.

        Raises:
            IdentityNotFoundError: There is no such identity.
            FaceNotFoundError: It has no faces.
            InvalidVectorError: The probe cannot be used.
        """
        unit = validation.unit_vector(probe, self.model.dimension)
        with self._store.read() as view:
            return ranking.compare(view, unit, identity_id, self._record.fusion)

    def ordinals(self, text: str = "", scope: FaceScope = FaceScope.ALL) -> NDArray[np.int64]:
        """Ordinals of the faces in scope; with a filter, of identities that pass it; ascending.

        Raises:
            InvalidFilterError: The filter cannot be read.
        """
        return self._engine.live_ordinals(self._labels.mask(parse_filter(text)), scope)

    def owners(self, ordinals: NDArray[np.int64]) -> NDArray[np.int64]:
        """The identity number of each face; negative for those deleted or loose."""
        return self._engine.owners(ordinals)

    def vectors(self, ordinals: NDArray[np.int64]) -> tuple[NDArray[np.int64], Vector]:
        """Those of the ordinals whose faces still exist, and their vectors."""
        return self._store.vectors(ordinals)

    def locate(self, ordinals: Sequence[int]) -> Iterator[tuple[int, str, FaceRecord]]:
        """Ordinal, identity id (empty for none) and record of those faces that still exist."""
        with self._store.read() as view:
            for ordinal in ordinals:
                if found := view.locate(ordinal):
                    yield ordinal, *found

    def _run(self, command: Command[Result]) -> Result:
        return self.writer.run(self._durable(command))

    def _durable(self, command: Command[Result]) -> Callable[[Transaction], Change[Result]]:
        def durable(txn: Transaction) -> Change[Result]:
            effects = command(txn)
            counters = txn.counters()
            return Change(effects.result, lambda: self._follow(effects, counters))

        return durable

    def _follow(self, effects: Effects[Result], counters: Counters) -> None:
        """Brings memory up to a durable change, before its caller hears of it."""
        if effects.settings is not None:
            self._record = effects.settings
        follow(effects, self._engine, self._labels)
        self._counters = counters
        self.calibrations.notice(counters, self._record.fusion)
