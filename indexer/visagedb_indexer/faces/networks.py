"""From a model card to a network that is ready to run."""

from typing import Final

import torch

from visagedb_indexer.errors import ModelNotAvailableError, ModelShapeError
from visagedb_indexer.faces.cards import PRECISIONS, ModelCard
from visagedb_indexer.faces.onnx_import import Network, import_network
from visagedb_indexer.faces.packing import prepare
from visagedb_indexer.faces.registry import check_files

YUNET_STRIDES: Final = (8, 16, 32)
YUNET_OUTPUTS: Final = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}


def load_network(card: ModelCard, precision: str = "float32", device: str = "cpu") -> Network:
    """Checks the card's files and imports its network.

    Raises:
        ModelError: The files or the network are refused.
        ModelNotAvailableError: The device or the precision is not there.
    """
    if precision not in PRECISIONS:
        raise ModelNotAvailableError(f"precision {precision!r} is not one of {PRECISIONS}")
    check_files(card)
    network = import_network(card.weights.path, allowed_files=card.weights.data_files)
    _check_input(card, network)
    try:
        return prepare(network, torch.device(device), getattr(torch, precision))
    except (RuntimeError, AssertionError) as error:
        raise ModelNotAvailableError(f"device {device!r} cannot be used: {error}") from error


def check(card: ModelCard) -> None:
    """Imports the card's network, runs it on a black batch of two and looks at the shapes.

    Raises:
        ModelError: The files or the network are refused.
    """
    run_shapes(card, load_network(card))


def run_shapes(card: ModelCard, network: Network) -> None:
    """Runs the network once to see that its outputs are what the card says.

    Raises:
        ModelShapeError: They are not.
    """
    parameter = next(network.buffers())
    size = (2, 3, card.input.height, card.input.width)
    batch = torch.zeros(size, dtype=_floating(network), device=parameter.device)
    try:
        with torch.inference_mode():
            outputs = dict(zip(network.output_names, network(batch), strict=True))
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        raise ModelShapeError(f"the network of {card.name!r} cannot be run: {error}") from error
    found = {name: tuple(output.shape) for name, output in outputs.items()}
    if card.kind == "embedder":
        _expect(card, found, dict.fromkeys(list(found)[:1], (2, card.dimension)), only=True)
    else:
        _expect(card, found, _yunet_shapes(card), only=False)


def _floating(network: Network) -> torch.dtype:
    return next(b.dtype for b in network.buffers() if b.is_floating_point())


def _yunet_shapes(card: ModelCard) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}_{stride}": (2, (card.input.height // stride) * (card.input.width // stride), size)
        for name, size in YUNET_OUTPUTS.items()
        for stride in YUNET_STRIDES
    }


def _expect(
    card: ModelCard,
    found: dict[str, tuple[int, ...]],
    expected: dict[str, tuple[int, ...]],
    *,
    only: bool,
) -> None:
    wrong = {name: found.get(name) for name, shape in expected.items() if found.get(name) != shape}
    if wrong or (only and len(found) != len(expected)):
        raise ModelShapeError(
            f"the network of {card.name!r} has outputs {wrong or found}, "
            f"but its card means {expected} for a batch of two"
        )


def _check_input(card: ModelCard, network: Network) -> None:
    _, channels, height, width = network.input_shape
    declared = (channels or 3, height or card.input.height, width or card.input.width)
    if declared != (3, card.input.height, card.input.width):
        raise ModelShapeError(
            f"the network of {card.name!r} wants an input of {declared} (channels, height, "
            f"width), but its card says (3, {card.input.height}, {card.input.width})"
        )
