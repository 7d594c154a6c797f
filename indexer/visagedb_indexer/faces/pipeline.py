"""The whole way from image bytes to faces with vectors, for a batch of images at once."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
import torch

from visagedb_indexer.choice import Choice, chosen
from visagedb_indexer.errors import ImageError
from visagedb_indexer.faces.align import align
from visagedb_indexer.faces.cards import TEMPLATES, ModelCard
from visagedb_indexer.faces.decode import Pixels, decode
from visagedb_indexer.faces.detect import Detector
from visagedb_indexer.faces.embed import Embedder
from visagedb_indexer.faces.found import DetectedFace
from visagedb_indexer.faces.quality import assess
from visagedb_indexer.faces.registry import ModelRegistry
from visagedb_indexer.values import STAGES, ExtractedFace, Extraction, Quality, Vector

Result: TypeAlias = Extraction | ImageError

DETECTOR_DEFAULT: Final = "yunet"
_STANDARD_TEMPLATE: Final = "arcface-112"


@dataclass
class StageSeconds:
    """Seconds spent per stage, summed over all calls."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Adds the time of the block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start


@dataclass
class _Work:
    """One image on its way."""

    pixels: Pixels
    faces: list[DetectedFace] = field(default_factory=list)
    crops: list[Pixels] = field(default_factory=list)
    qualities: list[Quality] = field(default_factory=list)
    chosen: tuple[int, ...] = ()
    vectors: dict[int, Vector] = field(default_factory=dict)


class FacePipeline:
    """Decode, detect, align, judge, embed.

    Args:
        detector: The detector.
        embedder: The embedder; None for detection only.

    Attributes:
        detector: The detector, so that pipelines can share it.
        stage_seconds: Time spent per stage (`STAGES`), summed over all calls.
    """

    def __init__(self, detector: Detector, embedder: Embedder | None = None) -> None:
        self.detector = detector
        self._embedder = embedder
        self._timer = StageSeconds()

    @property
    def stage_seconds(self) -> Mapping[str, float]:
        """Seconds per stage, summed over all calls."""
        return dict(self._timer.seconds)

    def extract(
        self,
        images: Sequence[bytes],
        *,
        flip: bool = False,
        embed: bool = True,
        choice: Choice = Choice.ALL,
    ) -> list[Result]:
        """Extracts the faces of several images; an image that cannot be used fails alone.

        Args:
            images: Encoded image files.
            flip: Average every embedding with that of the mirror image.
            embed: Make vectors; needs an embedder.
            choice: Which faces of an image get a vector; the others are only found.

        Returns:
            Per image its faces, or the error.
        """
        if embed and self._embedder is None:
            raise ValueError("a pipeline without an embedder cannot embed")
        with self._timer.measure("decode"):
            decoded = [_attempt(decode, content) for content in images]
        work = [_Work(item) for item in decoded if not isinstance(item, ImageError)]
        with self._timer.measure("detect"):
            for item, faces in zip(
                work, self.detector.detect([item.pixels for item in work]), strict=True
            ):
                item.faces = faces
        self._align(work)
        if embed:
            self._embed(work, flip=flip, choice=choice)
        finished = iter([_extraction(item) for item in work])
        return [item if isinstance(item, ImageError) else next(finished) for item in decoded]

    def _align(self, work: Sequence[_Work]) -> None:
        template, width, height = TEMPLATES[_STANDARD_TEMPLATE], 112, 112
        if self._embedder is not None:
            card = self._embedder.card
            template, width, height = card.template, card.input.width, card.input.height
        with self._timer.measure("align"), torch.inference_mode():
            for item in work:
                item.crops = [
                    align(item.pixels, face.landmarks, template, width, height)
                    for face in item.faces
                ]
        with self._timer.measure("quality"):
            for item in work:
                item.qualities = [
                    assess(crop, face.landmarks, face.score)
                    for crop, face in zip(item.crops, item.faces, strict=True)
                ]

    def _embed(self, work: Sequence[_Work], *, flip: bool, choice: Choice) -> None:
        """Embeds the chosen faces of all images in one go."""
        assert self._embedder is not None
        for item in work:
            height, width = item.pixels.shape[:2]
            item.chosen = chosen([face.box for face in item.faces], width, height, choice)
        crops = [item.crops[position] for item in work for position in item.chosen]
        if not crops:
            return
        with self._timer.measure("embed"):
            vectors = iter(self._embedder.embed(np.stack(crops), flip=flip))
        for item in work:
            item.vectors = {position: next(vectors).copy() for position in item.chosen}


def _attempt(function: Callable[[bytes], Pixels], content: bytes) -> Pixels | ImageError:
    try:
        return function(content)
    except ImageError as error:
        return error


def _extraction(item: _Work) -> Extraction:
    faces = [
        ExtractedFace(face.box, face.landmarks, face.score, quality, item.vectors.get(position))
        for position, (face, quality) in enumerate(zip(item.faces, item.qualities, strict=True))
    ]
    height, width = item.pixels.shape[:2]
    return Extraction(width=width, height=height, faces=tuple(faces))


def load_pipeline(
    registry: ModelRegistry,
    model: str | ModelCard | None,
    *,
    precision: str = "float32",
    device: str = "cpu",
    detector: Detector | None = None,
) -> FacePipeline:
    """A pipeline for a model of the registry.

    Args:
        registry: The known models.
        model: Name of the embedder, or its card; None for detection only.
        precision: Of the embedder. The detector runs in float32: points must be exact.
        device: A torch device.
        detector: A detector to share; loaded when not given.

    Raises:
        ModelError: A model is refused.
        ModelNotAvailableError: There is no such model, device or precision.
    """
    if detector is None:
        detector = Detector(registry.get(DETECTOR_DEFAULT), "float32", device)
    if model is None:
        return FacePipeline(detector)
    card = registry.get(model) if isinstance(model, str) else model
    return FacePipeline(detector, Embedder(card, precision, device))
