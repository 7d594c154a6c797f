"""What must hold after every restart, seen through the API."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

import visagedb
from campaign.lanes import GALLERY, Lane
from campaign.model import BYSTANDER, DIMENSION, LOOSE, Person, State, vector_of
from visagedb_indexer.integrity import verify_directory

_TIE: Final = 1e-5
_EVERY: Final = (32, 8)
"""Of the faces that are there, every so many is searched for: with the codes, and exactly."""
_GONE_MOST: Final = 8


def read_state(client: visagedb.Client) -> tuple[State, list[str]]:
    """All persons with their labels and faces, and what does not agree within the answers.

    Persons that no lane writes to have one face of their own name; searches look for it.
    """
    findings = []
    state: State = {}
    for identity in client.list_identities(GALLERY, page_size=1000):
        if identity.id.startswith(BYSTANDER) and identity.face_count == 1:
            state[identity.id] = Person(dict(identity.labels), frozenset([identity.id]))
            continue
        faces = [face.source for face in client.list_faces(GALLERY, identity.id, page_size=1000)]
        if len(faces) != identity.face_count or len(set(faces)) != len(faces):
            findings.append(f"{identity.id} counts {identity.face_count} faces, lists {faces}")
        state[identity.id] = Person(dict(identity.labels), frozenset(faces))
    loose = [face.source for face in client.list_faces(GALLERY, page_size=1000)]
    state[LOOSE] = Person({}, frozenset(loose))
    gallery = client.get_gallery(GALLERY)
    counted = (gallery.identity_count, gallery.face_count, gallery.loose_face_count)
    listed = (len(state) - 1, sum(len(person.faces) for person in state.values()), len(loose))
    if counted != listed:
        findings.append(f"the gallery counts {counted}, but lists {listed}")
    return state, findings


def of_lane(state: State, lane: Lane) -> State:
    """The part of a state that belongs to one lane."""
    mine = {name: person for name, person in state.items() if name.startswith(lane.prefix)}
    loose = frozenset(key for key in state[LOOSE].faces if key.startswith(lane.prefix))
    return {**mine, LOOSE: Person({}, loose)}


def broken_invariants(data: Path) -> list[str]:
    """What `visagedb data verify` finds in a directory that no server has open."""
    return [
        f"{report.gallery}: {result.statement}: {finding.message}"
        for report in verify_directory(data)
        for result in report.broken
        for finding in result.findings
    ]


class Oracle:
    """Answers a search by plain arithmetic over a state."""

    def __init__(self, state: State) -> None:
        pairs = [(n, k) for n, p in state.items() if n != LOOSE for k in sorted(p.faces)]
        self.names = [name for name, _ in pairs]
        self.keys = [key for _, key in pairs]
        self._labels = {name: person.labels for name, person in state.items()}
        rows = [vector_of(key) for key in self.keys]
        self._vectors = np.array(rows, dtype=np.float64).reshape(-1, DIMENSION)

    def ranking(self, key: str, label: tuple[str, str] | None = None) -> list[tuple[str, float]]:
        """Identity and score, best first, of those that have a label."""
        best: dict[str, float] = {}
        scores = self._vectors @ vector_of(key).astype(np.float64)
        for name, score in zip(self.names, scores.tolist(), strict=True):
            if label is None or self._labels[name].get(label[0]) == label[1]:
                best[name] = max(score, best.get(name, -2.0))
        return sorted(best.items(), key=lambda item: -item[1])


def check_searches(
    client: visagedb.Client, state: State, lanes: Sequence[Lane], turn: int
) -> tuple[int, list[str]]:
    """Compares searches with plain arithmetic.

    Returns:
        How many searches were compared, and findings in words.
    """
    oracle = Oracle(state)
    findings: list[str] = []
    count = 0
    for exact, every in zip((True, False), _EVERY, strict=True):
        for place in range(turn % every, len(oracle.keys), every * 8):
            key = oracle.keys[place]
            label = ("site", "north") if place % 3 == 0 else None
            expected = oracle.ranking(key, label)
            # The codes promise the mate; of strangers they may lose some.
            most = 10 if exact else 1
            result = client.identify(
                GALLERY, vector=vector_of(key), top_k=most, exact=exact,
                filter="labels.site = north" if label else "",
            )  # fmt: skip
            [answer] = result.identifications
            found = [(candidate.id, candidate.score) for candidate in answer.candidates]
            mate = label is None or (bool(expected) and expected[0][1] > 0.999)
            if exact or mate:
                count += 1
                findings += _compared(key, found, expected, most)
    for lane in lanes:
        for key in sorted(lane.gone)[turn % 7 :: 7][:_GONE_MOST]:
            count += 1
            best = client.identify(GALLERY, vector=vector_of(key), top_k=1).best
            if best is not None and best.score > 0.999:
                findings.append(f"the deleted face {key} is found again: {best}")
    return count, findings


def _compared(
    key: str, found: list[tuple[str, float]], expected: list[tuple[str, float]], most: int
) -> list[str]:
    wanted = expected[:most]
    of = dict(expected)
    same = len(found) == len(wanted) and all(
        abs(score - right) <= _TIE and abs(of.get(name, -2.0) - score) <= _TIE
        for (name, score), (_, right) in zip(found, wanted, strict=True)
    )
    return [] if same else [f"search for {key}: expected {wanted[:3]}, found {found[:3]}"]
