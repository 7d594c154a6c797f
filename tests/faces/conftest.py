from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sample_photos import SamplePhotos, SamplePhotosError
from sample_photos import sample_photos as fetch_photos
from visagedb_indexer.faces.pipeline import FacePipeline, load_pipeline
from visagedb_indexer.faces.registry import ModelRegistry

CHECKOUT = Path(__file__).resolve().parents[2]


def _beside(name: str) -> Path:
    path = CHECKOUT.parent / "shared" / name
    if not path.is_dir():
        pytest.skip(f"needs the folder {name!r} in a folder 'shared' beside the checkout")
    return path


@pytest.fixture(scope="session")
def shared_faces() -> Path:
    return _beside("faces")


@pytest.fixture(scope="session")
def shared_models() -> Path:
    return _beside("models")


@pytest.fixture(scope="session")
def photos() -> SamplePhotos:
    try:
        return fetch_photos()
    except SamplePhotosError as error:
        pytest.skip(str(error))


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
