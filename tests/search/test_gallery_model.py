"""A gallery driven at random, beside a dict that says what it must answer."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support import assert_same_ranking, enroll, expected_ranking, gallery_record, random_vectors

from visagedb_indexer.errors import (
    FaceExistsError,
    FaceNotFoundError,
    IdentityExistsError,
    IdentityNotFoundError,
)
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import (
    EnrollOutcome,
    IdentityPatch,
    NewIdentity,
    SearchOptions,
)

PEOPLE = [f"p{i}" for i in range(6)]
FACES = ["f0", "f1", "f2"]
LABELS = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2)
FILTERS = {
    "": lambda labels: True,
    "labels.a=x": lambda labels: labels.get("a") == "x",
    "labels.a!=x": lambda labels: labels.get("a") != "x",
    "labels.b:* AND labels.a=y": lambda labels: "b" in labels and labels.get("a") == "y",
}


@dataclass
class Person:
    labels: dict[str, str]
    faces: dict[str, int] = field(default_factory=dict)


class GalleryAgainstADict(RuleBasedStateMachine):
    @initialize(dimension=st.sampled_from([1, 2, 16, 300]))
    def create(self, dimension: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.vectors = random_vectors(12, dimension)
        self.gallery = Gallery(self.folder / "gallery", gallery_record(dimension=dimension))
        # In the order of creation, as a dict keeps it.
        self.people: dict[str, Person] = {}
        self.generation = 0

    def teardown(self) -> None:
        if hasattr(self, "gallery"):
            self.gallery.close()
            shutil.rmtree(self.folder)

    @rule(name=st.sampled_from(PEOPLE), labels=LABELS)
    def create_identity(self, name: str, labels: dict[str, str]) -> None:
        if name in self.people:
            with pytest.raises(IdentityExistsError):
                self.gallery.create_identity(name, NewIdentity(labels=labels))
        else:
            self.gallery.create_identity(name, NewIdentity(labels=labels))
            self.people[name] = Person(labels)

    @rule(
        name=st.sampled_from(PEOPLE),
        face=st.sampled_from(FACES),
        content=st.integers(0, 11),
        create=st.booleans(),
    )
    def enroll(self, name: str, face: str, content: int, create: bool) -> None:
        vector = self.vectors[content]
        how = {"face_id": face, "create": create, "content": b"content %d" % content}
        person = self.people.get(name)
        if person is None and not create:
            with pytest.raises(IdentityNotFoundError):
                enroll(self.gallery, name, vector, **how)
            return
        if person and content in person.faces.values():
            answer = enroll(self.gallery, name, vector, **how)
            assert answer.outcome is EnrollOutcome.ALREADY_ENROLLED
            assert person.faces[answer.face.id] == content
            return
        if person and face in person.faces:
            with pytest.raises(FaceExistsError):
                enroll(self.gallery, name, vector, **how)
            return
        answer = enroll(self.gallery, name, vector, **how)
        assert answer.outcome is EnrollOutcome.ENROLLED
        assert answer.identity_created == (person is None)
        self.people.setdefault(name, Person({})).faces[face] = content

    @rule(name=st.sampled_from(PEOPLE), face=st.sampled_from(FACES))
    def delete_face(self, name: str, face: str) -> None:
        if name not in self.people:
            with pytest.raises(IdentityNotFoundError):
                self.gallery.delete_face(name, face)
        elif self.people[name].faces.pop(face, None) is None:
            with pytest.raises(FaceNotFoundError):
                self.gallery.delete_face(name, face)
        else:
            self.gallery.delete_face(name, face)

    @rule(name=st.sampled_from(PEOPLE))
    def delete_identity(self, name: str) -> None:
        person = self.people.pop(name, None)
        if person is None:
            with pytest.raises(IdentityNotFoundError):
                self.gallery.delete_identity(name)
            assert self.gallery.delete_identity(name, allow_missing=True) == 0
        else:
            assert self.gallery.delete_identity(name) == len(person.faces)

    @rule(name=st.sampled_from(PEOPLE), labels=LABELS)
    def relabel(self, name: str, labels: dict[str, str]) -> None:
        if name in self.people:
            self.gallery.update_identity(name, IdentityPatch(labels=labels))
            self.people[name].labels = labels

    @rule()
    def restart(self) -> None:
        before = self.gallery.counters
        self.gallery.close()
        self.gallery = Gallery(self.folder / "gallery")
        assert self.gallery.counters == before

    @rule(probe=st.integers(0, 11), top_k=st.integers(1, 8), text=st.sampled_from(list(FILTERS)))
    def identify(self, probe: int, top_k: int, text: str) -> None:
        passing = {i for i, p in enumerate(PEOPLE) if self._passes(p, text)}
        pairs = [
            (PEOPLE.index(name), content)
            for name, person in self.people.items()
            for content in person.faces.values()
        ]
        owners, contents = [owner for owner, _ in pairs], [content for _, content in pairs]
        expected = expected_ranking(owners, self.vectors[contents], self.vectors[probe], passing)
        options = SearchOptions(top_k=top_k, filter=text)
        answer = self.gallery.identify(self.vectors[probe], options)
        found = [(c.identity.id, c.score) for c in answer.candidates]
        assert len(found) == min(top_k, len(expected))
        assert_same_ranking(found, expected)
        assert answer.generation == self.gallery.counters.generation

    @rule(after=st.integers(0, 6), most=st.integers(1, 7), text=st.sampled_from(list(FILTERS)))
    def list_pages(self, after: int, most: int, text: str) -> None:
        everyone = self.gallery.identities(text, most=100)
        assert [r.id for r in everyone] == [n for n in self.people if self._passes(n, text)]
        if after < len(everyone):
            page = self.gallery.identities(text, everyone[after].number, most)
            assert page == everyone[after + 1 :][:most]

    def _passes(self, name: str, text: str) -> bool:
        return name in self.people and FILTERS[text](self.people[name].labels)

    @invariant()
    def everything_is_there(self) -> None:
        if not hasattr(self, "gallery"):
            return
        counters = self.gallery.counters
        assert counters.generation >= self.generation
        self.generation = counters.generation
        assert counters.identity_count == len(self.people)
        assert counters.face_count == sum(len(p.faces) for p in self.people.values())
        for name, person in self.people.items():
            record = self.gallery.identity(name)
            assert (record.labels, record.face_count) == (person.labels, len(person.faces))
            faces = self.gallery.faces(name, with_vectors=True)
            assert [face.id for face, _ in faces] == list(person.faces)
            for face, vector in faces:
                np.testing.assert_allclose(vector, self.vectors[person.faces[face.id]], atol=1e-6)


TestGallery = GalleryAgainstADict.TestCase
TestGallery.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
