"""What a gallery must hold, in plain dictionaries: the model of the state machine."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

LOOSE = ""
"""Stands for no identity."""


@dataclass
class Person:
    """An identity; its number is never used twice."""

    number: int
    labels: dict[str, str]


@dataclass
class Face:
    """A face: to whom it belongs by name, its id, and which vector it was made from."""

    owner: str
    id: str
    content: int
    was_loose: bool = False


@dataclass
class Entry:
    """A change of who some faces belong to.

    `sources` are number (None for loose), name, ordinals, and the labels of a person that the
    change ended.
    """

    to: int | None
    sources: list[tuple[int | None, str, list[int], dict[str, str] | None]]
    founded_labels: dict[str, str] | None = None
    undone: bool = False
    is_undo: bool = False

    @property
    def touched(self) -> set[int]:
        """Numbers of the persons it speaks of."""
        return {n for n in (self.to, *(source[0] for source in self.sources)) if n is not None}


class NotAllowed(Exception):  # noqa: N818 - a refusal that the gallery must make, too
    """The gallery must refuse this."""


@dataclass
class Model:
    """Persons by name, faces by ordinal, changes by number in the lineage."""

    people: dict[str, Person] = field(default_factory=dict)
    faces: dict[int, Face] = field(default_factory=dict)
    lineage: dict[int, Entry] = field(default_factory=dict)
    next_number: int = 0
    next_ordinal: int = 0
    next_lineage: int = 0

    def kept(self) -> "Model":
        """A copy that later changes do not touch."""
        return copy.deepcopy(self)

    def names(self) -> list[str]:
        """Names in the order of creation."""
        return sorted(self.people, key=lambda name: self.people[name].number)

    def faces_of(self, name: str) -> dict[int, Face]:
        """The faces of a person, or the loose ones, oldest first."""
        return {o: f for o, f in sorted(self.faces.items()) if f.owner == name}

    def face(self, name: str, face_id: str) -> int | None:
        """The ordinal of a face by its name, or None."""
        return next((o for o, f in self.faces_of(name).items() if f.id == face_id), None)

    def made_from(self, name: str, content: int) -> set[int]:
        """The faces of a person that were made from something."""
        return {o for o, f in self.faces_of(name).items() if f.content == content}

    def create(self, name: str, labels: Mapping[str, str]) -> Person:
        """Adds a person."""
        person = self.people[name] = Person(self.next_number, dict(labels))
        self.next_number += 1
        return person

    def add(self, name: str, face_id: str, content: int) -> int:
        """Adds a face; returns its ordinal."""
        ordinal = self.next_ordinal
        self.faces[ordinal] = Face(name, face_id, content, name == LOOSE)
        self.next_ordinal += 1
        return ordinal

    def delete(self, name: str) -> int:
        """Deletes a person with its faces, and what could bring it back; returns how many."""
        number = self.people.pop(name).number
        gone = list(self.faces_of(name))
        for ordinal in gone:
            del self.faces[ordinal]
        ended = [number]
        while ended:
            touched = ended.pop()
            for key, entry in list(self.lineage.items()):
                if touched in entry.touched:
                    del self.lineage[key]
                    if entry.to == touched:
                        ended += [
                            n for n, _, _, labels in entry.sources if labels is not None and n
                            is not None
                        ]  # fmt: skip
        return len(gone)

    def move(
        self,
        ordinals: Iterable[int],
        target: str,
        *,
        ended: Iterable[str] = (),
        founded: bool = False,
    ) -> bool:
        """Gives faces to a person or to none, and ends some persons; whether it is an entry."""
        moving = [o for o in sorted(set(ordinals)) if self.faces[o].owner != target]
        owners = list(dict.fromkeys([*ended, *(self.faces[o].owner for o in moving)]))
        if not owners:
            return False
        sources = []
        for owner in owners:
            person = self.people.get(owner)
            mine = [o for o in moving if self.faces[o].owner == owner]
            labels = person.labels if person is not None and owner in ended else None
            sources.append((person.number if person else None, owner, mine, labels))
        for ordinal in moving:
            self._give(ordinal, target)
        for name in ended:
            del self.people[name]
        to = self.people[target] if target != LOOSE else None
        self._enter(
            Entry(
                None if to is None else to.number,
                sources,
                dict(to.labels) if to is not None and founded else None,
            )
        )
        return True

    def _give(self, ordinal: int, name: str) -> None:
        face = self.faces[ordinal]
        face.owner = name
        face.was_loose |= name == LOOSE

    def _enter(self, entry: Entry) -> None:
        self.lineage[self.next_lineage] = entry
        self.next_lineage += 1

    def undo(self, key: int) -> list[int]:
        """Undoes a change; returns the ordinals that have moved.

        Raises:
            NotAllowed: It cannot be undone.
        """
        entry = self.lineage[key]
        by_number = {person.number: name for name, person in self.people.items()}
        if entry.undone or entry.is_undo or (entry.to is not None and entry.to not in by_number):
            raise NotAllowed
        here = LOOSE if entry.to is None else by_number[entry.to]
        backs = []
        for number, name, ordinals, labels in entry.sources:
            if labels is not None and name in self.people:
                raise NotAllowed
            if labels is None and number is not None and number not in by_number:
                raise NotAllowed
            there = [o for o in ordinals if o in self.faces and self.faces[o].owner == here]
            backs.append((number, name, there, labels))
        if not any(there or labels is not None for _, _, there, labels in backs):
            raise NotAllowed
        moved = []
        for number, name, there, labels in backs:
            if labels is not None and number is not None:
                self.people[name] = Person(number, dict(labels))
            for ordinal in there:
                self._give(ordinal, name)
                moved.append(ordinal)
        entry.undone = True
        if here and entry.founded_labels == self.people[here].labels and not self.faces_of(here):
            del self.people[here]
        self._enter(Entry(entry.to, entry.sources, is_undo=True))
        return moved
