"""SearchService."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from visagedb.v1 import search_pb2, search_pb2_grpc, types_pb2
from visagedb_indexer import limits, validation
from visagedb_indexer.choice import Choice
from visagedb_indexer.database import Database
from visagedb_indexer.errors import (
    InvalidArgumentError,
    LimitExceededError,
    ModelMismatchError,
)
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import SearchAnswer, SearchOptions
from visagedb_indexer.operating_points import Trial
from visagedb_indexer.store import GalleryRecord
from visagedb_indexer.values import ExtractedFace, Extraction, FaceScope, ModelIdentity, Vector
from visagedb_server import convert, names
from visagedb_server.calls import deadline_of
from visagedb_server.decision import decide, false_positive_probability, threshold_for
from visagedb_server.extraction import (
    ExtractOptions,
    Extractor,
    choice_of_many,
    choice_of_one,
    chosen_faces,
)
from visagedb_server.services.streams import Fields, Method, Streams


@dataclass(frozen=True, slots=True, eq=False)
class _ProbeFace:
    """A face to search for: its vector, and where it was found."""

    vector: Vector
    found: ExtractedFace | None = None

    def detection(self) -> types_pb2.DetectedFace | None:
        return None if self.found is None else convert.detected(self.found)


class SearchService(search_pb2_grpc.SearchServiceServicer):
    """Identification, verification, detection and embedding."""

    def __init__(self, database: Database, extractor: Extractor, streams_max: int) -> None:
        self._database = database
        self._extractor = extractor
        self._streams = Streams[
            search_pb2.StreamIdentifyRequest, search_pb2.StreamIdentifyResponse
        ](Method(search_pb2.StreamIdentifyResponse, self._identify_item), streams_max)

    def Identify(  # noqa: N802
        self, request: search_pb2.IdentifyRequest, context: grpc.ServicerContext
    ) -> search_pb2.IdentifyResponse:
        """Searches a gallery for the faces of a probe."""
        return self._identify(request, deadline_of(context))

    def StreamIdentify(  # noqa: N802
        self,
        request_iterator: Iterator[search_pb2.StreamIdentifyRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[search_pb2.StreamIdentifyResponse]:
        """Answers each probe as Identify does."""
        return self._streams.run(request_iterator, context)

    def _identify_item(
        self, item: search_pb2.StreamIdentifyRequest, deadline: float | None
    ) -> Fields:
        return {"response": self._identify(item.request, deadline)}

    def _identify(
        self, request: search_pb2.IdentifyRequest, deadline: float | None
    ) -> search_pb2.IdentifyResponse:
        gallery = self._database.gallery(names.parse_gallery(request.gallery))
        options = SearchOptions(
            top_k=request.top_k or limits.TOP_K_DEFAULT,
            filter=request.filter,
            min_score=request.min_score if request.HasField("min_score") else None,
            exact=request.exact,
            deadline=deadline,
        )
        trial = Trial("identify", gallery.calibrations.searched_identities(request.filter))
        basis = threshold_for(request.operating_point, gallery, self._extractor, trial)
        faces, width, height = self._probe_faces(request.probe, gallery, deadline)
        _check_size(len(faces), options.top_k)
        response = search_pb2.IdentifyResponse(image_width=width, image_height=height)
        answers = gallery.identify_many([face.vector for face in faces], options)
        for face, answer in zip(faces, answers, strict=True):
            response.identifications.append(_identification(gallery, face, answer, basis))
            if answer.candidates:
                _set_probability(
                    response.identifications[-1],
                    false_positive_probability(
                        answer.candidates[0].score, gallery, self._extractor, trial
                    ),
                )
            response.gallery_generation = answer.generation
            response.index_generation = answer.index_generation
            response.exact = answer.exact
        return response

    def FindFaces(  # noqa: N802
        self, request: search_pb2.FindFacesRequest, context: grpc.ServicerContext
    ) -> search_pb2.FindFacesResponse:
        """The stored faces that are most like a probe."""
        gallery_id = names.parse_gallery(request.gallery)
        gallery = self._database.gallery(gallery_id)
        wanted = request.top_k or limits.TOP_K_DEFAULT
        validation.check_top_k(wanted)
        probe = self._probe_face(request.probe, gallery, deadline_of(context))
        found = gallery.loose.find(
            probe.vector,
            # One more, because a stored probe finds itself.
            count=min(wanted + 1, limits.TOP_K_MAX),
            scope=convert.scope(request.scope, FaceScope.ALL),
            filter_text=request.filter,
            min_score=request.min_score if request.HasField("min_score") else None,
            deadline=deadline_of(context),
        )
        response = search_pb2.FindFacesResponse()
        for one in found:
            name = names.face_name(gallery_id, one.identity_id, one.face.id)
            if name != request.probe.face and len(response.faces) < wanted:
                response.faces.add(face=name, score=one.score, source=one.face.source)
        return response

    def Verify(  # noqa: N802
        self, request: search_pb2.VerifyRequest, context: grpc.ServicerContext
    ) -> search_pb2.VerifyResponse:
        """Compares two faces, or a face with an identity."""
        reference = request.WhichOneof("reference")
        if reference is None:
            raise InvalidArgumentError(
                "give another probe or an identity to compare with", {"field": "reference"}
            )
        if reference == "identity":
            return self._verify_identity(request, context)
        gallery = None
        if request.gallery:
            gallery = self._database.gallery(names.parse_gallery(request.gallery))
        trial = Trial("verify")
        basis = threshold_for(request.operating_point, gallery, self._extractor, trial)
        one = self._probe_face(request.probe, gallery, deadline_of(context))
        other = self._probe_face(request.other, gallery, deadline_of(context))
        score = max(-1.0, min(1.0, float(one.vector @ other.vector)))
        return search_pb2.VerifyResponse(
            decision=decide(score, basis),
            basis=basis,
            score=score,
            probe_face=one.detection(),
            other_face=other.detection(),
            false_match_probability=false_positive_probability(
                score, gallery, self._extractor, trial
            ),
            gallery_generation=gallery.counters.generation if gallery else 0,
        )

    def _verify_identity(
        self, request: search_pb2.VerifyRequest, context: grpc.ServicerContext
    ) -> search_pb2.VerifyResponse:
        gallery_id, identity_id = names.parse_identity(request.identity)
        if request.gallery and names.parse_gallery(request.gallery) != gallery_id:
            raise InvalidArgumentError(
                "the identity belongs to another gallery", {"field": "identity"}
            )
        gallery = self._database.gallery(gallery_id)
        trial = Trial.of_identity(gallery.record.fusion, gallery.identity(identity_id).face_count)
        basis = threshold_for(request.operating_point, gallery, self._extractor, trial)
        generation = gallery.counters.generation
        probe = self._probe_face(request.probe, gallery, deadline_of(context))
        score, best = gallery.compare(probe.vector, identity_id)
        return search_pb2.VerifyResponse(
            decision=decide(score, basis),
            basis=basis,
            score=score,
            probe_face=probe.detection(),
            face=names.face_name(gallery_id, identity_id, best.id),
            false_match_probability=false_positive_probability(
                score, gallery, self._extractor, trial
            ),
            gallery_generation=generation,
        )

    def DetectFaces(  # noqa: N802
        self, request: search_pb2.DetectFacesRequest, context: grpc.ServicerContext
    ) -> search_pb2.DetectFacesResponse:
        """Finds the faces of an image; none is an answer, not an error."""
        options = ExtractOptions(embed=False, deadline=deadline_of(context))
        found = self._extractor.detect(request.image, options)
        return search_pb2.DetectFacesResponse(
            faces=[convert.detected(face) for face in found.faces],
            image_width=found.width,
            image_height=found.height,
        )

    def EmbedFaces(  # noqa: N802
        self, request: search_pb2.EmbedFacesRequest, context: grpc.ServicerContext
    ) -> search_pb2.EmbedFacesResponse:
        """Makes the templates of the faces of an image; stores nothing."""
        options = ExtractOptions(
            choice=choice_of_many(request.face_selection),
            bulk=request.bulk,
            deadline=deadline_of(context),
        )
        if request.gallery:
            record = self._database.gallery(names.parse_gallery(request.gallery)).record
            model = record.model
            found = self._extractor.extract(request.image, record, options)
        else:
            model = self._extractor.default_model()
            found = self._extractor.extract_default(request.image, options)
        response = search_pb2.EmbedFacesResponse(
            image_width=found.width, image_height=found.height, model=convert.model(model)
        )
        for face in chosen_faces(found, options.choice):
            assert face.vector is not None
            response.faces.add(
                face=convert.detected(face), template=convert.template(face.vector, model)
            )
        return response

    def _probe_faces(
        self, probe: types_pb2.Probe, gallery: Gallery, deadline: float | None
    ) -> tuple[list[_ProbeFace], int, int]:
        if probe.WhichOneof("source") != "image":
            return [self._probe_face(probe, gallery, deadline)], 0, 0
        choice = choice_of_many(probe.face_selection)
        found = self._read(probe.image, gallery.record, choice, deadline)
        faces = [_from_image(face) for face in chosen_faces(found, choice)]
        return faces, found.width, found.height

    def _probe_face(
        self, probe: types_pb2.Probe, gallery: Gallery | None, deadline: float | None
    ) -> _ProbeFace:
        model = gallery.model if gallery else self._extractor.default_model()
        match probe.WhichOneof("source"):
            case "image":
                choice = choice_of_one(probe.face_selection)
                record = gallery.record if gallery else None
                found = self._read(probe.image, record, choice, deadline)
                return _from_image(chosen_faces(found, choice)[0])
            case "template":
                vector = convert.vector(probe.template, model)
                return _ProbeFace(validation.unit_vector(vector, model.dimension))
            case "face":
                return self._stored_face(probe.face, model)
            case _:
                raise InvalidArgumentError(
                    "the probe is empty: give an image, a template or a face", {"field": "probe"}
                )

    def _stored_face(self, name: str, wanted: ModelIdentity) -> _ProbeFace:
        gallery_id, identity_id, face_id = names.parse_face(name)
        source = self._database.gallery(gallery_id)
        if source.model != wanted:
            raise ModelMismatchError(
                f"the face was made by {source.model.name}@{source.model.version}, and is to be "
                f"compared with {wanted.name}@{wanted.version}; they or their settings differ",
                {"gallery_model": wanted.name, "vector_model": source.model.name},
            )
        _, vector = source.face(identity_id, face_id, with_vector=True)
        assert vector is not None
        return _ProbeFace(vector)

    def _read(
        self,
        image: bytes,
        record: GalleryRecord | None,
        choice: Choice,
        deadline: float | None,
    ) -> Extraction:
        options = ExtractOptions(choice=choice, deadline=deadline)
        if record is None:
            return self._extractor.extract_default(image, options)
        return self._extractor.extract(image, record, options)


def _check_size(faces: int, top_k: int) -> None:
    if faces > 1 and faces * top_k > limits.CANDIDATES_PER_RESPONSE_MAX:
        raise LimitExceededError(
            f"{faces} faces with {top_k} candidates each do not fit into one answer; ask for "
            "fewer, or select one face",
            {"field": "top_k", "limit": str(limits.CANDIDATES_PER_RESPONSE_MAX)},
        )


def _from_image(face: ExtractedFace) -> _ProbeFace:
    assert face.vector is not None
    return _ProbeFace(face.vector, face)


def _set_probability(answer: search_pb2.Identification, probability: float | None) -> None:
    if probability is not None:
        answer.false_positive_probability = probability


def _identification(
    gallery: Gallery, face: _ProbeFace, answer: SearchAnswer, basis: types_pb2.DecisionBasis
) -> search_pb2.Identification:
    best = answer.candidates[0].score if answer.candidates else -math.inf
    return search_pb2.Identification(
        face=face.detection(),
        decision=decide(best, basis),
        basis=basis,
        candidates=[
            convert.candidate(gallery.record.id, candidate) for candidate in answer.candidates
        ],
    )
