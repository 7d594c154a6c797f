"""The process that embeds. It lives as long as the other end of its socket."""

import os
import queue
import resource
import signal
import sys
import threading
from collections import Counter
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from visagedb_indexer.errors import (
    ImageCrashedWorkerError,
    IndexerError,
    ModelError,
    ModelNotAvailableError,
)
from visagedb_indexer.values import Extraction
from visagedb_indexer.workers.messages import Answer, Batch, Started, WorkerSettings

if TYPE_CHECKING:
    from visagedb_indexer.faces.pipeline import FacePipeline


def main(descriptor: int) -> None:
    """Runs a worker on an inherited socket until the other end closes."""
    # The parent decides when to stop, by closing the socket. A terminal's interrupt, or a
    # service manager's signal to the whole group, must not cut short what is being drained.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # A core file would hold photographs and templates.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = Connection(descriptor)
    settings: WorkerSettings = connection.recv()
    if settings.niceness:
        os.nice(settings.niceness)
    try:
        models = _Models(settings)
    except IndexerError as error:
        connection.send(Started(error))
        return
    connection.send(Started())
    batches: queue.SimpleQueue[Batch] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, batches), daemon=True).start()
    while True:
        answer = models.work(batches.get())
        try:
            connection.send(answer)
        except OSError:
            return


def _receive(connection: Connection, batches: "queue.SimpleQueue[Batch]") -> None:
    """Reads ahead, and ends the process at once when the parent is gone."""
    while True:
        try:
            batches.put(connection.recv())
        except (EOFError, OSError):
            sys.stderr.flush()
            os._exit(0)


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
        self._registry = ModelRegistry(settings.card_paths)
        self._load = load_pipeline
        detection = load_pipeline(self._registry, None, device=settings.device)
        self._pipelines: dict[str, FacePipeline] = {"": detection}

    def work(self, batch: Batch) -> Answer:
        """Answers a batch; nothing an image does ends the process from within Python."""
        try:
            pipeline = self._pipeline(batch.model)
        except IndexerError as error:
            return Answer((error,) * len(batch.images), {})
        before = Counter(pipeline.stage_seconds)
        outcomes = self._extract(pipeline, batch)
        spent = {stage: s - before[stage] for stage, s in pipeline.stage_seconds.items()}
        return Answer(tuple(outcomes), spent)

    def _extract(self, pipeline: "FacePipeline", batch: Batch) -> list[Extraction | IndexerError]:
        try:
            found = pipeline.extract(
                batch.images, flip=batch.flip, embed=batch.embed, choice=batch.choice
            )
            return list(found)
        except Exception as error:  # noqa: BLE001 - any failure is the image's, not the process's
            if len(batch.images) == 1:
                return [ImageCrashedWorkerError(f"the image could not be processed: {error!r}")]
        # One of them is to blame: each on its own tells which.
        singles = (replace(batch, images=(image,)) for image in batch.images)
        return [self._extract(pipeline, single)[0] for single in singles]

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
