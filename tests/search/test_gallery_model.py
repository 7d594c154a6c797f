"""A gallery driven at random, beside plain dictionaries that say what it must answer.

`VISAGEDB_MODEL_STEPS=5000` in the environment makes it a long run.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from gallery_model import LOOSE, Model, NotAllowed
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support import (
    assert_same_ranking,
    expected_ranking,
    gallery_record,
    new_face,
    random_vectors,
)

from visagedb_indexer.backup import BackupFolder, back_up_gallery, restore_gallery
from visagedb_indexer.database import Database
from visagedb_indexer.errors import (
    FaceExistsError,
    FaceNotFoundError,
    IdentityExistsError,
    IdentityNotFoundError,
    IndexerError,
    LineageNotFoundError,
    NotUndoableError,
)
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import (
    EnrollMode,
    EnrollOutcome,
    IdentityPatch,
    NewIdentity,
    SearchOptions,
)
from visagedb_indexer.integrity import verify_store
from visagedb_indexer.loose_faces import NewLooseFaces, OwnedFace
from visagedb_indexer.moves import Destination
from visagedb_indexer.store.compaction import compact
from visagedb_indexer.values import FaceScope

PEOPLE = [f"p{i}" for i in range(6)]
FACES = ["f0", "f1", "f2"]
CONTENTS = 12
LABELS = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2)
FILTERS = {
    "": lambda labels: True,
    "labels.a=x": lambda labels: labels.get("a") == "x",
    "labels.a!=x": lambda labels: labels.get("a") != "x",
    "labels.b:* AND labels.a=y": lambda labels: "b" in labels and labels.get("a") == "y",
}
STEPS = int(os.environ.get("VISAGEDB_MODEL_STEPS", "0"))
"""Of a long run; 0 for the short one."""

names = st.sampled_from(PEOPLE)
contents = st.integers(0, CONTENTS - 1)
filters = st.sampled_from(list(FILTERS))


class GalleryAgainstAModel(RuleBasedStateMachine):
    steps = 0

    @initialize(dimension=st.sampled_from([1, 2, 16, 300]))
    def create(self, dimension: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "data"
        self.backups = BackupFolder(self.folder / "backups")
        self.kept: dict[str, Model] = {}
        self.vectors = random_vectors(CONTENTS, dimension)
        self.database = Database(self.path)
        self.database.create_gallery(gallery_record(dimension=dimension))
        self.model = Model()
        self.generation = 0

    @property
    def gallery(self) -> Gallery:
        return self.database.gallery("people")

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            shutil.rmtree(self.folder)

    # Identities

    @rule(name=names, labels=LABELS)
    def create_identity(self, name: str, labels: dict[str, str]) -> None:
        if name in self.model.people:
            with pytest.raises(IdentityExistsError):
                self.gallery.create_identity(name, NewIdentity(labels=labels))
        else:
            self.gallery.create_identity(name, NewIdentity(labels=labels))
            self.model.create(name, labels)

    @rule(name=names)
    def delete_identity(self, name: str) -> None:
        if name not in self.model.people:
            with pytest.raises(IdentityNotFoundError):
                self.gallery.delete_identity(name)
            assert self.gallery.delete_identity(name, allow_missing=True) == 0
        else:
            assert self.gallery.delete_identity(name) == self.model.delete(name)

    @rule(name=names, labels=LABELS)
    def relabel(self, name: str, labels: dict[str, str]) -> None:
        if name in self.model.people:
            self.gallery.update_identity(name, IdentityPatch(labels=labels))
            self.model.people[name].labels = labels

    # Faces

    @rule(
        name=names,
        face=st.sampled_from(FACES),
        content=contents,
        create=st.booleans(),
        mode=st.sampled_from(EnrollMode),
    )
    def enroll(self, name: str, face: str, content: int, create: bool, mode: EnrollMode) -> None:
        expected = self._expected_enrollment(name, face, content, create, mode)
        new = new_face(
            name, self.vectors[content], create=create, face_id=face, content=b"%d" % content
        )
        if isinstance(expected, EnrollOutcome):
            answer = self.gallery.enroll(new, mode)
            assert answer.outcome is expected
        else:
            with pytest.raises(expected):
                self.gallery.enroll(new, mode)

    @rule(
        items=st.lists(st.tuples(names, st.sampled_from(FACES), contents), min_size=1, max_size=8),
        create=st.booleans(),
        mode=st.sampled_from(EnrollMode),
    )
    def enroll_many(
        self, items: list[tuple[str, str, int]], create: bool, mode: EnrollMode
    ) -> None:
        new = [
            new_face(n, self.vectors[c], create=create, face_id=f, content=b"%d" % c)
            for n, f, c in items
        ]
        answers = self.gallery.enroll_many(new, mode)
        for (name, face, content), answer in zip(items, answers, strict=True):
            expected = self._expected_enrollment(name, face, content, create, mode)
            if isinstance(answer, IndexerError):
                assert type(answer) is expected
            else:
                assert answer.outcome is expected

    def _expected_enrollment(
        self, name: str, face: str, content: int, create: bool, mode: EnrollMode
    ) -> EnrollOutcome | type[IndexerError]:
        """What must come of an enrolment; the model follows."""
        model = self.model
        if name not in model.people:
            if not create:
                return IdentityNotFoundError
            model.create(name, {})
        elif mode is EnrollMode.SKIP_EXISTING:
            return EnrollOutcome.SKIPPED
        there = model.face(name, face)
        same = model.made_from(name, content)
        if mode is EnrollMode.UPSERT and there is not None:
            if there in same:
                return EnrollOutcome.ALREADY_ENROLLED
            del model.faces[there]
            model.add(name, face, content)
            return EnrollOutcome.REPLACED
        if same:
            return EnrollOutcome.ALREADY_ENROLLED
        if there is not None:
            return FaceExistsError
        model.add(name, face, content)
        return EnrollOutcome.ENROLLED

    @rule(content=contents)
    def enroll_loose(self, content: int) -> None:
        digest = hashlib.sha256(b"%d" % content).digest()
        known = {
            ordinal: (face.owner, face.id)
            for ordinal, face in self.model.faces.items()
            if face.was_loose and face.content == content
        }
        answer = self.gallery.loose.enroll(NewLooseFaces([self.vectors[content]], digest))
        found = {o.face.ordinal: (o.identity_id, o.face.id) for o in answer.faces}
        if known:
            assert answer.outcome is EnrollOutcome.ALREADY_ENROLLED
            assert found == known
        else:
            [(ordinal, (owner, face_id))] = found.items()
            assert owner == LOOSE
            assert self.model.add(LOOSE, face_id, content) == ordinal

    @rule(name=st.sampled_from([*PEOPLE, LOOSE]), data=st.data())
    def delete_face(self, name: str, data: st.DataObject) -> None:
        known = [face.id for face in self.model.faces_of(name).values()]
        face = data.draw(st.sampled_from([*known, *FACES]))
        ordinal = self.model.face(name, face)
        if name != LOOSE and name not in self.model.people:
            with pytest.raises(IdentityNotFoundError):
                self.gallery.delete_face(name, face)
        elif ordinal is None:
            with pytest.raises(FaceNotFoundError):
                self.gallery.delete_face(name, face)
        else:
            self.gallery.delete_face(name, face)
            del self.model.faces[ordinal]

    # Who a face belongs to

    @precondition(lambda self: hasattr(self, "model") and self.model.faces)
    @rule(data=st.data(), name=st.sampled_from([*PEOPLE, LOOSE]), create=st.booleans())
    def move(self, data: st.DataObject, name: str, create: bool) -> None:
        chosen = st.sampled_from(sorted(self.model.faces))
        ordinals = data.draw(st.lists(chosen, min_size=1, max_size=4, unique=True))
        faces = [(self.model.faces[o].owner, self.model.faces[o].id) for o in ordinals]
        new = NewIdentity(labels={"a": "x"}) if create and name != LOOSE else None
        destination = Destination(name, new)
        if name != LOOSE and name not in self.model.people:
            if not create:
                with pytest.raises(IdentityNotFoundError):
                    self.gallery.moves.move(faces, destination)
                return
            self.model.create(name, {"a": "x"})
            founded = True
        else:
            founded = False
        moved = self.gallery.moves.move(faces, destination)
        assert (moved.lineage is not None) == self.model.move(ordinals, name, founded=founded)
        self._take_ids(moved.faces)

    @rule(data=st.data(), stays=names)
    def merge(self, data: st.DataObject, stays: str) -> None:
        others = sorted(self.model.people.keys() - {stays})
        if stays not in self.model.people or not others:
            return
        ending = data.draw(st.lists(st.sampled_from(others), min_size=1, max_size=2, unique=True))
        moved = self.gallery.moves.merge(ending, stays)
        ordinals = [o for o, face in self.model.faces.items() if face.owner in ending]
        assert self.model.move(ordinals, stays, ended=ending)
        self._take_ids(moved.faces)

    @rule(data=st.data(), source=names, name=names)
    def split(self, data: st.DataObject, source: str, name: str) -> None:
        faces = self.model.faces_of(source)
        if len(faces) < 2 or name in self.model.people:
            return
        leaving = data.draw(
            st.lists(st.sampled_from(list(faces)), min_size=1, max_size=len(faces) - 1, unique=True)
        )
        ids = [faces[ordinal].id for ordinal in leaving]
        moved = self.gallery.moves.split(source, ids, name, NewIdentity(labels={"b": "y"}))
        self.model.create(name, {"b": "y"})
        assert self.model.move(leaving, name, founded=True)
        self._take_ids(moved.faces)

    @precondition(lambda self: hasattr(self, "model") and self.model.next_lineage)
    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, self.model.next_lineage - 1))
        if number not in self.model.lineage:
            with pytest.raises(LineageNotFoundError):
                self.gallery.moves.undo(number)
            return
        before = self.model.kept()
        try:
            ordinals = self.model.undo(number)
        except NotAllowed:
            self.model = before
            with pytest.raises(NotUndoableError):
                self.gallery.moves.undo(number)
            return
        moved = self.gallery.moves.undo(number)
        assert {owned.face.ordinal for owned in moved.faces} == set(ordinals)
        self._take_ids(moved.faces)

    def _take_ids(self, faces: Sequence[OwnedFace]) -> None:
        """A face whose id was taken where it came has another one now, made by the gallery."""
        for owned in faces:
            face = self.model.faces[owned.face.ordinal]
            assert owned.identity_id == face.owner
            if owned.face.id != face.id:
                others = self.model.faces_of(face.owner).items()
                assert face.id in {f.id for o, f in others if o != owned.face.ordinal}
                face.id = owned.face.id

    # The database

    @rule()
    def restart(self) -> None:
        before = self.gallery.counters
        self.database.close()
        self.database = Database(self.path)
        assert self.gallery.counters == before

    @rule()
    def lose_power(self) -> None:
        """Goes on with the files as they are while the gallery is open."""
        before = self.gallery.counters
        copied = self.folder / "copied"
        shutil.copytree(self.path, copied)
        self.database.close()
        shutil.rmtree(self.path)
        copied.rename(self.path)
        self.database = Database(self.path)
        assert self.gallery.counters == before

    @rule()
    def compact(self) -> None:
        compact(self.gallery._store, lambda _: None)

    @rule()
    def back_up(self) -> None:
        name = f"backup-{len(self.kept)}"
        back_up_gallery(self.database, self.backups, "people", name, lambda done, stage: None)
        self.kept[name] = self.model.kept()

    @precondition(lambda self: getattr(self, "kept", None))
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.kept)))
        restore_gallery(
            self.database, self.backups, name, "", "people", lambda done, stage: None,
            replace_existing=True,
        )  # fmt: skip
        self.model = self.kept[name].kept()
        self.generation = 0

    @rule()
    def prove(self) -> None:
        assert verify_store(self.gallery._store).broken == ()

    # Reads

    @rule(probe=contents, top_k=st.integers(1, 8), text=filters)
    def identify(self, probe: int, top_k: int, text: str) -> None:
        faces = [face for face in self.model.faces.values() if face.owner != LOOSE]
        passing = {i for i, name in enumerate(PEOPLE) if self._passes(name, text)}
        owners = [PEOPLE.index(face.owner) for face in faces]
        vectors = self.vectors[[face.content for face in faces]]
        expected = expected_ranking(owners, vectors, self.vectors[probe], passing)
        answer = self.gallery.identify(self.vectors[probe], SearchOptions(top_k=top_k, filter=text))
        found = [(c.identity.id, c.score) for c in answer.candidates]
        assert len(found) == min(top_k, len(expected))
        assert_same_ranking(found, expected)
        assert answer.generation == self.gallery.counters.generation

    @rule(probe=contents, count=st.integers(1, 20), scope=st.sampled_from(FaceScope))
    def find_faces(self, probe: int, count: int, scope: FaceScope) -> None:
        faces = {
            f"p{ordinal}": face
            for ordinal, face in self.model.faces.items()
            if scope is FaceScope.ALL or (face.owner == LOOSE) == (scope is FaceScope.LOOSE)
        }
        owners = [int(name[1:]) for name in faces]
        vectors = self.vectors[[face.content for face in faces.values()]]
        expected = expected_ranking(owners, vectors, self.vectors[probe])
        found = self.gallery.loose.find(self.vectors[probe], count=count, scope=scope)
        assert len(found) == min(count, len(expected))
        assert_same_ranking([(f"p{one.face.ordinal}", one.score) for one in found], expected)
        for one in found:
            face = self.model.faces[one.face.ordinal]
            assert (one.identity_id, one.face.id) == (face.owner, face.id)

    @rule(after=st.integers(0, 6), most=st.integers(1, 7), text=filters)
    def list_pages(self, after: int, most: int, text: str) -> None:
        everyone = self.gallery.identities(text, most=100)
        passing = [name for name in self.model.names() if self._passes(name, text)]
        assert [record.id for record in everyone] == passing
        if after < len(everyone):
            page = self.gallery.identities(text, everyone[after].number, most)
            assert page == everyone[after + 1 :][:most]

    def _passes(self, name: str, text: str) -> bool:
        people = self.model.people
        return name in people and FILTERS[text](people[name].labels)

    @invariant()
    def everything_is_there(self) -> None:
        if not hasattr(self, "database"):
            return
        GalleryAgainstAModel.steps += 1
        counters = self.gallery.counters
        assert counters.generation >= self.generation
        self.generation = counters.generation
        assert counters.identity_count == len(self.model.people)
        assert counters.face_count == len(self.model.faces)
        assert counters.loose_face_count == len(self.model.faces_of(LOOSE))
        assert counters.next_ordinal == self.model.next_ordinal
        for name in [*self.model.people, LOOSE]:
            expected = self.model.faces_of(name)
            if name != LOOSE:
                record = self.gallery.identity(name)
                person = self.model.people[name]
                assert (record.number, record.labels) == (person.number, person.labels)
                assert record.face_count == len(expected)
            faces = self.gallery.faces(name, with_vectors=True)
            assert [(f.ordinal, f.id) for f, _ in faces] == [
                (ordinal, face.id) for ordinal, face in expected.items()
            ]
            for face, vector in faces:
                right = self.vectors[expected[face.ordinal].content]
                np.testing.assert_allclose(vector, right, atol=1e-6)


def test_a_gallery_answers_as_its_model() -> None:
    GalleryAgainstAModel.steps = 0
    run_state_machine_as_test(
        GalleryAgainstAModel,
        settings=settings(
            max_examples=max(1, STEPS // 50) if STEPS else 100,
            stateful_step_count=200 if STEPS else 50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(GalleryAgainstAModel.steps, "steps")
