"""The process that embeds. It lives as long as the other end of its socket."""

import contextlib
import faulthandler
import os
import queue
import resource
import signal
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from visagedb_indexer.errors import (
    OUT_OF_MEMORY,
    ImageCrashedWorkerError,
    ImageTooLargeError,
    IndexerError,
    ModelError,
    ModelNotAvailableError,
)
from visagedb_indexer.values import Extraction
from visagedb_indexer.workers.messages import (
    MEMORY_STATUS,
    Answered,
    Batch,
    Began,
    Message,
    Refusal,
    Started,
    WorkerSettings,
    packed,
    read_batch,
    read_settings,
    sent,
)

if TYPE_CHECKING:
    from visagedb_indexer.faces.pipeline import FacePipeline

_MEMORY_WORDS: Final = ("allocate memory", "bad_alloc", "could not create a")
_OOM_SCORE: Final = 500
"""A machine that runs out of memory should end a worker, never the server."""


def main(descriptor: int) -> None:
    """Runs a worker on an inherited socket until the other end closes."""
    # The parent decides when to stop, by closing the socket. A terminal's interrupt, or a
    # service manager's signal to the whole group, must not cut short what is being drained.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR1)
    # A core file would hold photographs and templates.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE))
    connection = Connection(descriptor)
    settings = read_settings(connection.recv_bytes())
    if settings.niceness:
        os.nice(settings.niceness)
    try:
        models = _Models(settings)
    except IndexerError as error:
        _say(connection, Started(Refusal.of(error)))
        return
    if settings.memory_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (settings.memory_bytes, settings.memory_bytes))
    _say(connection, Started())
    batches: queue.PriorityQueue[_Waiting] = queue.PriorityQueue()
    threading.Thread(target=_receive, args=(connection, batches), daemon=True).start()
    try:
        while True:
            batch = batches.get().batch
            _say(connection, Began(batch.number))
            answer = models.work(batch)
            _say(connection, answer)
            if any(_is_memory(one.refusal) for one in answer.outcomes):
                # What is left of the memory may be too little for the next image.
                _end(MEMORY_STATUS)
    except MemoryError:
        _end(MEMORY_STATUS)
    except OSError:
        return


@dataclass(order=True, slots=True)
class _Waiting:
    """A batch in its turn: urgent ones first, then by age."""

    place: tuple[bool, int]
    batch: Batch = field(compare=False)


def _say(connection: Connection, message: Message) -> None:
    connection.send_bytes(packed(message))


def _receive(connection: Connection, batches: "queue.PriorityQueue[_Waiting]") -> None:
    """Reads ahead, and ends the process at once when the parent is gone."""
    while True:
        try:
            batch = read_batch(connection.recv_bytes())
            batches.put(_Waiting((not batch.urgent, batch.number), batch))
        except MemoryError:
            _end(MEMORY_STATUS)
        except (EOFError, OSError):
            _end(0)


def _end(status: int) -> None:
    sys.stderr.flush()
    os._exit(status)


class _Models:
    """The loaded models. Each is loaded once, when it is first asked for."""

    def __init__(self, settings: WorkerSettings) -> None:
        try:
            import torch

            from visagedb_indexer.faces.pipeline import load_pipeline
            from visagedb_indexer.faces.registry import ModelRegistry
        except ImportError as error:
            raise ModelNotAvailableError(
                f"{error.name or error} cannot be imported; install visagedb[faces]"
            ) from error
        torch.set_num_threads(settings.threads)
        self._settings = settings
        self._registry = ModelRegistry([Path(path) for path in settings.card_paths])
        self._load = load_pipeline
        detection = load_pipeline(self._registry, None, device=settings.device)
        self._pipelines: dict[str, FacePipeline] = {"": detection}

    def work(self, batch: Batch) -> Answered:
        """Answers a batch; nothing an image does ends the process from within Python.

        Raises:
            MemoryError: The batch does not fit into memory; one of several images may.
        """
        try:
            pipeline = self._pipeline(batch.model)
        except IndexerError as error:
            return Answered(batch.number, (sent(error),) * len(batch.images), {})
        before = Counter(pipeline.stage_seconds)
        outcomes = self._extract(pipeline, batch)
        spent = {stage: s - before[stage] for stage, s in pipeline.stage_seconds.items()}
        return Answered(batch.number, tuple(map(sent, outcomes)), spent)

    def _extract(self, pipeline: "FacePipeline", batch: Batch) -> list[Extraction | IndexerError]:
        try:
            found = pipeline.extract(
                batch.images, flip=batch.flip, embed=batch.embed, choice=batch.choice
            )
        except Exception as error:  # noqa: BLE001 - any failure is the image's, not the process's
            if _out_of_memory(error):
                return self._too_large(batch)
            if len(batch.images) == 1:
                return [ImageCrashedWorkerError(f"the image could not be processed: {error!r}")]
        else:
            refused = [one for one in found if isinstance(one, IndexerError)]
            if len(found) > 1 and any(e.metadata.get("cause") == OUT_OF_MEMORY for e in refused):
                return self._too_large(batch)
            return list(found)
        # One of them is to blame: each on its own tells which.
        singles = (msgspec.structs.replace(batch, images=(image,)) for image in batch.images)
        return [self._extract(pipeline, single)[0] for single in singles]

    def _too_large(self, batch: Batch) -> list[Extraction | IndexerError]:
        if len(batch.images) > 1:
            # A fresh process tries them one by one.
            raise MemoryError
        error = ImageTooLargeError(
            "the image takes more memory than a worker may have", {"cause": OUT_OF_MEMORY}
        )
        return [error]

    def _pipeline(self, model: str) -> "FacePipeline":
        if model in self._pipelines:
            return self._pipelines[model]
        card = self._registry.get(model)
        settings = self._settings
        try:
            self._pipelines[model] = self._load(
                self._registry,
                card,
                precision=settings.precision,
                device=settings.device,
                detector=self._pipelines[""].detector,
            )
        except ModelError as error:
            raise ModelNotAvailableError(
                f"the model {model!r} is refused: {error.message}",
                {"model": model, "cause": error.reason},
            ) from error
        return self._pipelines[model]


def _is_memory(refusal: Refusal | None) -> bool:
    return refusal is not None and refusal.metadata.get("cause") == OUT_OF_MEMORY


def _out_of_memory(error: Exception) -> bool:
    # torch has no class of its own for this on the CPU.
    said = str(error)
    return isinstance(error, MemoryError) or any(words in said for words in _MEMORY_WORDS)
