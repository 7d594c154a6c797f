"""No tensor is made on a device of its own choice: what runs on the CPU runs on a GPU.

A machine without a GPU has another device to prove it with: `meta`, whose tensors have shapes and
no values. An operation that mixes it with the CPU fails, as it would on a GPU.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the faces extra is not installed")

from visagedb_indexer.errors import ModelNotAvailableError  # noqa: E402
from visagedb_indexer.faces.detect import Detector  # noqa: E402
from visagedb_indexer.faces.embed import Embedder  # noqa: E402
from visagedb_indexer.faces.pipeline import load_pipeline  # noqa: E402
from visagedb_indexer.faces.registry import ModelRegistry  # noqa: E402
from visagedb_indexer.workers import WorkerPool  # noqa: E402

BACK = "copy out of meta"
"""What torch says where values are brought back from the device: the last step."""


def test_the_embedder_stays_on_its_device() -> None:
    embedder = Embedder(ModelRegistry().get("sface"), device="meta")
    crops = np.zeros((3, 112, 112, 3), np.uint8)
    for flip in (False, True):
        with pytest.raises(NotImplementedError, match=BACK):
            embedder.embed(crops, flip=flip)


def test_the_detector_stays_on_its_device() -> None:
    detector = Detector(ModelRegistry().get("yunet"), device="meta")
    with pytest.raises(NotImplementedError, match=BACK):
        detector.detect([np.zeros((320, 320, 3), np.uint8)])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelNotAvailableError, match="cuda"):
        load_pipeline(ModelRegistry(), "sface", device="cuda")
    pool = WorkerPool(count=1, device="cuda")
    try:
        with pytest.raises(ModelNotAvailableError, match="cuda"):
            pool.wait_ready()
    finally:
        pool.close(drain=False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_vectors_of_the_gpu_are_those_of_the_cpu() -> None:
    crops = np.random.default_rng(1).integers(0, 255, (5, 112, 112, 3), np.uint8)
    card = ModelRegistry().get("sface")
    cpu, gpu = (Embedder(card, device=device).embed(crops, flip=True) for device in ("cpu", "cuda"))
    assert np.sum(cpu * gpu, axis=1).min() > 0.999
