"""Changes that are refused when a part of them is done: nothing of it stays."""

from pathlib import Path

import pytest
from support import enroll, gallery_record, random_vectors

from visagedb_indexer import limits
from visagedb_indexer.errors import IdentityNotFoundError, LimitExceededError
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import NewIdentity
from visagedb_indexer.moves import Destination


def test_more_faces_than_an_identity_can_have_do_not_found_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = Gallery(tmp_path / "gallery", gallery_record())
    try:
        faces = []
        for number, vector in enumerate(random_vectors(3, 16)):
            face = enroll(gallery, f"p{number}", vector).face
            assert face is not None
            faces.append((f"p{number}", face.id))
        before = gallery.counters
        monkeypatch.setattr(limits, "FACES_PER_IDENTITY_MAX", 2)
        with pytest.raises(LimitExceededError):
            gallery.moves.move(faces, Destination("everybody", NewIdentity()))
        assert gallery.counters == before
        with pytest.raises(IdentityNotFoundError):
            gallery.identity("everybody")
        assert [record.id for record in gallery.identities()] == ["p0", "p1", "p2"]
    finally:
        gallery.close()
