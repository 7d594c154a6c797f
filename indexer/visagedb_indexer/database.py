"""The database: one data directory with its catalogue and its open galleries."""

import hashlib
import logging
import shutil
import threading
import uuid
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
    InvalidArgumentError,
    LimitExceededError,
)
from visagedb_indexer.failpoints import reached
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.operating_points import CardThresholds, Evidence, no_card
from visagedb_indexer.store import Catalogue, DataDirectory, ErasureRecord, GalleryRecord
from visagedb_indexer.values import ModelIdentity

_LOG = logging.getLogger(__name__)


class Database:
    """All galleries of one data directory, which it owns until closed.

    Args:
        path: The data directory; made if missing.
        card_thresholds: What model cards say of thresholds.

    Raises:
        DataDirectoryLockedError: Another process owns it.
        StorageCorruptError: A database in it cannot be read.
        FormatTooNewError: A newer release has written it.
    """

    def __init__(self, path: Path, card_thresholds: CardThresholds = no_card) -> None:
        self._card_thresholds = card_thresholds
        self._directory = DataDirectory(path)
        self._galleries: dict[str, Gallery] = {}
        self._lock = threading.RLock()
        try:
            self.catalogue = Catalogue(self._directory.catalogue)
            known = self.catalogue.galleries()
            for orphan in self._directory.remove_orphans(set(known.values())):
                _LOG.info("removed the unfinished gallery folder %s", orphan)
            self.catalogue.complete_erasures(now_us())
            for gallery_id, uid in known.items():
                self._galleries[gallery_id] = Gallery(
                    self._directory.gallery(uid), card_thresholds=card_thresholds
                )
        except BaseException:
            self.close()
            raise

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
            if new.id in self._galleries:
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
        """
        gallery = self._galleries.get(gallery_id)
        if gallery is None:
            raise GalleryNotFoundError(
                f"there is no gallery {gallery_id[:200]!r}", {"gallery": gallery_id[:200]}
            )
        return gallery

    def galleries(self) -> list[Gallery]:
        """All galleries by id."""
        with self._lock:
            return [self._galleries[gallery_id] for gallery_id in sorted(self._galleries)]

    def delete_gallery(
        self, gallery_id: str, etag: str = "", *, allow_missing: bool = False
    ) -> ErasureRecord | None:
        """Deletes a gallery and all that is in it; returns the receipt, or None if there was none.

        Raises:
            GalleryNotFoundError: There is none, and that is not allowed.
            EtagMismatchError: Its settings changed since the caller read them.
        """
        with self._lock:
            if gallery_id not in self._galleries and allow_missing:
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


def _check(new: GalleryRecord) -> None:
    validation.check_id(new.id, "gallery")
    validation.check_text(new.display_name, "display_name", limits.DISPLAY_NAME_LENGTH_MAX)
    validation.check_cosine(new.threshold, "threshold")
    validation.check_mate_loss_bound(new.mate_loss_bound)
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
