"""Aligned crops to templates."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visagedb_indexer import limits
from visagedb_indexer.errors import InvalidModelCardError
from visagedb_indexer.faces.cards import ModelCard
from visagedb_indexer.faces.networks import load_network, run_shapes
from visagedb_indexer.values import ModelIdentity, Vector


class Embedder:
    """One embedding network, loaded.

    Args:
        card: Of kind ``embedder``.
        precision: ``float32``, or ``bfloat16`` (faster on CPUs that have it; cosine to the
            float32 vector is above 0.999).
        device: A torch device.

    Raises:
        ModelError: The card's files or network are refused.
        ModelNotAvailableError: The device or precision is not there.
    """

    def __init__(self, card: ModelCard, precision: str = "float32", device: str = "cpu") -> None:
        if card.kind != "embedder":
            raise InvalidModelCardError(f"{card.name!r} is a {card.kind}, not an embedder")
        self.card = card
        self.identity: ModelIdentity = card.identity(precision)
        self._device = torch.device(device)
        self._dtype: torch.dtype = getattr(torch, precision)
        self._network = load_network(card, precision, device)
        run_shapes(card, self._network)
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(card.input.mean, device=self._device).reshape(shape)
        self._std = torch.tensor(card.input.std, device=self._device).reshape(shape)
        self._batch = _batch_size(self._device, self._dtype)

    def embed(self, crops: NDArray[np.uint8], *, flip: bool = False) -> Vector:
        """Embeds aligned crops.

        Args:
            crops: Shape (n, height, width, 3), uint8, RGB, in the card's template position.
            flip: Also embed the mirror images and add both embeddings before normalising:
                twice the work, fewer misses.

        Returns:
            Shape (n, dimension), float32, unit length, centred as the card says.
        """
        raw = [self._forward(crops[i : i + self._batch]) for i in range(0, len(crops), self._batch)]
        if flip:
            mirrored = crops[:, :, ::-1]
            for index, part in enumerate(raw):
                first = index * self._batch
                part += self._forward(mirrored[first : first + self._batch])
        if not raw:
            return np.zeros((0, self.card.dimension), dtype=np.float32)
        return self._finish(np.concatenate(raw))

    def _forward(self, crops: NDArray[np.uint8]) -> Vector:
        pixels = torch.from_numpy(np.ascontiguousarray(crops)).to(self._device)
        # (n, h, w, c) seen as (n, c, h, w) is channels-last already, the kernels' favourite.
        batch = pixels.permute(0, 3, 1, 2).to(torch.float32)
        if self.card.input.channels == "BGR":
            batch = batch.flip(1).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            batch = ((batch - self._mean) / self._std).to(self._dtype)
            (output,) = self._network(batch)
        result: NDArray[Any] = output.to("cpu", torch.float32).numpy()
        return result.astype(np.float32, copy=True)

    def _finish(self, raw: Vector) -> Vector:
        vectors = _unit(raw)
        return vectors if self.card.centre is None else _unit(vectors - self.card.centre)


def _batch_size(device: torch.device, precision: torch.dtype) -> int:
    """Crops per forward pass: where a core's caches still hold the activations."""
    if device.type != "cpu":
        return 256
    return 4 if precision == torch.float32 else 8


def _unit(vectors: Vector) -> Vector:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vector = vectors / np.maximum(norms, limits.VECTOR_NORM_MIN)
    return scaled.astype(np.float32, copy=False)
