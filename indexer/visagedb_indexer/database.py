"""The database: one data directory with its catalogue and its open galleries."""

import hashlib
import logging
import shutil
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from visagedb_indexer import limits, validation
from visagedb_indexer.clock import now_us
from visagedb_indexer.enrolment_gate import check_thresholds
from visagedb_indexer.errors import (
    EtagMismatchError,
    GalleryExistsError,
    GalleryNotFoundError,
    IndexerError,
    InvalidArgumentError,
    LimitExceededError,
    ModelMismatchError,
    UnavailableError,
)
from visagedb_indexer.failpoints import reached
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.integrity import Progress, Report, repair_store
from visagedb_indexer.operating_points import CardThresholds, Evidence, no_card
from visagedb_indexer.store import (
    Catalogue,
    DataDirectory,
    ErasureRecord,
    GalleryRecord,
    GalleryStore,
    rename_gallery,
)
from visagedb_indexer.values import ModelIdentity

_LOG = logging.getLogger(__name__)


class Database:
    """All galleries of one data directory, which it owns until closed.

    Args:
        path: The data directory; made if missing.
        card_thresholds: What model cards say of thresholds.

    Raises:
        DataDirectoryLockedError: Another process owns it.
        StorageCorruptError: The catalogue cannot be read. A gallery that cannot be read does
            not keep the others from being used; see `damaged`.
        FormatTooNewError: A newer release has written the catalogue.
    """

    def __init__(self, path: Path, card_thresholds: CardThresholds = no_card) -> None:
        self._card_thresholds = card_thresholds
        self._directory = DataDirectory(path)
        self._galleries: dict[str, Gallery] = {}
        self._repairing: set[str] = set()
        self._damaged: dict[str, IndexerError] = {}
        """Why those galleries cannot be used that are in the catalogue and not open."""
        self._lock = threading.RLock()
        try:
            self.catalogue = Catalogue(self._directory.catalogue)
            known = self.catalogue.galleries()
            # Where a folder is missing, the catalogue may be wrong about the others too.
            if all(self._directory.gallery(uid).is_dir() for uid in known.values()):
                for orphan in self._directory.remove_orphans(set(known.values())):
                    _LOG.info("removed the unfinished gallery folder %s", orphan)
                self.catalogue.complete_erasures(now_us())
            for gallery_id, uid in known.items():
                self._open(gallery_id, uid)
        except BaseException:
            self.close()
            raise

    def _open(self, gallery_id: str, uid: str) -> None:
        try:
            gallery = Gallery(self._directory.gallery(uid), card_thresholds=self._card_thresholds)
        except IndexerError as error:
            _LOG.error("gallery %s cannot be opened: %s", gallery_id, error.message)
            self._damaged[gallery_id] = error
        else:
            self._damaged.pop(gallery_id, None)
            self._galleries[gallery_id] = gallery

    def close(self) -> None:
        """Closes every gallery and gives the directory up."""
        with self._lock:
            for gallery in self._galleries.values():
                gallery.close()
            self._galleries.clear()
            if hasattr(self, "catalogue"):
                self.catalogue.close()
            self._directory.close()

    def create_gallery(self, new: GalleryRecord, request_id: str = "") -> Gallery:
        """Creates a gallery; its uid and times are given here.

        Raises:
            GalleryExistsError: There is one of this id.
            InvalidArgumentError: The id, the name or the model is not valid.
            LimitExceededError: There are too many galleries.
            NotCalibratedError: A check compares faces, and nothing tells when two are one person.
            RequestIdReusedError: The request id belonged to another request.
        """
        _check(new)
        evidence = Evidence(new.threshold, card=self._card_thresholds(new.model))
        check_thresholds(new.gate, evidence)
        validation.check_request_id(request_id)
        fingerprint = hashlib.sha256(msgspec.msgpack.encode(["create_gallery", new])).digest()
        with self._lock:
            known = self.catalogue.recall(request_id, fingerprint, str)
            if known is not None and (gallery := self._galleries.get(new.id)) is not None:
                return gallery
            if new.id in self._galleries or new.id in self._damaged:
                raise GalleryExistsError(
                    f"there is a gallery {new.id!r} already", {"gallery": new.id}
                )
            if len(self._galleries) >= limits.GALLERIES_MAX:
                raise LimitExceededError(f"there are {limits.GALLERIES_MAX} galleries, the most")
            now = now_us()
            record = replace(new, uid=uuid.uuid4().hex, create_time_us=now, update_time_us=now)
            path = self._directory.gallery(record.uid)
            reached("gallery.before_folder")
            try:
                gallery = Gallery(path, record, self._card_thresholds)
                reached("gallery.after_folder")
            except BaseException:
                shutil.rmtree(path, ignore_errors=True)
                raise
            # The gallery exists from here on; before, a crash leaves an orphaned folder.
            self.catalogue.add_gallery(
                record.id, record.uid, request_id=request_id, fingerprint=fingerprint, now_us=now
            )
            reached("gallery.after_creation")
            self._galleries[record.id] = gallery
            return gallery

    def erasure(self, gallery_id: str, erasure_id: str) -> ErasureRecord:
        """The receipt of an erasure in a gallery, which may be deleted since.

        Raises:
            NotFoundError: There is none.
        """
        record = self.catalogue.erasure(erasure_id)
        if record is not None and record.gallery_id == gallery_id:
            return record
        return self.gallery(gallery_id).erasures.get(erasure_id)

    def erasures(self, gallery_id: str, before: str = "", most: int = 100) -> list[ErasureRecord]:
        """Up to `most` receipts of a gallery with ids below `before`, newest first.

        With those of earlier galleries of this id.

        Raises:
            GalleryNotFoundError: There is none of this id, and there never was.
        """
        found = self.catalogue.erasures(gallery_id, before, most)
        if gallery_id in self._galleries or not self.catalogue.erasures(gallery_id, "", 1):
            found += self.gallery(gallery_id).erasures.newest(before, most)
        return sorted(found, key=lambda one: one.id, reverse=True)[:most]

    def gallery(self, gallery_id: str) -> Gallery:
        """An open gallery.

        Raises:
            GalleryNotFoundError: There is none of this id.
            StorageCorruptError: It is damaged; likewise whatever else keeps it from being used.
        """
        gallery = self._galleries.get(gallery_id)
        if gallery is None:
            problem = self._damaged.get(gallery_id)
            if problem is not None:
                raise type(problem)(
                    f"gallery {gallery_id!r} cannot be used: {problem.message}",
                    {"gallery": gallery_id},
                )
            raise GalleryNotFoundError(
                f"there is no gallery {gallery_id[:200]!r}", {"gallery": gallery_id[:200]}
            )
        return gallery

    def galleries(self) -> list[Gallery]:
        """All galleries by id."""
        with self._lock:
            return [self._galleries[gallery_id] for gallery_id in sorted(self._galleries)]

    def other_files(self) -> list[tuple[Path, str]]:
        """Files of the data directory beside the databases; see `DataDirectory.other_files`."""
        return self._directory.other_files()

    def damaged(self) -> dict[str, IndexerError]:
        """By id, why galleries cannot be used that are there and not open."""
        with self._lock:
            return dict(sorted(self._damaged.items()))

    def repair_gallery(
        self, gallery_id: str, progress: Progress, *, drop_damaged: bool = False
    ) -> Report:
        """Makes anew what is derived in a gallery, which is not available meanwhile.

        Raises:
            GalleryNotFoundError: There is none of this id.
            StorageCorruptError: It cannot be repaired; restore a backup.
            UnavailableError: It is being repaired already.
        """
        with self._lock:
            uid = self._uid(gallery_id)
            if gallery_id in self._repairing:
                raise self._damaged[gallery_id]
            self._repairing.add(gallery_id)
            gallery = self._galleries.pop(gallery_id, None)
            self._damaged[gallery_id] = UnavailableError("it is being repaired; try again later")
        try:
            if gallery is not None:
                gallery.close()
            store = GalleryStore(self._directory.gallery(uid))
            try:
                return repair_store(store, drop_damaged=drop_damaged, progress=progress)
            finally:
                store.close()
        finally:
            with self._lock:
                self._repairing.remove(gallery_id)
                self._open(gallery_id, uid)

    def _uid(self, gallery_id: str) -> str:
        uid = self.catalogue.galleries().get(gallery_id)
        if uid is None:
            raise GalleryNotFoundError(
                f"there is no gallery {gallery_id[:200]!r}", {"gallery": gallery_id[:200]}
            )
        return uid

    def adopt(
        self, gallery_id: str, fill: Callable[[Path], ModelIdentity], *, replace_existing: bool
    ) -> tuple[Gallery, bool]:
        """Makes a gallery of a database that somebody puts into a new folder.

        Args:
            gallery_id: Its id.
            fill: Puts the database there and says which model it is of.
            replace_existing: Let it take the place of a gallery of this id.

        Returns:
            The gallery, and whether it took the place of another one.

        Raises:
            GalleryExistsError: There is one of this id, and it may not be replaced.
            ModelMismatchError: The one that is there has another model.
            LimitExceededError: There are too many galleries.
        """
        validation.check_id(gallery_id, "gallery")
        self._check_adoptable(gallery_id, replace_existing=replace_existing)
        uid = uuid.uuid4().hex
        path = self._directory.gallery(uid)
        try:
            model = fill(path)
            rename_gallery(path, gallery_id, uid)
            gallery = Gallery(path, card_thresholds=self._card_thresholds)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        try:
            with self._lock:
                self._check_adoptable(gallery_id, replace_existing=replace_existing, model=model)
                old_uid = self.catalogue.galleries().get(gallery_id)
                old = self._galleries.get(gallery_id)
                reached("restore.before_catalogue")
                # From here on it exists; the other one's folder is an orphan.
                self.catalogue.add_gallery(
                    gallery_id, uid, request_id="", fingerprint=b"", now_us=now_us()
                )
                reached("restore.after_catalogue")
                self._damaged.pop(gallery_id, None)
                self._galleries[gallery_id] = gallery
        except BaseException:
            gallery.close()
            shutil.rmtree(path, ignore_errors=True)
            raise
        if old is not None:
            old.close()
        if old_uid is not None and self._directory.gallery(old_uid).is_dir():
            self._directory.remove_gallery(old_uid)
        return gallery, old_uid is not None

    def _check_adoptable(
        self, gallery_id: str, *, replace_existing: bool, model: ModelIdentity | None = None
    ) -> None:
        if gallery_id in self._repairing:
            raise self._damaged[gallery_id]
        there = gallery_id in self._galleries or gallery_id in self._damaged
        if there and not replace_existing:
            raise GalleryExistsError(
                f"there is a gallery {gallery_id!r} already", {"gallery": gallery_id}
            )
        if not there and len(self._galleries) >= limits.GALLERIES_MAX:
            raise LimitExceededError(f"there are {limits.GALLERIES_MAX} galleries, the most")
        old = self._galleries.get(gallery_id)
        if model is not None and old is not None and old.model != model:
            raise ModelMismatchError(
                f"gallery {gallery_id!r} is of the model {old.model.name!r}, the other one of "
                f"{model.name!r}; restore it under another name",
                {"gallery": gallery_id},
            )

    def delete_gallery(
        self, gallery_id: str, etag: str = "", *, allow_missing: bool = False
    ) -> ErasureRecord | None:
        """Deletes a gallery and all that is in it; returns the receipt, or None if there was none.

        Raises:
            GalleryNotFoundError: There is none, and that is not allowed.
            EtagMismatchError: Its settings changed since the caller read them.
        """
        with self._lock:
            known = gallery_id in self._galleries or gallery_id in self._damaged
            if not known and allow_missing:
                return None
            if gallery_id in self._damaged:
                self._delete_damaged(gallery_id)
                return None
            gallery = self.gallery(gallery_id)
            if etag and etag != str(gallery.record.revision):
                raise EtagMismatchError("the gallery was changed since it was read")
            reached("gallery.before_deletion")
            receipt = gallery.erasures.of_gallery(gallery.counters)
            receipts = {one.id: one for one in [*gallery.erasures.all(), receipt]}
            self.catalogue.remove_gallery(gallery_id, receipts.values())
            reached("gallery.after_deletion")
            del self._galleries[gallery_id]
        gallery.close()
        reached("gallery.before_folder_removal")
        self._directory.remove_gallery(gallery.record.uid)
        reached("gallery.after_folder_removal")
        self.catalogue.complete_erasures(now_us(), receipts)
        return self.catalogue.erasure(receipt.id)

    def _delete_damaged(self, gallery_id: str) -> None:
        if gallery_id in self._repairing:
            raise self._damaged[gallery_id]
        uid = self._uid(gallery_id)
        self.catalogue.remove_gallery(gallery_id)
        del self._damaged[gallery_id]
        if self._directory.gallery(uid).is_dir():
            self._directory.remove_gallery(uid)


def _check(new: GalleryRecord) -> None:
    validation.check_id(new.id, "gallery")
    validation.check_text(new.display_name, "display_name", limits.DISPLAY_NAME_LENGTH_MAX)
    validation.check_cosine(new.threshold, "threshold")
    validation.check_mate_loss_bound(new.mate_loss_bound)
    validation.check_quotas(new.quotas)
    validation.check_gate(new.gate)
    _check_model(new.model)


def _check_model(model: ModelIdentity) -> None:
    for field in ("name", "version", "sha256", "precision"):
        validation.check_text(getattr(model, field), f"model.{field}", limits.ID_LENGTH_MAX)
    if not model.name:
        raise InvalidArgumentError("the gallery's model has no name", {"field": "model.name"})
    if not limits.VECTOR_DIMENSION_MIN <= model.dimension <= limits.VECTOR_DIMENSION_MAX:
        raise InvalidArgumentError(
            f"the model's dimension must be {limits.VECTOR_DIMENSION_MIN} to "
            f"{limits.VECTOR_DIMENSION_MAX}; give it for a model this server does not run",
            {"field": "model.dimension"},
        )
