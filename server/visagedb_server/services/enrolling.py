"""Enrolment over the wire: one face, the loose faces of an image, columns of templates.

The single methods and the stream share all of it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import grpc
import msgspec
import numpy as np

from visagedb.v1 import identities_pb2 as pb
from visagedb_indexer import limits
from visagedb_indexer.database import Database
from visagedb_indexer.enrollment import Answer
from visagedb_indexer.errors import IndexerError, InvalidArgumentError, InvalidVectorError
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import (
    Enrollment,
    EnrollMode,
    EnrollOutcome,
    NewFace,
    NewIdentity,
)
from visagedb_indexer.loose_faces import LooseEnrollment, NewLooseFaces
from visagedb_indexer.template_batches import BatchAnswer, TemplateBatch
from visagedb_indexer.validation import check_same_model
from visagedb_indexer.values import ModelIdentity, Vector
from visagedb_server import convert, convert_gate, names
from visagedb_server.errors import status_of
from visagedb_server.extraction import ExtractOptions, Extractor, choice_of_one, chosen_faces
from visagedb_server.services.streams import Fields, Method, Pending, Streams

_OUTCOMES: Final = {
    EnrollOutcome.ENROLLED: pb.ENROLL_OUTCOME_ENROLLED,
    EnrollOutcome.ALREADY_ENROLLED: pb.ENROLL_OUTCOME_ALREADY_ENROLLED,
    EnrollOutcome.REPLACED: pb.ENROLL_OUTCOME_REPLACED,
    EnrollOutcome.SKIPPED: pb.ENROLL_OUTCOME_SKIPPED,
    EnrollOutcome.QUARANTINED: pb.ENROLL_OUTCOME_QUARANTINED,
}
_MODES: Final = {
    pb.ENROLL_MODE_UNSPECIFIED: EnrollMode.INSERT,
    pb.ENROLL_MODE_INSERT: EnrollMode.INSERT,
    pb.ENROLL_MODE_UPSERT: EnrollMode.UPSERT,
    pb.ENROLL_MODE_SKIP_EXISTING: EnrollMode.SKIP_EXISTING,
}
_NOTHING_SAID: Final = NewIdentity()
_COPIES: Final = 4
"""Times that templates are in memory while they are under way: as they came, at unit length,
and on the pages of the database."""


class Enrolling:
    """Enrols what requests ask for.

    Args:
        database: All galleries.
        extractor: Makes templates of images.
        streams_max: How many streams are served at a time.
    """

    def __init__(self, database: Database, extractor: Extractor, streams_max: int) -> None:
        self._database = database
        self._extractor = extractor
        self._streams = Streams[pb.StreamEnrollFacesRequest, pb.StreamEnrollFacesResponse](
            Method(
                answer_type=pb.StreamEnrollFacesResponse,
                work=self._work,
                begin=self._begin,
                items_max=limits.STREAM_ENROLLED_ITEMS_MAX,
                size=_size,
            ),
            streams_max,
        )

    def stream(
        self, items: Iterator[pb.StreamEnrollFacesRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.StreamEnrollFacesResponse]:
        """Enrols the items of a stream: templates gather in commits, images in threads."""
        return self._streams.run(items, context)

    def face(self, request: pb.EnrollFaceRequest, deadline: float | None) -> pb.EnrollFaceResponse:
        """Adds a face, from an image or a vector."""
        gallery, identity_id = self._find(request.identity)
        mode = _mode(request.mode)
        match request.WhichOneof("content"):
            case "template":
                return _enrolled(gallery, gallery.enroll(_template_face(request, gallery), mode))
            case "image":
                new = _new_face(request, identity_id, request.image, np.empty(0, np.float32))
                # What is there already need not be looked at again: a repeat costs no embedding.
                known = gallery.foresee_enrollment(new, mode)
                if known is None:
                    new = self._extracted(gallery, request, new, deadline)
                    known = gallery.enroll(new, mode)
                return _enrolled(gallery, known)
            case _:
                raise _no_content()

    def loose(
        self, request: pb.EnrollLooseFacesRequest, deadline: float | None
    ) -> pb.EnrollLooseFacesResponse:
        """Adds every face of an image, or a vector, without an identity."""
        gallery = self._database.gallery(names.parse_gallery(request.gallery))
        content = request.WhichOneof("content")
        if content is None:
            raise _no_content()
        given = request.image if content == "image" else request.template.vector
        new = NewLooseFaces(
            vectors=(),
            content_sha256=hashlib.sha256(given).digest(),
            source=request.source,
            request_id=request.request_id,
        )
        if content == "template":
            vectors = [convert.vector(request.template, gallery.model)]
            return _enrolled_loose(gallery, gallery.loose.enroll(replace(new, vectors=vectors)))
        answer = gallery.loose.recall(new)
        if answer is None:
            options = ExtractOptions(bulk=request.bulk, deadline=deadline)
            found = self._extractor.extract(request.image, gallery.record, options).faces
            vectors = [face.vector for face in found if face.vector is not None]
            answer = gallery.loose.enroll(replace(new, vectors=vectors, extracted=found))
        return _enrolled_loose(gallery, answer)

    def _find(self, name: str) -> tuple[Gallery, str]:
        gallery_id, identity_id = names.parse_identity(name)
        return self._database.gallery(gallery_id), identity_id

    def _extracted(
        self,
        gallery: Gallery,
        request: pb.EnrollFaceRequest,
        new: NewFace,
        deadline: float | None,
    ) -> NewFace:
        options = ExtractOptions(
            choice=choice_of_one(request.face_selection), bulk=request.bulk, deadline=deadline
        )
        found = self._extractor.extract(request.image, gallery.record, options)
        (face,) = chosen_faces(found, options.choice)
        assert face.vector is not None
        return replace(new, vector=face.vector, extracted=face, detected_count=len(found.faces))

    def _work(self, item: pb.StreamEnrollFacesRequest, deadline: float | None) -> Fields:
        if item.WhichOneof("item") == "loose":
            return {"loose": self.loose(item.loose, deadline)}
        return {"response": self.face(item.request, deadline)}

    def _begin(self, item: pb.StreamEnrollFacesRequest) -> Pending | None:
        """Begins what needs no embedding: the gallery's writer takes it with its next commit."""
        match item.WhichOneof("item"):
            case "templates":
                gallery = self._database.gallery(names.parse_gallery(item.templates.gallery))
                batch = _batch(item.templates, gallery.model)
                return Pending(
                    gallery.bulk.templates(batch), partial(_batch_fields, gallery.record.id)
                )
            case "request" if item.request.WhichOneof("content") == "template":
                gallery, _ = self._find(item.request.identity)
                new = _template_face(item.request, gallery)
                result = gallery.bulk.faces([new], _mode(item.request.mode))
                return Pending(result, lambda answers: _face_fields(gallery, answers))
            case None:
                raise InvalidArgumentError("the item asks for nothing", {"field": "item"})
        return None


def _size(item: pb.StreamEnrollFacesRequest) -> int:
    size = item.ByteSize()
    return _COPIES * size if item.WhichOneof("item") == "templates" else size


def _mode(mode: "pb.EnrollMode.ValueType") -> EnrollMode:
    known = _MODES.get(mode)
    if known is None:
        raise InvalidArgumentError(f"{mode} is no mode of enrolment", {"field": "mode"})
    return known


def _no_content() -> InvalidArgumentError:
    return InvalidArgumentError("give an image or a template to enrol", {"field": "content"})


def _new_face(
    request: pb.EnrollFaceRequest, identity_id: str, content: bytes, vector: Vector
) -> NewFace:
    creation = convert.new_identity(request.new_identity) if request.allow_missing else None
    return NewFace(
        identity_id=identity_id,
        vector=vector,
        content_sha256=hashlib.sha256(content).digest(),
        face_id=request.face_id,
        source=request.source,
        new_identity=creation,
        request_id=request.request_id,
    )


def _template_face(request: pb.EnrollFaceRequest, gallery: Gallery) -> NewFace:
    _, identity_id = names.parse_identity(request.identity)
    vector = convert.vector(request.template, gallery.model)
    return _new_face(request, identity_id, request.template.vector, vector)


def _batch(message: pb.EnrollTemplatesRequest, model: ModelIdentity) -> TemplateBatch:
    check_same_model(message.model, model)
    row_bytes = 4 * model.dimension
    if len(message.vectors) % row_bytes:
        raise InvalidVectorError(
            f"the vectors have {len(message.vectors)} bytes, no multiple of {row_bytes}",
            {"field": "vectors", "expected_bytes": str(row_bytes)},
        )
    rows = np.frombuffer(message.vectors, dtype="<f4").reshape(-1, model.dimension)
    return TemplateBatch(
        identity_ids=list(message.identity_ids),
        vectors=rows,
        face_ids=list(message.face_ids),
        sources=list(message.sources),
        said=_said(message),
        create=message.allow_missing,
        mode=_mode(message.mode),
        request_id=message.request_id,
    )


def _said(message: pb.EnrollTemplatesRequest) -> Sequence[NewIdentity]:
    """What is said of the rows' identities; rows of which the same is said share it."""
    count = len(message.identity_ids)
    keys = [column.key for column in message.labels]
    columns: list[Sequence[str]] = [list(column.values) for column in message.labels]
    given = [list(message.display_names), list(message.metadata), *columns]
    if not any(given):
        return ()
    for column in given:
        if column and len(column) != count:
            raise InvalidArgumentError(
                f"a column has {len(column)} values for {count} rows", {"field": "templates"}
            )
    full = [column or [""] * count for column in given]
    known: dict[tuple[str, ...], NewIdentity] = {}
    said = []
    for row in zip(*full, strict=True):
        one = known.get(row)
        if one is None:
            name, metadata, *values = row
            labels = {key: value for key, value in zip(keys, values, strict=True) if value}
            one = known[row] = NewIdentity(name, labels, _metadata(metadata))
        said.append(one)
    return said


def _metadata(text: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArgumentError(
            f"the metadata is no JSON object: {error}", {"field": "metadata"}
        ) from error


def _batch_fields(gallery_id: str, answer: BatchAnswer) -> Fields:
    numbers = {outcome: int(number) for outcome, number in _OUTCOMES.items()}
    response = pb.EnrollTemplatesResponse(
        outcomes=bytes([numbers[one] if one else 0 for one in answer.outcomes]),
        created_identity_count=answer.created_identity_count,
    )
    for row, error in sorted(answer.errors.items()):
        response.errors.add(row=row, error=status_of(error))
    for row, gated in sorted(answer.gated.items()):
        response.findings.add(
            row=row,
            findings=convert_gate.findings(gallery_id, gated.findings),
            quarantined_face=convert_gate.quarantine_name(gallery_id, gated.quarantine_number),
        )
    return {"templates": response}


def _face_fields(gallery: Gallery, answers: Sequence[Answer]) -> Fields:
    (answer,) = answers
    if isinstance(answer, IndexerError):
        raise answer
    return {"response": _enrolled(gallery, answer)}


def _enrolled(gallery: Gallery, answer: Enrollment) -> pb.EnrollFaceResponse:
    face = None
    if answer.face is not None:
        face = convert.face(gallery.record.id, answer.identity_id, answer.face, None)
    return pb.EnrollFaceResponse(
        face=face,
        outcome=_OUTCOMES[answer.outcome],
        identity_created=answer.identity_created,
        detected_face_count=answer.detected_count,
        findings=convert_gate.findings(gallery.record.id, answer.findings),
        quarantined_face=convert_gate.quarantine_name(gallery.record.id, answer.quarantine_number),
    )


def _enrolled_loose(gallery: Gallery, answer: LooseEnrollment) -> pb.EnrollLooseFacesResponse:
    return pb.EnrollLooseFacesResponse(
        faces=[
            convert.face(gallery.record.id, owned.identity_id, owned.face, None)
            for owned in answer.faces
        ],
        outcome=_OUTCOMES[answer.outcome],
        gated_faces=[
            pb.GatedFace(
                detection=convert.detection(gated.face),
                findings=convert_gate.findings(gallery.record.id, gated.findings),
                face=(
                    names.face_name(gallery.record.id, "", gated.face.id)
                    if gated.face.ordinal >= 0
                    else ""
                ),
                quarantined_face=convert_gate.quarantine_name(
                    gallery.record.id, gated.quarantine_number
                ),
            )
            for gated in answer.gated
        ],
    )
