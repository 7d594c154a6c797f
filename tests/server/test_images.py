"""Images over the wire, with a real embedding process."""

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image
from wire import Api, read_pages, refusal_of, refused

from visagedb.v1 import galleries_pb2, identities_pb2, search_pb2, types_pb2
from visagedb_server.server import Server

GALLERY = "images"
FORMATS = ["bmp", "gif", "ico", "jpeg", "png", "tiff", "webp"]
ONLY = types_pb2.FACE_SELECTION_ONLY


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[Api]:
    api = Api(server.address)
    api.galleries.CreateGallery(galleries_pb2.CreateGalleryRequest(gallery_id=GALLERY))
    yield api
    request = galleries_pb2.DeleteGalleryRequest(name=f"galleries/{GALLERY}")
    api.galleries.DeleteGallery(request)
    api.close()


@pytest.fixture(scope="module")
def einstein(shared_faces: Path) -> bytes:
    return (shared_faces / "formats" / "einstein.png").read_bytes()


def embed(api: Api, image: bytes, **fields: object) -> search_pb2.EmbedFacesResponse:
    return api.search.EmbedFaces(search_pb2.EmbedFacesRequest(image=image, **fields))


def only_vector(api: Api, image: bytes) -> np.ndarray:
    [face] = embed(api, image, face_selection=ONLY).faces
    return np.frombuffer(face.template.vector, "<f4")


def enroll(api: Api, image: bytes, person: str = "albert", **fields: object) -> object:
    request = identities_pb2.EnrollFaceRequest(
        identity=f"galleries/{GALLERY}/identities/{person}",
        image=image,
        **{"allow_missing": True, **fields},
    )
    return api.identities.EnrollFace(request)


def identify(api: Api, image: bytes, **fields: object) -> search_pb2.IdentifyResponse:
    request = search_pb2.IdentifyRequest(
        gallery=f"galleries/{GALLERY}", probe=types_pb2.Probe(image=image), **fields
    )
    return api.search.Identify(request)


def png_claiming(width: int, height: int) -> bytes:
    """A valid PNG of a few kilobytes that decodes to many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    row = bytes(1 + width // 8)
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def refusal_everywhere(api: Api, image: bytes, code: str, reason: str) -> None:
    """Every way in answers with the same error, and the gallery stays as it was."""
    before = api.gallery(GALLERY)
    for call in (
        lambda: embed(api, image),
        lambda: enroll(api, image, "nobody"),
        lambda: identify(api, image),
        lambda: api.search.Verify(
            search_pb2.VerifyRequest(
                probe=types_pb2.Probe(image=image), other=types_pb2.Probe(image=image)
            )
        ),
    ):
        with refused(code, reason):
            call()
    assert api.gallery(GALLERY) == before
    with refused("NOT_FOUND", "IDENTITY_NOT_FOUND"):
        api.identity("nobody", GALLERY)


def still_answers(api: Api, einstein: bytes) -> None:
    assert len(embed(api, einstein, face_selection=ONLY).faces) == 1


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_shows_the_same_face(
    api: Api, shared_faces: Path, einstein: bytes, kind: str
) -> None:
    image = (shared_faces / "formats" / f"einstein.{kind}").read_bytes()
    cosine = float(only_vector(api, image) @ only_vector(api, einstein))
    assert cosine >= 0.98


def test_a_grey_map_gives_the_vector_of_its_pixels(api: Api, einstein: bytes) -> None:
    grey = Image.open(io.BytesIO(einstein)).convert("L")
    streams = {kind: io.BytesIO() for kind in ("PNG", "PPM")}
    for kind, stream in streams.items():
        grey.save(stream, kind)
    png, image = (stream.getvalue() for stream in streams.values())
    assert image.startswith(b"P5")
    np.testing.assert_allclose(only_vector(api, image), only_vector(api, png), atol=1e-6)
    with refused("INVALID_ARGUMENT", "CORRUPT_IMAGE"):
        embed(api, image[:-1])


@pytest.mark.parametrize("name", ["corrupted.png", "truncated.jpg", "empty.png"])
def test_a_broken_image_is_refused(
    api: Api, shared_faces: Path, einstein: bytes, name: str
) -> None:
    image = (shared_faces / "broken" / name).read_bytes()
    with pytest.raises(grpc.RpcError) as caught:
        embed(api, image)
    refusal = refusal_of(caught.value)
    assert refusal.code == "INVALID_ARGUMENT"
    assert refusal.reason in {"CORRUPT_IMAGE", "UNSUPPORTED_IMAGE_FORMAT", "EMPTY_IMAGE"}
    refusal_everywhere(api, image, refusal.code, refusal.reason)
    still_answers(api, einstein)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "EMPTY_IMAGE"),
        (b"this is no image, whatever its name", "UNSUPPORTED_IMAGE_FORMAT"),
        (b"\xff\xd8\xff\xe0" + b"junk" * 100, "CORRUPT_IMAGE"),
        (png_claiming(30_000, 30_000), "IMAGE_TOO_LARGE"),
        (bytes(21 << 20), "IMAGE_TOO_LARGE"),
    ],
    ids=["empty", "text", "junk behind a JPEG's first bytes", "bomb", "too many bytes"],
)
def test_what_is_no_usable_image_is_refused(
    api: Api, einstein: bytes, image: bytes, reason: str
) -> None:
    refusal_everywhere(api, image, "INVALID_ARGUMENT", reason)
    still_answers(api, einstein)


def test_an_image_without_a_face_is_refused_where_one_is_needed(
    api: Api, shared_faces: Path, einstein: bytes
) -> None:
    dogs = (shared_faces / "groups" / "dogs.jpg").read_bytes()
    corner = Image.open(io.BytesIO(einstein)).convert("RGB").crop((0, 0, 40, 40))
    dot = Image.new("RGB", (1, 1), "white")
    for image in (dogs, encoded(corner), encoded(dot)):
        refusal_everywhere(api, image, "INVALID_ARGUMENT", "NO_FACE")
        found = api.search.DetectFaces(search_pb2.DetectFacesRequest(image=image))
        assert not found.faces
        assert found.image_width > 0
    still_answers(api, einstein)


def test_several_faces_are_refused_where_one_is_expected(
    api: Api, shared_faces: Path, einstein: bytes
) -> None:
    crowd = (shared_faces / "groups" / "bald_guys.jpg").read_bytes()
    count = len(api.search.DetectFaces(search_pb2.DetectFacesRequest(image=crowd)).faces)
    assert count > 1
    before = api.gallery(GALLERY)
    with refused("INVALID_ARGUMENT", "SEVERAL_FACES") as refusal:
        enroll(api, crowd, "nobody")
    assert refusal.metadata["faces"] == str(count)
    with refused("INVALID_ARGUMENT", "SEVERAL_FACES"):
        embed(api, crowd, face_selection=ONLY)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "face_selection"):
        enroll(api, crowd, "nobody", face_selection=types_pb2.FACE_SELECTION_ALL)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "face_selection"):
        embed(api, crowd, face_selection=77)
    assert api.gallery(GALLERY) == before
    assert len(embed(api, crowd).faces) == count
    assert len(identify(api, crowd).identifications) == count
    largest = embed(api, crowd, face_selection=types_pb2.FACE_SELECTION_LARGEST).faces
    central = embed(api, crowd, face_selection=types_pb2.FACE_SELECTION_CENTRAL).faces
    assert len(largest) == len(central) == 1
    still_answers(api, einstein)


def test_a_person_is_enrolled_found_and_verified(
    api: Api, shared_faces: Path, einstein: bytes
) -> None:
    first = enroll(api, einstein, source="einstein.png")
    assert first.outcome == identities_pb2.ENROLL_OUTCOME_ENROLLED
    assert first.detected_face_count == 1
    assert first.face.detection.detection_score > 0.5
    assert first.face.content_sha256 == hashlib.sha256(einstein).digest()
    again = enroll(api, einstein)
    assert again.outcome == identities_pb2.ENROLL_OUTCOME_ALREADY_ENROLLED
    assert (again.face, again.detected_face_count) == (first.face, 0)
    jpeg = (shared_faces / "formats" / "einstein.jpeg").read_bytes()
    response = identify(api, jpeg)
    assert (response.image_width, response.image_height) == Image.open(io.BytesIO(jpeg)).size
    [answer] = response.identifications
    assert answer.candidates[0].identity == f"galleries/{GALLERY}/identities/albert"
    assert answer.decision == types_pb2.DECISION_MATCH
    assert answer.basis.source == types_pb2.THRESHOLD_SOURCE_MODEL
    verified = api.search.Verify(
        search_pb2.VerifyRequest(
            probe=types_pb2.Probe(image=jpeg), identity=f"galleries/{GALLERY}/identities/albert"
        )
    )
    assert verified.decision == types_pb2.DECISION_MATCH
    assert verified.face == first.face.name
    stored = api.identities.GetFace(
        identities_pb2.GetFaceRequest(name=first.face.name, include_template=True)
    ).face
    np.testing.assert_allclose(
        np.frombuffer(stored.template.vector, "<f4"), only_vector(api, einstein), atol=1e-4
    )
    api.identities.DeleteIdentity(
        identities_pb2.DeleteIdentityRequest(name=f"galleries/{GALLERY}/identities/albert")
    )
    assert not identify(api, jpeg).identifications[0].candidates


def test_a_request_that_is_repeated_is_not_read_again(api: Api, einstein: bytes) -> None:
    first = enroll(api, einstein, "r", request_id="once")
    assert enroll(api, einstein, "r", request_id="once") == first
    with refused("ALREADY_EXISTS", "REQUEST_ID_REUSED"):
        enroll(api, einstein, "other", request_id="once")
    with refused("NOT_FOUND", "IDENTITY_NOT_FOUND"):
        enroll(api, einstein, "missing", allow_missing=False)


def test_an_image_for_a_gallery_of_another_model_is_refused(api: Api, einstein: bytes) -> None:
    api.create_gallery("elsewhere", dimension=8)
    with refused("FAILED_PRECONDITION", "MODEL_NOT_AVAILABLE"):
        embed(api, einstein, gallery="galleries/elsewhere")
    with refused("FAILED_PRECONDITION", "MODEL_NOT_AVAILABLE"):
        api.identities.EnrollFace(
            identities_pb2.EnrollFaceRequest(
                identity="galleries/elsewhere/identities/x", image=einstein, allow_missing=True
            )
        )
    api.galleries.DeleteGallery(galleries_pb2.DeleteGalleryRequest(name="galleries/elsewhere"))


def test_pages_of_enrolled_images_have_their_detections(api: Api, einstein: bytes) -> None:
    enroll(api, einstein, "paged")
    request = identities_pb2.ListFacesRequest(parent=f"galleries/{GALLERY}/identities/paged")
    faces = [face for page in read_pages(api.identities.ListFaces, request) for face in page.faces]
    assert [face.detection.box.width > 20 for face in faces] == [True]
    assert faces[0].detection.quality.score > 0
