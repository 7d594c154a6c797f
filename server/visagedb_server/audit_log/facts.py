"""What an entry says of a request and its answer: names, numbers and words.

Nothing is copied out of a request but names; so no vector and no image can get into the log.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from visagedb.v1 import access_pb2, galleries_pb2, identities_pb2, search_pb2, types_pb2
from visagedb_server.access.rules import Rule, texts
from visagedb_server.audit_log.entries import Entry

NAME_LENGTH_MAX: Final = 400
_NAMES_MAX: Final = 5

_DECISIONS: Final = {types_pb2.DECISION_MATCH: "match", types_pb2.DECISION_NO_MATCH: "no_match"}


def about(entry: Entry, rule: Rule, request: Any) -> None:
    """Says what a request is about: the first name in it, and how many there are of several."""
    for path in rule.names:
        names = list(texts(request, path))
        if names and not entry.resource:
            entry.resource = names[0][:NAME_LENGTH_MAX]
        if len(names) > 1:
            entry.counts = {**entry.counts, path: len(names)}
    for path in rule.ids:
        for gallery_id in texts(request, path):
            entry.resource = f"galleries/{gallery_id}"[:NAME_LENGTH_MAX]
    if not entry.resource and isinstance(getattr(request, "name", None), str):
        entry.resource = request.name[:NAME_LENGTH_MAX]
    if rule.exports is not None and rule.exports(request):
        entry.details = {**entry.details, "exports": "templates"}
    if isinstance(request, galleries_pb2.UpdateGalleryRequest):
        entry.details = {**entry.details, "fields": ",".join(request.update_mask.paths)}


def answered(entry: Entry, response: Any) -> None:
    """Says what the answer was."""
    say = _ANSWERS.get(type(response))
    if say is not None:
        say(entry, response)
    elif "operation" in response.DESCRIPTOR.fields_by_name:
        entry.details = {**entry.details, "operation": response.operation.name}


def _identified(entry: Entry, answer: search_pb2.IdentifyResponse) -> None:
    found = answer.identifications
    matches = [one for one in found if one.decision == types_pb2.DECISION_MATCH]
    entry.decision = "match" if matches else "no_match"
    entry.counts = {
        "faces": len(found),
        "matches": len(matches),
        "candidates": sum(len(one.candidates) for one in found),
    }
    names = [one.candidates[0].identity for one in matches[:_NAMES_MAX] if one.candidates]
    if names:
        entry.details = {"identities": " ".join(names)}


def _verified(entry: Entry, answer: search_pb2.VerifyResponse) -> None:
    entry.decision = _DECISIONS.get(answer.decision, "")
    if answer.face:
        entry.details = {"face": answer.face}


def _found(entry: Entry, answer: search_pb2.FindFacesResponse) -> None:
    entry.counts = {"faces": len(answer.faces)}


def _embedded(entry: Entry, answer: search_pb2.EmbedFacesResponse) -> None:
    entry.counts = {"templates": len(answer.faces)}


def _listed(entry: Entry, answer: identities_pb2.ListFacesResponse) -> None:
    entry.counts = {"templates": len(answer.faces)}


def _enrolled(entry: Entry, answer: identities_pb2.EnrollFaceResponse) -> None:
    entry.counts = {"faces": int(answer.outcome == identities_pb2.ENROLL_OUTCOME_ENROLLED)}
    entry.details = {"face": answer.face.name}


def _enrolled_loose(entry: Entry, answer: identities_pb2.EnrollLooseFacesResponse) -> None:
    entry.counts = {"faces": len(answer.faces)}


def _deleted(entry: Entry, answer: identities_pb2.DeleteIdentityResponse) -> None:
    entry.counts = {"faces": answer.deleted_face_count}


def _keyed(entry: Entry, answer: access_pb2.CreateApiKeyResponse) -> None:
    key = answer.api_key
    entry.resource = key.name
    names = " ".join(name.rpartition("/")[2] for name in key.galleries)
    entry.details = {
        "role": access_pb2.Role.Name(key.role).removeprefix("ROLE_").lower(),
        "galleries": "all" if key.all_galleries else names,
    }


_ANSWERS: Final[Mapping[type, Callable[[Entry, Any], None]]] = {
    search_pb2.IdentifyResponse: _identified,
    search_pb2.VerifyResponse: _verified,
    search_pb2.FindFacesResponse: _found,
    search_pb2.EmbedFacesResponse: _embedded,
    identities_pb2.ListFacesResponse: _listed,
    identities_pb2.EnrollFaceResponse: _enrolled,
    identities_pb2.EnrollLooseFacesResponse: _enrolled_loose,
    identities_pb2.DeleteIdentityResponse: _deleted,
    access_pb2.CreateApiKeyResponse: _keyed,
}
