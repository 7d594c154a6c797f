from collections.abc import Iterator

import pytest
import torch

from visagedb_indexer.faces.pipeline import FacePipeline, load_pipeline
from visagedb_indexer.faces.registry import ModelRegistry


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def registry() -> ModelRegistry:
    return ModelRegistry()


@pytest.fixture(scope="session")
def pipeline(registry: ModelRegistry) -> FacePipeline:
    return load_pipeline(registry, "sface")
