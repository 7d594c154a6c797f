"""The models that this process knows, and whether their files are the right ones."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from visagedb_indexer.errors import (
    InvalidModelCardError,
    ModelDigestError,
    ModelFileMissingError,
    ModelNotAvailableError,
)
from visagedb_indexer.faces.cards import ModelCard, load_card

_BUILTIN: Final = Path(__file__).parent / "builtin"


def builtin_cards() -> dict[str, ModelCard]:
    """The cards that come with VisageDB, by name."""
    cards = [load_card(path) for path in sorted(_BUILTIN.glob("*.toml"))]
    return {card.name: card for card in cards}


class ModelRegistry:
    """The models this process knows: the built-in ones and those of the given cards.

    A given card replaces a built-in one of the same name.

    Args:
        card_paths: Files, or folders whose ``*.toml`` files are all cards.

    Raises:
        ModelError: A card is refused; see `load_card`.
    """

    def __init__(self, card_paths: Sequence[Path] = ()) -> None:
        self._cards = builtin_cards()
        given: dict[str, Path] = {}
        for path in _expanded(card_paths):
            card = load_card(path)
            if card.name in given:
                raise InvalidModelCardError(
                    f"{path}: the name {card.name!r} is taken by {given[card.name]}"
                )
            given[card.name] = path
            self._cards[card.name] = card

    def names(self) -> tuple[str, ...]:
        """Names of all models."""
        return tuple(sorted(self._cards))

    def embedders(self) -> tuple[ModelCard, ...]:
        """Cards of the models that make vectors."""
        return tuple(card for _, card in sorted(self._cards.items()) if card.kind == "embedder")

    def get(self, name: str) -> ModelCard:
        """The card of this name.

        Raises:
            ModelNotAvailableError: There is none.
        """
        try:
            return self._cards[name]
        except KeyError:
            raise ModelNotAvailableError(
                f"there is no model {name!r}; known are {', '.join(self.names())}",
                {"model": name},
            ) from None

    def check_files(self, card: ModelCard) -> None:
        """Compares the digests of all files; needs neither torch nor onnx.

        Raises:
            ModelFileMissingError: A file is not there.
            ModelDigestError: A file is not the one the card was written for.
        """
        check_files(card)

    def check(self, card: ModelCard) -> None:
        """Checks the files, imports the network and runs it once.

        Raises:
            ModelError: See `check_files`; also `UnsupportedOperatorError`, `ModelShapeError`.
            ModelNotAvailableError: The packages of the ``faces`` extra are not installed.
        """
        check_files(card)
        try:
            from visagedb_indexer.faces import networks
        except ModuleNotFoundError as error:
            raise ModelNotAvailableError(
                f"{error.name} is not installed; install visagedb[faces]"
            ) from error
        networks.check(card)


def _expanded(card_paths: Sequence[Path]) -> list[Path]:
    paths: list[Path] = []
    for path in card_paths:
        paths.extend(sorted(path.glob("*.toml")) if path.is_dir() else [path])
    return paths


def check_files(card: ModelCard) -> None:
    """See `ModelRegistry.check_files`."""
    path = card.weights.path
    _check_digest(path, card.weights.sha256)
    for name, digest in card.weights.data_files.items():
        _check_digest(path.parent / name, digest)


def _check_digest(path: Path, expected: str) -> None:
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except (FileNotFoundError, IsADirectoryError):
        raise ModelFileMissingError(f"{path} does not exist", {"file": str(path)}) from None
    if found != expected:
        raise ModelDigestError(
            f"{path} has the digest {found}, but its card says {expected}",
            {"file": str(path), "sha256": found, "expected": expected},
        )
