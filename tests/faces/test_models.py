"""The networks against OpenCV's own, against stored vectors, and on photographs of people."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from sample_photos import SamplePhotos

from visagedb_indexer.errors import CorruptImageError, EmptyImageError
from visagedb_indexer.faces.align import align, landmark_points, similarity_transform
from visagedb_indexer.faces.cards import TEMPLATES
from visagedb_indexer.faces.decode import Pixels, decode
from visagedb_indexer.faces.detect import Detector
from visagedb_indexer.faces.embed import Embedder
from visagedb_indexer.faces.pipeline import STAGES, FacePipeline, load_pipeline
from visagedb_indexer.faces.registry import ModelRegistry
from visagedb_indexer.values import ExtractedFace, Extraction, Landmarks, Point

GOLDEN = Path(__file__).parents[1] / "golden" / "faces"
TEMPLATE = TEMPLATES["arcface-112"]
GOLDEN_COSINE_MIN = 0.9999

MOBILE_FACE_NET = """
schema = 1
name = "mobilefacenet"
kind = "embedder"
version = "1"
licence = "Apache-2.0"
source = "a network for tests"
dimension = 128

[weights]
file = "MobileFaceNet.onnx"
sha256 = "b7120c095d60094f28a4a54ba6a8bf51b297a6273fb40ef6350dfec1f63d9507"

[weights.data_files]
"MobileFaceNet.onnx.data" = "0b6400e57e9973bed03816c500eb0c2819c623634cf5ea005e6508e95af883f6"

[input]
width = 112
height = 112
channels = "RGB"
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]

[alignment]
template = "arcface-112"
"""


def faces_of(pipeline: FacePipeline, content: bytes) -> tuple[ExtractedFace, ...]:
    (result,) = pipeline.extract([content])
    assert isinstance(result, Extraction)
    return result.faces


def encode(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def embedder(registry: ModelRegistry) -> Embedder:
    return Embedder(registry.get("sface"))


@pytest.fixture(scope="module")
def detector(registry: ModelRegistry) -> Detector:
    return Detector(registry.get("yunet"))


@pytest.fixture(scope="module")
def portraits(shared_faces: Path) -> list[Pixels]:
    files = sorted((shared_faces / "lfw-devtest" / "images").glob("*/*_0001.jpg"))[::57]
    return [decode(path.read_bytes()) for path in files]


class Oracle:
    """OpenCV's detector, alignment and embedder on the same files."""

    def __init__(self, registry: ModelRegistry) -> None:
        self.cv2: Any = pytest.importorskip("cv2")
        yunet, sface = (str(registry.get(name).weights.path) for name in ("yunet", "sface"))
        self.detector = self.cv2.FaceDetectorYN.create(yunet, "", (320, 320), 0.6, 0.3, 5000)
        self.recogniser = self.cv2.FaceRecognizerSF.create(sface, "")

    def detect(self, pixels: Pixels) -> np.ndarray:
        self.detector.setInputSize((pixels.shape[1], pixels.shape[0]))
        faces = self.detector.detect(np.ascontiguousarray(pixels[:, :, ::-1]))[1]
        if faces is None:
            return np.empty((0, 15), dtype=np.float32)
        found: np.ndarray = faces[np.argsort(-faces[:, 2] * faces[:, 3])]
        return found

    def vector(self, pixels: Pixels, face: np.ndarray) -> np.ndarray:
        crop = self.recogniser.alignCrop(np.ascontiguousarray(pixels[:, :, ::-1]), face)
        found = self.recogniser.feature(crop)[0]
        unit: np.ndarray = found / np.linalg.norm(found)
        return unit


@pytest.fixture(scope="module")
def oracle(registry: ModelRegistry) -> Oracle:
    return Oracle(registry)


@pytest.fixture(scope="module")
def uncentred(registry: ModelRegistry) -> Embedder:
    import dataclasses

    return Embedder(dataclasses.replace(registry.get("sface"), centre=None))


def test_whole_way_agrees_with_opencv(
    portraits: list[Pixels], oracle: Oracle, detector: Detector, uncentred: Embedder
) -> None:
    cosines = []
    for pixels, faces in zip(portraits, detector.detect(portraits), strict=True):
        theirs = oracle.detect(pixels)
        # OpenCV has no second look: what it finds besides must be what failed ours.
        certain = [row for row in theirs if row[14] >= 0.87]
        assert len(certain) <= len(faces) <= len(theirs)
        box = faces[0].box
        assert np.abs(np.array([box.x, box.y, box.width, box.height]) - theirs[0, :4]).max() < 0.1
        assert np.abs(landmark_points(faces[0].landmarks).ravel() - theirs[0, 4:14]).max() < 0.1
        assert abs(faces[0].score - theirs[0, 14]) < 1e-3
        crop = align(pixels, faces[0].landmarks, TEMPLATE)
        cosines.append(float(uncentred.embed(crop[None])[0] @ oracle.vector(pixels, theirs[0])))
    assert min(cosines) >= 0.999


def test_large_faces_roughly_agree_with_opencv(
    photos: SamplePhotos, oracle: Oracle, detector: Detector, uncentred: Embedder
) -> None:
    for path in photos.people["Barack_Obama"]:
        pixels = decode(path.read_bytes())
        face = detector.detect([pixels])[0][0]
        row = np.zeros(15, dtype=np.float32)
        row[4:14] = landmark_points(face.landmarks).ravel()
        crop = align(pixels, face.landmarks, TEMPLATE)
        cosine = float(uncentred.embed(crop[None])[0] @ oracle.vector(pixels, row))
        # OpenCV skips pixels where a face is several times larger than the crop; averaging
        # them instead raises the similarity of the same person's photographs.
        assert cosine >= 0.96, path


def test_batches_change_nothing(portraits: list[Pixels], detector: Detector) -> None:
    together = detector.detect(portraits[:9])
    for pixels, faces in zip(portraits, together, strict=False):
        (alone,) = detector.detect([pixels])
        assert len(alone) == len(faces)
        for one, other in zip(alone, faces, strict=True):
            assert abs(one.box.x - other.box.x) < 1e-2
            assert abs(one.score - other.score) < 1e-4


@pytest.mark.parametrize("name", ["obama.jpg", "obama2.jpg", "biden.jpg"])
def test_stored_vectors(name: str, photos: SamplePhotos, pipeline: FacePipeline) -> None:
    """Vectors in galleries outlive releases: the same photograph must keep its vector."""
    paths = {path.name: path for group in photos.people.values() for path in group}
    face = faces_of(pipeline, paths[name].read_bytes())[0]
    stored = np.load(GOLDEN / f"sface-{paths[name].stem}.npy", allow_pickle=False)
    assert float(face.vector @ stored) >= GOLDEN_COSINE_MIN


def test_people_are_told_apart(photos: SamplePhotos, pipeline: FacePipeline) -> None:
    enrolled = {
        name: np.stack([faces_of(pipeline, path.read_bytes())[0].vector for path in paths])
        for name, paths in photos.people.items()
    }
    for path, name in (*photos.probes, *photos.half_hidden[:1]):
        probe = faces_of(pipeline, path.read_bytes())[0].vector
        best = {person: float((vectors @ probe).max()) for person, vectors in enrolled.items()}
        assert max(best, key=best.__getitem__) == name
        assert best[name] > 0.401
    stranger = faces_of(pipeline, photos.stranger.read_bytes())[0].vector
    assert all(float((vectors @ stranger).max()) < 0.347 for vectors in enrolled.values())


def test_group_of_six(photos: SamplePhotos, pipeline: FacePipeline) -> None:
    faces = faces_of(pipeline, photos.group.read_bytes())
    assert len(faces) == 6
    areas = [face.box.width * face.box.height for face in faces]
    assert areas == sorted(areas, reverse=True)
    vectors = np.stack([face.vector for face in faces])
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    assert (vectors @ vectors.T - np.eye(6)).max() < 0.347


@pytest.mark.parametrize(
    ("name", "count"),
    [("2007_007763.jpg", 7), ("2008_002079.jpg", 6), ("2008_007676.jpg", 7), ("bald_guys.jpg", 24)],
)
def test_group_photographs(name: str, count: int, shared_faces: Path, detector: Detector) -> None:
    pixels = decode((shared_faces / "groups" / name).read_bytes())
    assert len(detector.detect([pixels])[0]) == count


def test_faces_that_fill_the_frame(shared_faces: Path, detector: Detector) -> None:
    for number in range(1, 41):
        with Image.open(shared_faces / "orl" / f"s{number}" / "1.pgm") as image:
            pixels = np.array(image.convert("RGB"))
        assert len(detector.detect([pixels])[0]) == 1


@pytest.mark.parametrize("side", [45, 90, 250, 900, 2400])
def test_faces_of_any_size(side: int, portraits: list[Pixels], detector: Detector) -> None:
    image = Image.fromarray(portraits[0]).resize((side, side))
    (faces,) = detector.detect([np.array(image)])
    assert len(faces) == 1
    assert abs(faces[0].box.x / side * 250 - detector.detect(portraits[:1])[0][0].box.x) < 12


def test_flip_and_centre(portraits: list[Pixels], detector: Detector, embedder: Embedder) -> None:
    faces = detector.detect(portraits[:10])
    crops = np.stack(
        [align(p, f[0].landmarks, TEMPLATE) for p, f in zip(portraits, faces, strict=False)]
    )
    plain, flipped = embedder.embed(crops), embedder.embed(crops, flip=True)
    mirrored = embedder.embed(crops[:, :, ::-1], flip=True)
    assert np.abs(flipped - mirrored).max() < 1e-4
    assert 0.8 < float((plain * flipped).sum(axis=1).min()) < 1.0
    assert embedder.embed(crops[:0]).shape == (0, 128)


def test_bfloat16_is_close(portraits: list[Pixels], registry: ModelRegistry) -> None:
    crops = np.stack([pixels[69:181, 69:181] for pixels in portraits[:10]])
    exact = Embedder(registry.get("sface")).embed(crops)
    rough = Embedder(registry.get("sface"), "bfloat16").embed(crops)
    assert float((exact * rough).sum(axis=1).min()) > 0.999


def test_second_embedder_by_its_card(
    tmp_path: Path, shared_models: Path, shared_faces: Path
) -> None:
    for name in ("MobileFaceNet.onnx", "MobileFaceNet.onnx.data"):
        (tmp_path / name).symlink_to(shared_models / name)
    (tmp_path / "card.toml").write_text(MOBILE_FACE_NET)
    registry = ModelRegistry([tmp_path / "card.toml"])
    registry.check(registry.get("mobilefacenet"))
    pipeline = load_pipeline(registry, "mobilefacenet")
    folder = shared_faces / "lfw-devtest" / "images"
    names = ["Abdullah_Gul/Abdullah_Gul_0013", "Abdullah_Gul/Abdullah_Gul_0014"]
    names += ["Al_Pacino/Al_Pacino_0001"]
    results = pipeline.extract([(folder / f"{name}.jpg").read_bytes() for name in names])
    vectors = np.stack([result.faces[0].vector for result in results])
    same, other = float(vectors[0] @ vectors[1]), float(vectors[0] @ vectors[2])
    assert same > 0.4 > other


def test_one_bad_image_fails_alone(photos: SamplePhotos, pipeline: FacePipeline) -> None:
    good = photos.people["Barack_Obama"][0].read_bytes()
    blank = encode(Image.new("RGB", (64, 64), (90, 90, 90)))
    results = pipeline.extract([b"", good, good[:5000], blank, good], embed=False)
    kinds = [type(result) for result in results]
    assert kinds == [EmptyImageError, Extraction, CorruptImageError, Extraction, Extraction]
    assert results[3].faces == ()
    assert results[1].faces[0].vector is None
    assert set(pipeline.stage_seconds) == set(STAGES)


def test_quality_falls_with_the_picture(photos: SamplePhotos, pipeline: FacePipeline) -> None:
    with Image.open(photos.people["Barack_Obama"][0]) as image:
        good = image.convert("RGB").resize((455, 568))

    def judge(image: Image.Image) -> tuple[float, tuple[str, ...]]:
        quality = faces_of(pipeline, encode(image))[0].quality
        return quality.score, quality.reasons

    score, reasons = judge(good)
    assert score > 0.9
    assert reasons == ()
    blurred, why = judge(good.filter(ImageFilter.GaussianBlur(5)))
    assert blurred < 0.4
    assert "BLURRED" in why
    small, why = judge(good.resize((68, 85)))
    assert small < 0.6
    assert "TOO_SMALL" in why
    dark, why = judge(good.point(lambda value: value * 0.1))
    assert dark < 0.4
    assert "TOO_DARK" in why


def test_quality_of_ordinary_portraits(portraits: list[Pixels], pipeline: FacePipeline) -> None:
    scores = [
        faces_of(pipeline, encode(Image.fromarray(pixels)))[0].quality.score for pixels in portraits
    ]
    assert float(np.median(scores)) > 0.8
    assert float(np.mean(np.array(scores) > 0.6)) > 0.8


def test_similarity_transform_recovers_what_was_done() -> None:
    points = np.array(TEMPLATE)
    angle, scale = 0.7, 2.5
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = points @ turn.T + (30, -12)
    found = similarity_transform(points, moved)
    assert np.abs(found - np.column_stack([turn, (30, -12)])).max() < 1e-9
    with pytest.raises(ValueError, match="coincide"):
        similarity_transform(np.zeros((5, 2)), points)


def test_alignment_of_nonsense_is_black() -> None:
    pixels = np.full((50, 50, 3), 200, dtype=np.uint8)
    nowhere = Landmarks(*(Point(5.0, 5.0) for _ in range(5)))
    outside = Landmarks(*(Point(1e6 + x, -1e6 + y) for x, y in TEMPLATE))
    for landmarks in (nowhere, outside):
        assert not align(pixels, landmarks, TEMPLATE).any()


def test_no_face_is_found_in_a_photograph_of_dogs(shared_faces: Path, detector: Detector) -> None:
    assert detector.detect([decode((shared_faces / "groups" / "dogs.jpg").read_bytes())]) == [[]]


def test_every_face_of_a_group_is_found(photos: SamplePhotos, detector: Detector) -> None:
    (faces,) = detector.detect([decode(photos.group.read_bytes())])
    assert len(faces) == 6


def test_turned_small_and_blurred_faces_stand_the_second_look(
    portraits: list[Pixels], detector: Detector
) -> None:
    for pixels in portraits[:5]:
        image = Image.fromarray(pixels)
        for changed in (
            image.rotate(30, Image.Resampling.BILINEAR),
            image.resize((75, 75), Image.Resampling.BOX),
            image.filter(ImageFilter.GaussianBlur(3)),
        ):
            assert detector.detect([np.array(changed)])[0]
