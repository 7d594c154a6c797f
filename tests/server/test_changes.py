"""Faces that change hands: moved, merged, split, and sent back."""

from pathlib import Path

import pytest
from servers import make_config
from support import failures, mates, random_vectors, run_together
from wire import DIMENSION, Api, read_pages, refused

from visagedb.v1 import identities_pb2 as pb
from visagedb_indexer import limits
from visagedb_server.server import Server

CENTRES = random_vectors(3, DIMENSION)
PEOPLE = "galleries/people"


def person(name: str) -> str:
    return f"{PEOPLE}/identities/{name}"


def face(owner: str, number: int) -> str:
    return f"{person(owner)}/faces/{owner}{number}"


@pytest.fixture
def family(api: Api) -> Api:
    """Ada, Bea and Cleo with three faces each."""
    for place, name in enumerate(("ada", "bea", "cleo")):
        for i in range(3):
            vector = mates(CENTRES[place : place + 1], 0.97, seed=i)[0]
            api.enroll(
                name, vector, face_id=f"{name}{i}", new_identity=pb.Identity(labels={"of": name})
            )
    return api


def move(api: Api, faces: list[str], to: str, **fields: object) -> pb.MoveFacesResponse:
    return api.identities.MoveFaces(pb.MoveFacesRequest(faces=faces, destination=to, **fields))


def merge(api: Api, to: str, *others: str, **fields: object) -> pb.MergeIdentitiesResponse:
    request = pb.MergeIdentitiesRequest(
        destination=person(to), sources=[person(one) for one in others], **fields
    )
    return api.identities.MergeIdentities(request)


def split(api: Api, source: str, *numbers: int, **fields: object) -> pb.SplitIdentityResponse:
    faces = [face(source, number) for number in numbers]
    request = pb.SplitIdentityRequest(source=person(source), faces=faces, **fields)
    return api.identities.SplitIdentity(request)


def undo(api: Api, entry: pb.LineageEntry, **fields: object) -> pb.LineageEntry:
    return api.identities.UndoChange(pb.UndoChangeRequest(name=entry.name, **fields)).lineage


def lineage(api: Api, parent: str = PEOPLE) -> list[pb.LineageEntry]:
    request = pb.ListLineageRequest(parent=parent, page_size=2)
    pages = read_pages(api.identities.ListLineage, request)
    return [entry for page in pages for entry in page.entries]


def counts(api: Api) -> dict[str, int]:
    """Faces of everybody; the listing, the records and the counters agree."""
    listing = {name: len(faces) for name, faces in api.all_faces().items()}
    for name, count in listing.items():
        assert api.identity(name).face_count == count
    gallery = api.gallery()
    assert gallery.identity_count == len(listing)
    assert gallery.face_count == sum(listing.values()) + gallery.loose_face_count
    return listing


def test_moved_faces_belong_to_the_other_at_once(family: Api) -> None:
    answer = move(family, [face("bea", 0), face("bea", 1)], person("ada"))
    assert [one.name for one in answer.faces] == [
        f"{person('ada')}/faces/bea0",
        f"{person('ada')}/faces/bea1",
    ]
    assert counts(family) == {"ada": 5, "bea": 1, "cleo": 3}
    assert family.best(mates(CENTRES[1:2], 0.97, seed=0)[0]) == "ada"
    assert family.best(CENTRES[1], filter='labels.of = "bea"') == "bea"
    [entry] = lineage(family)
    assert entry == answer.lineage
    assert entry.kind == pb.CHANGE_KIND_MOVE
    assert (entry.face_count, entry.destination) == (2, person("ada"))
    assert [(one.identity, one.face_count) for one in entry.sources] == [(person("bea"), 2)]


def test_faces_that_are_there_already_are_no_change(family: Api) -> None:
    answer = move(family, [face("ada", 0)], person("ada"))
    assert not answer.faces
    assert not answer.HasField("lineage")
    assert lineage(family) == []


def test_faces_found_an_identity_or_become_loose(family: Api) -> None:
    new = pb.Identity(display_name="Dora", labels={"of": "dora"})
    fields = {"allow_missing": True, "new_identity": new}
    answer = move(family, [face("ada", 0), face("bea", 0)], person("dora"), **fields)
    assert answer.lineage.founded
    assert family.identity("dora").display_name == "Dora"
    assert family.best(CENTRES[0], filter='labels.of = "dora"') == "dora"
    loose = move(family, [answer.faces[0].name], PEOPLE)
    assert loose.faces[0].name == f"{PEOPLE}/faces/ada0"
    assert loose.lineage.destination == ""
    assert counts(family) == {"ada": 2, "bea": 2, "cleo": 3, "dora": 1}
    assert family.gallery().loose_face_count == 1
    undo(family, loose.lineage)
    undo(family, answer.lineage)
    assert counts(family) == {"ada": 3, "bea": 3, "cleo": 3}


def test_a_face_of_a_taken_id_gets_another(family: Api) -> None:
    family.enroll("bea", random_vectors(1, DIMENSION, seed=9)[0], face_id="ada0")
    answer = move(family, [f"{person('bea')}/faces/ada0"], person("ada"))
    assert answer.faces[0].name != face("ada", 0)
    assert counts(family)["ada"] == 4
    undo(family, answer.lineage)
    assert counts(family) == {"ada": 3, "bea": 4, "cleo": 3}


def test_merged_identities_are_one(family: Api) -> None:
    answer = merge(family, "ada", "bea", "cleo")
    assert (answer.identity.face_count, answer.lineage.face_count) == (9, 6)
    assert [one.ended for one in answer.lineage.sources] == [True, True]
    assert counts(family) == {"ada": 9}
    assert family.best(CENTRES[2]) == "ada"
    assert family.best(CENTRES[2], filter='labels.of = "cleo"') == ""
    with refused("NOT_FOUND", "IDENTITY_NOT_FOUND"):
        family.identity("bea")


def test_an_undone_merge_brings_everybody_back(family: Api) -> None:
    before = family.identity("bea")
    answer = merge(family, "ada", "bea", "cleo")
    moved = move(family, [f"{person('ada')}/faces/bea0"], PEOPLE)
    entry = undo(family, answer.lineage)
    assert (entry.kind, entry.undoes, entry.face_count) == (
        pb.CHANGE_KIND_UNDO,
        answer.lineage.name,
        5,
    )
    assert counts(family) == {"ada": 3, "bea": 2, "cleo": 3}
    after = family.identity("bea")
    assert (after.uid, after.labels, after.create_time) == (
        before.uid,
        before.labels,
        before.create_time,
    )
    assert family.best(CENTRES[2], filter='labels.of = "cleo"') == "cleo"
    assert moved.lineage.name in {one.name for one in lineage(family)}
    assert [one.undone for one in lineage(family) if one.kind == pb.CHANGE_KIND_MERGE] == [True]


def test_a_split_founds_an_identity_and_can_be_undone(family: Api) -> None:
    answer = split(family, "ada", 1, 2, identity_id="eve")
    assert answer.identity.name == person("eve")
    assert counts(family) == {"ada": 1, "bea": 3, "cleo": 3, "eve": 2}
    assert lineage(family, person("eve"))[0].kind == pb.CHANGE_KIND_SPLIT
    undo(family, answer.lineage)
    assert counts(family) == {"ada": 3, "bea": 3, "cleo": 3}


def test_a_founded_identity_that_was_changed_since_stays(family: Api) -> None:
    answer = split(family, "ada", 1, identity_id="eve")
    family.identities.UpdateIdentity(
        pb.UpdateIdentityRequest(
            identity={"name": person("eve"), "display_name": "Eve"},
            update_mask={"paths": ["display_name"]},
        )
    )
    undo(family, answer.lineage)
    assert counts(family) == {"ada": 3, "bea": 3, "cleo": 3, "eve": 0}


def test_what_cannot_be_undone(family: Api) -> None:
    first = merge(family, "ada", "bea")
    with refused("NOT_FOUND", "LINEAGE_NOT_FOUND"):
        family.identities.UndoChange(pb.UndoChangeRequest(name=f"{PEOPLE}/lineage/99"))
    with refused("INVALID_ARGUMENT", "INVALID_NAME"):
        family.identities.UndoChange(pb.UndoChangeRequest(name=f"{PEOPLE}/lineage/x"))
    family.create_identity("bea")
    with refused("FAILED_PRECONDITION", "NOT_UNDOABLE"):
        undo(family, first.lineage)
    family.identities.DeleteIdentity(pb.DeleteIdentityRequest(name=person("bea")))
    entry = undo(family, first.lineage)
    for one in (first.lineage, entry):
        with refused("FAILED_PRECONDITION", "NOT_UNDOABLE"):
            undo(family, one)
    second = merge(family, "ada", "bea")
    third = merge(family, "cleo", "ada")
    with refused("FAILED_PRECONDITION", "NOT_UNDOABLE"):
        undo(family, second.lineage)
    undo(family, third.lineage)
    undo(family, second.lineage)
    assert counts(family) == {"ada": 3, "bea": 3, "cleo": 3}


def test_who_is_erased_does_not_come_back(family: Api) -> None:
    merge(family, "bea", "cleo")
    second = merge(family, "ada", "bea")
    family.identities.DeleteIdentity(pb.DeleteIdentityRequest(name=person("ada")))
    assert lineage(family) == []
    with refused("NOT_FOUND", "LINEAGE_NOT_FOUND"):
        undo(family, second.lineage)
    assert counts(family) == {}


def test_etags_and_request_ids(family: Api) -> None:
    stale = family.identity("ada").etag
    first = move(family, [face("bea", 0)], person("ada"), etag=stale, request_id="r1")
    again = move(family, [face("bea", 0)], person("ada"), etag=stale, request_id="r1")
    assert again == first
    with refused("ABORTED", "ETAG_MISMATCH"):
        move(family, [face("bea", 1)], person("ada"), etag=stale)
    with refused("ABORTED", "ETAG_MISMATCH"):
        merge(family, "ada", "bea", etag=stale)
    with refused("ABORTED", "ETAG_MISMATCH"):
        split(family, "ada", 0, etag=stale)
    with refused("ALREADY_EXISTS", "REQUEST_ID_REUSED"):
        move(family, [face("bea", 2)], person("ada"), request_id="r1")
    merged = merge(family, "ada", "bea", request_id="r2")
    assert merge(family, "ada", "bea", request_id="r2").lineage == merged.lineage
    founded = split(family, "ada", 0, identity_id="eve", request_id="r3")
    assert split(family, "ada", 0, identity_id="eve", request_id="r3").lineage == founded.lineage
    undone = undo(family, founded.lineage, request_id="r4")
    assert undo(family, founded.lineage, request_id="r4") == undone
    assert counts(family) == {"ada": 6, "cleo": 3}


def test_bad_requests_change_nothing(family: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "faces"):
        move(family, [], person("ada"))
    with refused("NOT_FOUND", "FACE_NOT_FOUND"):
        move(family, [face("bea", 0), face("bea", 7)], person("ada"))
    with refused("NOT_FOUND", "IDENTITY_NOT_FOUND"):
        move(family, [face("bea", 0)], person("nobody"))
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "faces"):
        move(family, ["galleries/other/faces/x"], person("ada"))
    with refused("INVALID_ARGUMENT", "INVALID_NAME"):
        move(family, ["nonsense"], person("ada"))
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "sources"):
        merge(family, "ada", "ada")
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "sources"):
        merge(family, "ada")
    with refused("NOT_FOUND", "IDENTITY_NOT_FOUND"):
        merge(family, "ada", "bea", "nobody")
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "faces"):
        split(family, "ada", 0, 1, 2)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "faces"):
        split(family, "ada")
    with refused("ALREADY_EXISTS", "IDENTITY_EXISTS"):
        split(family, "ada", 0, identity_id="bea")
    monkeypatch.setattr(limits, "FACES_PER_IDENTITY_MAX", 5)
    with refused("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED"):
        merge(family, "ada", "bea")
    assert counts(family) == {"ada": 3, "bea": 3, "cleo": 3}
    assert lineage(family) == []


def test_many_changes_at_once_lose_no_face(family: Api) -> None:
    def back_and_forth(number: int) -> None:
        there = move(family, [face("ada", number)], person("bea"))
        undo(family, there.lineage)
        move(family, [face("bea", number)], person("cleo"))

    assert not failures(run_together([lambda n=n: back_and_forth(n) for n in range(3)]))
    assert counts(family) == {"ada": 3, "bea": 0, "cleo": 6}
    assert len(lineage(family)) == 9


def test_changes_survive_a_restart(tmp_path: Path) -> None:
    for turn in range(2):
        server = Server(make_config(tmp_path / "data"))
        server.start()
        api = Api(server.address)
        if turn == 0:
            api.create_gallery()
            for name, centre in zip(("ada", "bea"), CENTRES, strict=False):
                api.enroll(name, centre, face_id=f"{name}0")
            entry = merge(api, "ada", "bea").lineage
        assert counts(api) == {"ada": 2}
        assert api.best(CENTRES[1]) == "ada"
        if turn == 1:
            undo(api, entry)
            assert api.best(CENTRES[1]) == "bea"
        api.close()
        server.stop(grace=0)
