"""Many image files to templates, through the worker pool."""

import importlib.util
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from visagedb_indexer import defaults
from visagedb_indexer.choice import Choice, chosen
from visagedb_indexer.errors import (
    ImageCrashedWorkerError,
    ImageError,
    ModelNotAvailableError,
)
from visagedb_indexer.faces.cards import ModelCard
from visagedb_indexer.faces.registry import ModelRegistry
from visagedb_indexer.values import Extraction, ModelIdentity
from visagedb_indexer.workers import Priority, WorkerPool
from visagedb_server.evaluation.cache import TemplateCache
from visagedb_server.evaluation.values import Embedded, Failure, Outcome

_NEEDED: Final = ("torch", "onnx", "PIL")
_IN_FLIGHT_PER_WORKER: Final = 16
_IN_FLIGHT_MAX: Final = 128
_UNREADABLE: Final = "UNREADABLE_FILE"


@dataclass(frozen=True, slots=True)
class EmbeddingOptions:
    """How images are embedded.

    Attributes:
        model: Name of the embedder.
        cards: Model cards, or folders of them, beside the built-in ones.
        choice: Which face of an image is meant; not ALL.
        flip: Average with the mirror image.
        precision: ``float32`` or ``bfloat16``.
        workers: Embedding processes.
        cache: Folder of templates made before; None for no cache.
    """

    model: str
    cards: tuple[Path, ...] = ()
    choice: Choice = Choice.ONLY
    flip: bool = defaults.FLIP_AVERAGING
    precision: str = "float32"
    workers: int = 1
    cache: Path | None = None


class FolderEmbedder:
    """Embeds files; processes are started when the first file is not in the cache.

    Args:
        options: How.

    Raises:
        ModelNotAvailableError: There is no such embedder, or packages are missing.
        ModelError: A card or its files are refused.
        InvalidArgumentError: The cache cannot be used.
    """

    def __init__(self, options: EmbeddingOptions) -> None:
        registry = ModelRegistry(options.cards)
        card = registry.get(options.model)
        _check_runnable(registry, card)
        self._options = options
        self.model: ModelIdentity = card.identity(options.precision)
        self._pool: WorkerPool | None = None
        self._cache: TemplateCache | None = None
        if options.cache is not None:
            made_by = f"{self.model.name}@{self.model.version}/{self.model.precision}"
            recipe = f"{made_by}/flip={options.flip}/face={options.choice}"
            self._cache = TemplateCache(options.cache, recipe, self.model.dimension)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._cache is not None:
            self._cache.close()
        if self._pool is not None:
            self._pool.close(drain=False)

    def embed(self, paths: Sequence[Path]) -> Iterator[Outcome]:
        """The outcome of each file, in order. A bad image is an outcome, not an error.

        Raises:
            IndexerError: No image can be embedded: processes do not start, for example.
        """
        window = min(_IN_FLIGHT_MAX, _IN_FLIGHT_PER_WORKER * self._options.workers)
        waiting: deque[tuple[str, Outcome | Future[Extraction]]] = deque()
        for path in paths:
            waiting.append(self._begin(path))
            if len(waiting) >= window:
                yield self._end(*waiting.popleft())
        while waiting:
            yield self._end(*waiting.popleft())

    def _begin(self, path: Path) -> "tuple[str, Outcome | Future[Extraction]]":
        try:
            content = path.read_bytes()
        except OSError as error:
            return "", Failure(_UNREADABLE, error.strerror or str(error))
        key = "" if self._cache is None else self._cache.key(content)
        known = None if self._cache is None else self._cache.get(key)
        if known is not None:
            return "", known
        future = self._running_pool().submit(
            content,
            model=self._options.model,
            flip=self._options.flip,
            choice=self._options.choice,
            priority=Priority.BULK,
        )
        return key, future

    def _end(self, key: str, begun: "Outcome | Future[Extraction]") -> Outcome:
        if not isinstance(begun, Future):
            return begun
        try:
            outcome = self._chosen(begun.result())
        except ImageCrashedWorkerError as error:
            # Perhaps the machine was short of memory: tried again the next time.
            return Failure(error.reason, error.message)
        except ImageError as error:
            outcome = Failure(error.reason, error.message)
        if key and self._cache is not None:
            self._cache.put(key, outcome)
        return outcome

    def _chosen(self, found: Extraction) -> Outcome:
        boxes = [face.box for face in found.faces]
        if not boxes:
            return Failure("NO_FACE", "no face was found")
        positions = chosen(boxes, found.width, found.height, self._options.choice)
        if not positions:
            return Failure(
                "SEVERAL_FACES", f"{len(boxes)} faces were found; --face chooses one of them"
            )
        face = found.faces[positions[0]]
        assert face.vector is not None, "the chosen face has a vector"
        return Embedded(face.vector, face.quality.score, face.box)

    def _running_pool(self) -> WorkerPool:
        if self._pool is None:
            self._pool = WorkerPool(
                count=self._options.workers,
                card_paths=self._options.cards,
                precision=self._options.precision,
            )
        return self._pool


def _check_runnable(registry: ModelRegistry, card: ModelCard) -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelNotAvailableError(
            f"images cannot be read without {', '.join(missing)}: pip install 'visagedb[all]'"
        )
    if card.kind != "embedder":
        known = ", ".join(model.name for model in registry.embedders())
        raise ModelNotAvailableError(
            f"{card.name} makes no templates; known embedders are {known}", {"model": card.name}
        )
    registry.check_files(card)
