"""Writers of a gallery that remember what was acknowledged.

Each lane has persons of its own, so that what it must find again does not depend on the order in
which concurrent calls were answered. A lane makes one call at a time; when the server is killed,
that call alone may have happened or not, but never by halves.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import grpc
import numpy as np
from google.rpc import code_pb2, status_pb2

import visagedb
from campaign.model import LOOSE, Person, State, difference, vector_of, without
from visagedb.v1 import identities_pb2, identities_pb2_grpc, types_pb2

GALLERY: Final = "people"
PERSONS_MAX: Final = 30
_LABELS: Final[tuple[dict[str, str], ...]] = (
    {},
    {"site": "north"},
    {"site": "south"},
    {"site": "north", "role": "guest"},
)


@dataclass
class _Undoable:
    """The last change of who some faces belong to, and how things stood before."""

    change: visagedb.Change
    before: State


def _stream_item(
    keys: Sequence[str], owners: Mapping[str, str]
) -> identities_pb2.StreamEnrollFacesRequest:
    """One face as a request of its own, several as columns."""
    item = identities_pb2.StreamEnrollFacesRequest(item_id=",".join(keys))
    vectors = np.array([vector_of(key) for key in keys], dtype="<f4").tobytes()
    if len(keys) == 1:
        [key] = keys
        item.request.identity = f"galleries/{GALLERY}/identities/{owners[key]}"
        item.request.template.CopyFrom(types_pb2.Template(vector=vectors))
        item.request.face_id = item.request.source = key
        item.request.allow_missing = True
    else:
        item.templates.gallery = f"galleries/{GALLERY}"
        item.templates.vectors = vectors
        item.templates.identity_ids.extend(owners[key] for key in keys)
        item.templates.face_ids.extend(keys)
        item.templates.sources.extend(keys)
        item.templates.allow_missing = True
    return item


def _is_full(refusal: status_pb2.Status) -> bool:
    return bool(refusal.code == code_pb2.RESOURCE_EXHAUSTED)


class Lane:
    """One writer.

    Args:
        number: Tells its persons from those of other lanes.
        seed: Of its decisions.

    Attributes:
        state: What it must find, after every acknowledged call.
        acknowledged: Calls by kind.
        gone: Keys of faces that were deleted for certain.
    """

    def __init__(self, number: int, seed: int) -> None:
        self.prefix = f"l{number}-"
        self.state: State = {LOOSE: Person()}
        self.acknowledged: Counter[str] = Counter()
        self.gone: set[str] = set()
        self._random = random.Random(f"{seed}-{number}")
        self._next = 0
        self._pending: State | None = None
        self._bulk: dict[str, str] = {}
        self._undoable: _Undoable | None = None
        self._repeat: Callable[[visagedb.Client], object] | None = None

    def step(self, client: visagedb.Client) -> None:
        """One call, and the book-keeping of its answer."""
        if self._bulk:
            # A stream was refused: which of its faces are there is known after a restart.
            time.sleep(0.02)
            return
        people = [name for name in self.state if name != LOOSE]
        with_faces = [name for name in people if self.state[name].faces]
        chosen: list[Callable[[visagedb.Client], None]] = [self._enroll] * 6
        chosen += [self._enroll_loose, self._enroll_many, self._stream]
        if with_faces:
            chosen += [self._delete_face] * 2 + [self._move, self._find, self._enroll_again]
        if people:
            chosen += [self._relabel]
        if len(people) > 3:
            chosen += [self._delete_identity, self._merge]
        if len(people) > PERSONS_MAX:
            chosen = [self._delete_identity, self._merge]
        if self._undoable is not None:
            chosen = [*chosen, *[self._undo] * len(chosen)]
        self._random.choice(chosen)(client)

    def refused(self) -> None:
        """The last call was refused for want of room: it must not have happened."""
        self._pending = self._repeat = None

    def settle(self, actual: State, client: visagedb.Client) -> list[str]:
        """Compares what is there after a restart with what must be there.

        A call that was cut short is repeated with its request id, where it had one: it must
        not happen twice.

        Returns:
            Findings in words; empty when all is well.
        """
        findings = []
        bulk, pending, repeat = self._bulk, self._pending, self._repeat
        self._bulk, self._pending, self._repeat, self._undoable = {}, None, None, None
        there = {key: name for name, person in actual.items() for key in person.faces}
        if bulk:
            arrived = {key for key in bulk if there.get(key) == bulk[key]}
            if problem := difference(self.state, without(actual, arrived)):
                findings.append(f"{self.prefix}: after a stream: {problem}")
        elif pending is not None and not difference(pending, actual):
            self._note_gone(pending)
        elif problem := difference(self.state, actual):
            half = "" if pending is None else f"; nor is it {difference(pending, actual)}"
            findings.append(f"{self.prefix}: {problem}{half}")
        if back := sorted(self.gone & there.keys()):
            findings.append(f"{self.prefix}: deleted faces are back: {back[:3]}")
        self.state = actual
        if repeat is not None and pending is not None and not findings:
            repeat(client)
            self._note_gone(pending)
            self.state = pending
        return findings

    def _note_gone(self, new: State) -> None:
        before = {key for person in self.state.values() for key in person.faces}
        self.gone |= before - {key for person in new.values() for key in person.faces}

    def _do(self, kind: str, new: State, call: Callable[[], object]) -> None:
        self._pending = new
        self._undoable = None
        answer = call()
        self._note_gone(new)
        if isinstance(answer, visagedb.Change) and answer.lineage is not None:
            self._undoable = _Undoable(answer, self.state)
        self.state = new
        self._pending = self._repeat = None
        self.acknowledged[kind] += 1

    def _changed(self, **persons: Person | None) -> State:
        """The present state with some persons replaced; None removes one."""
        new = {**self.state, **persons}
        return {name: person for name, person in new.items() if person is not None}

    def _new_key(self) -> str:
        self._next += 1
        return f"{self.prefix}f{self._next}"

    def _new_name(self) -> str:
        self._next += 1
        return f"{self.prefix}p{self._next}"

    def _someone(self, *, with_faces: bool = False) -> str:
        names = [n for n, p in self.state.items() if n != LOOSE and (p.faces or not with_faces)]
        return self._random.choice(sorted(names))

    def _face_of(self, name: str) -> str:
        return self._random.choice(sorted(self.state[name].faces))

    def _enroll(self, client: visagedb.Client) -> None:
        old = self._random.random() < 0.6 and len(self.state) > 1
        name = self._someone() if old else self._new_name()
        key = self._new_key()
        person = self.state.get(name) or Person(self._random.choice(_LABELS))

        def call(client: visagedb.Client = client) -> visagedb.Enrollment:
            return client.enroll(
                GALLERY, name, vector=vector_of(key), face_id=key, source=key,
                labels=person.labels, request_id=f"enroll-{key}",
            )  # fmt: skip

        self._repeat = call
        self._do("enroll", self._changed(**{name: person.plus([key])}), call)

    def _enroll_again(self, client: visagedb.Client) -> None:
        name = self._someone(with_faces=True)
        key = self._face_of(name)
        answer = client.enroll(GALLERY, name, vector=vector_of(key), source=key)
        assert answer.outcome is visagedb.EnrollOutcome.ALREADY_ENROLLED, answer
        self.acknowledged["enroll again"] += 1

    def _enroll_loose(self, client: visagedb.Client) -> None:
        key = self._new_key()

        def call(client: visagedb.Client = client) -> visagedb.LooseEnrollment:
            return client.enroll_loose(
                GALLERY, vector=vector_of(key), source=key, request_id=f"loose-{key}"
            )

        self._repeat = call
        new = self._changed(**{LOOSE: self.state[LOOSE].plus([key])})
        self._do("enroll loose", new, call)

    def _enroll_many(self, client: visagedb.Client) -> None:
        names = [self._new_name() for _ in range(3)]
        self._undoable = None
        self._bulk = {self._new_key(): self._random.choice(names) for _ in range(24)}
        items = [
            visagedb.EnrollItem(name, vector=vector_of(key), face_id=key, source=key, key=key)
            for key, name in self._bulk.items()
        ]
        for result in client.enroll_many(GALLERY, items, concurrency=8, patience=0.1):
            if result.error is not None:
                raise result.error
            key = result.item.key
            name = self._bulk.pop(key)
            self.state = self._changed(**{name: self.state.get(name, Person()).plus([key])})
            self.acknowledged["enroll many"] += 1

    def _stream(self, client: visagedb.Client) -> None:
        """Single faces and columns of templates through one stream."""
        names = [self._new_name() for _ in range(3)]
        self._undoable = None
        self._bulk = {self._new_key(): self._random.choice(names) for _ in range(32)}
        keys = list(self._bulk)
        parts = [[key] for key in keys[:8]] + [keys[8:20], keys[20:]]
        requests = [_stream_item(part, self._bulk) for part in parts]
        with grpc.insecure_channel(client.address) as channel:
            stub = identities_pb2_grpc.IdentityServiceStub(channel)
            for answer in stub.StreamEnrollFaces(iter(requests)):
                refusals = [answer.error, *(row.error for row in answer.templates.errors)]
                if any(_is_full(refusal) for refusal in refusals):
                    raise visagedb.StorageFullError("an item of a stream was refused")
                assert answer.WhichOneof("result") != "error", answer
                assert not answer.templates.errors, answer
                for key in answer.item_id.split(","):
                    name = self._bulk.pop(key)
                    known = self.state.get(name, Person())
                    self.state = self._changed(**{name: known.plus([key])})
                    self.acknowledged["enroll in a stream"] += 1

    def _delete_face(self, client: visagedb.Client) -> None:
        loose = bool(self.state[LOOSE].faces) and self._random.random() < 0.3
        name = LOOSE if loose else self._someone(with_faces=True)
        key = self._face_of(name)
        face = self._listed(client, name, key)
        self._do(
            "delete face",
            self._changed(**{name: self.state[name].minus([key])}),
            lambda: client.delete_face(GALLERY, name, face.id),
        )

    def _listed(self, client: visagedb.Client, name: str, key: str) -> visagedb.Face:
        """A face by its key; the id of a loose one is the server's."""
        return next(f for f in client.list_faces(GALLERY, name, page_size=1000) if f.source == key)

    def _delete_identity(self, client: visagedb.Client) -> None:
        name = self._someone()
        self._do(
            "delete identity",
            self._changed(**{name: None}),
            lambda: client.delete_identity(GALLERY, name),
        )

    def _relabel(self, client: visagedb.Client) -> None:
        name = self._someone()
        labels = self._random.choice(_LABELS)
        person = Person(labels, self.state[name].faces)
        self._do(
            "update identity",
            self._changed(**{name: person}),
            lambda: client.update_identity(GALLERY, name, labels=labels),
        )

    def _move(self, client: visagedb.Client) -> None:
        loose = bool(self.state[LOOSE].faces) and self._random.random() < 0.3
        source = LOOSE if loose else self._someone(with_faces=True)
        kind = self._random.choice(["new", "other", "loose"])
        target = {"new": self._new_name(), "other": self._someone(), "loose": LOOSE}[kind]
        if target == source:
            return
        key = self._face_of(source)
        face = self._listed(client, source, key)
        persons: dict[str, Person | None] = {
            source: self.state[source].minus([key]),
            target: self.state.get(target, Person()).plus([key]),
        }
        self._do(
            "move face",
            self._changed(**persons),
            lambda: client.move_faces(GALLERY, [face], target),
        )

    def _merge(self, client: visagedb.Client) -> None:
        stays, other = self._someone(), self._someone()
        if stays == other:
            return
        persons: dict[str, Person | None] = {
            stays: self.state[stays].plus(self.state[other].faces),
            other: None,
        }
        self._do(
            "merge",
            self._changed(**persons),
            lambda: client.merge_identities(GALLERY, stays, [other]),
        )

    def _undo(self, client: visagedb.Client) -> None:
        undoable = self._undoable
        assert undoable is not None
        self._do("undo", undoable.before, lambda: client.undo_change(undoable.change))

    def _find(self, client: visagedb.Client) -> None:
        """A caller reads its own writes, and not what it has deleted."""
        name = self._someone(with_faces=True)
        key = self._face_of(name)
        best = client.identify(GALLERY, vector=vector_of(key), top_k=1).best
        assert best is not None, f"{key} of {name} is not found"
        assert best.id == name, f"{key} of {name} is not found: {best}"
        assert best.score > 0.999, f"{key} of {name} has a score of {best.score}"
        self.acknowledged["search"] += 1
