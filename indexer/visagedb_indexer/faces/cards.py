"""Model cards: which weights, how to feed them, and what their scores mean.

A card is a TOML file. It names the weights and their digests, so nothing runs that its author
did not mean, and everything that turns a photograph into the network's input. Cards can be
read, and their files checked, without torch or onnx.

The version in `ModelCard.identity` is the card's own version followed by eight hexadecimal
digits of a digest over all that decides the vectors: digests of the weights, preprocessing,
alignment and centring. Changing any of these makes another model, even if the card's author
forgot to say so.
"""

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import numpy as np

from visagedb_indexer import limits
from visagedb_indexer.errors import InvalidModelCardError, ModelFileMissingError
from visagedb_indexer.faces.card_fields import Table, parse_toml
from visagedb_indexer.values import ModelIdentity, Vector

Template: TypeAlias = tuple[tuple[float, float], ...]

PRECISIONS: Final = ("float32", "bfloat16")

TEMPLATES: Final[Mapping[str, Template]] = MappingProxyType(
    {
        # Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition" (2019):
        # the eyes, the nose and the corners of the mouth in a crop of 112 x 112.
        "arcface-112": (
            (38.2946, 51.6963),
            (73.5318, 51.5014),
            (56.0252, 71.7366),
            (41.5493, 92.3655),
            (70.7299, 92.2041),
        )
    }
)


@dataclass(frozen=True)
class Weights:
    """Where the weights are.

    Attributes:
        folder: Folder of the ONNX file; None if the package that carries it is not installed.
        file: The file's path inside the folder.
        package: The Python package that carries the file; empty for a file beside the card.
        sha256: Digest of the ONNX file, hexadecimal.
        data_files: Digests of the further files the network reads, by name.
    """

    folder: Path | None
    file: str
    package: str
    sha256: str
    data_files: Mapping[str, str]

    @property
    def path(self) -> Path:
        """Path of the ONNX file.

        Raises:
            ModelFileMissingError: The package that carries it is not installed.
        """
        if self.folder is None:
            raise ModelFileMissingError(
                f"the package {self.package!r} that carries {self.file} is not installed; "
                "install visagedb[faces]",
                {"package": self.package},
            )
        return self.folder / self.file


@dataclass(frozen=True)
class InputFormat:
    """What the network is fed: (pixel - mean) / std, per channel in its channel order."""

    width: int
    height: int
    channels: Literal["RGB", "BGR"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class DetectorSettings:
    """How a detector's raw outputs become faces.

    Attributes:
        score_threshold: Boxes with a lower confidence are dropped.
        overlap_max: Of two boxes with a larger intersection over union the weaker is dropped.
        certain_score: Boxes with a lower confidence get a second look.
        second_look_score: What they must reach in it.
    """

    score_threshold: float
    overlap_max: float
    certain_score: float
    second_look_score: float


@dataclass(frozen=True)
class Thresholds:
    """Cosine similarities at which to decide, when a gallery has no calibration of its own.

    Attributes:
        verify: For one face against one person.
        identify: For one face against a gallery.
        false_match_rates: Measured points: rate of false matches to similarity.
    """

    verify: float
    identify: float
    false_match_rates: Mapping[float, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelCard:
    """One model, as its card describes it.

    Attributes:
        name: Short name, for example ``sface``.
        version: The card's own version; see `identity` for the full one.
        kind: ``detector`` or ``embedder``.
        licence: SPDX expression of the weights.
        source: Where the weights come from, and who made them.
        description: Anything else worth knowing.
        weights: The files.
        input: The network's input.
        dimension: Length of an embedder's vectors; 0 for a detector.
        template: Positions of the five points in an embedder's input; empty for a detector.
        centre: Mean embedding, subtracted from every vector; None if there is none.
        thresholds: Default decisions; None if there are none.
        detector: A detector's settings; None for an embedder.
    """

    name: str
    version: str
    kind: Literal["detector", "embedder"]
    licence: str
    source: str
    description: str
    weights: Weights
    input: InputFormat
    dimension: int
    template: Template
    centre: Vector | None = field(compare=False)
    thresholds: Thresholds | None
    detector: DetectorSettings | None

    def identity(self, precision: str = "float32") -> ModelIdentity:
        """The identity that vectors of this model carry."""
        if precision not in PRECISIONS:
            raise InvalidModelCardError(f"precision {precision!r} is not one of {PRECISIONS}")
        return ModelIdentity(
            name=self.name,
            version=f"{self.version}+{self._digest()[:8]}",
            dimension=self.dimension,
            sha256=self.weights.sha256,
            precision=precision,
        )

    def _digest(self) -> str:
        centre = b"" if self.centre is None else self.centre.astype("<f4").tobytes()
        what = [
            self.weights.sha256,
            sorted(self.weights.data_files.items()),
            [self.input.width, self.input.height, self.input.channels],
            [self.input.mean, self.input.std],
            self.template,
            hashlib.sha256(centre).hexdigest(),
        ]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def load_card(path: Path) -> ModelCard:
    """Reads and checks a card; the weights are not opened.

    Raises:
        InvalidModelCardError: The message names the file and the field.
        ModelFileMissingError: The card, or the file of its centring vector, is missing.
    """
    table = parse_toml(path)
    table.choice("schema", (1,))
    kind = table.choice("kind", ("detector", "embedder"))
    name = table.text("name", pattern=r"[a-z0-9][a-z0-9._-]{0,63}")
    version = table.text("version", pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
    embeds = kind == "embedder"
    dimension = table.integer("dimension", 1, limits.VECTOR_DIMENSION_MAX) if embeds else 0
    image = _input(table.table("input"))
    card = ModelCard(
        name=name,
        version=version,
        kind=kind,
        licence=table.text("licence"),
        source=table.text("source"),
        description=table.text("description", default=""),
        weights=_weights(table.table("weights"), path.parent),
        input=image,
        dimension=dimension,
        template=_template(table.table("alignment"), image) if embeds else (),
        centre=_centre(table.table("centring", optional=True), path.parent, dimension),
        thresholds=_thresholds(table.table("thresholds", optional=True)),
        detector=None if embeds else _detector(table.table("detection")),
    )
    table.finish()
    return card


def _weights(table: Table, folder: Path) -> Weights:
    package = table.text("package", default="", pattern=r"[A-Za-z_][A-Za-z0-9_]*")
    base: Path | None = folder
    if package:
        base = _package_folder(package)
    weights = Weights(
        folder=base,
        file=table.relative_path("path" if package else "file"),
        package=package,
        sha256=table.digest("sha256"),
        data_files=MappingProxyType(_data_files(table.table("data_files", optional=True))),
    )
    table.finish()
    return weights


def _data_files(table: Table | None) -> dict[str, str]:
    if table is None:
        return {}
    digests = {name: table.digest(name) for name in table.remaining()}
    for name in digests:
        if Path(name).name != name:
            raise table.error(name, "must be a file beside the network, without a folder")
    return digests


def _package_folder(package: str) -> Path | None:
    """The package's folder, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _input(table: Table) -> InputFormat:
    mean, std = table.numbers("mean", 3), table.numbers("std", 3)
    if min(std) <= 0.0:
        raise table.error("std", "must be positive")
    image = InputFormat(
        width=table.integer("width", 16, 2048),
        height=table.integer("height", 16, 2048),
        channels=table.choice("channels", ("RGB", "BGR")),
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
    )
    table.finish()
    return image


def _template(table: Table, image: InputFormat) -> Template:
    if "points" in table.remaining():
        points = tuple((x, y) for x, y in table.points("points", 5))
        inside = all(0 <= x < image.width and 0 <= y < image.height for x, y in points)
        if not inside or len(set(points)) < 5:
            raise table.error("points", "must be five different points inside the input")
    else:
        points = TEMPLATES[table.choice("template", tuple(TEMPLATES))]
        if (image.width, image.height) != (112, 112):
            raise table.error("template", "is made for an input of 112 x 112")
    table.finish()
    return points


def _centre(table: Table | None, folder: Path, dimension: int) -> Vector | None:
    if table is None:
        return None
    if "vector" in table.remaining():
        where = "vector"
        centre = np.asarray(table.numbers("vector", dimension), dtype=np.float32)
    else:
        where = "file"
        path = folder / table.relative_path("file")
        try:
            centre = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            raise ModelFileMissingError(f"{path} does not exist", {"file": str(path)}) from None
        except (OSError, ValueError, EOFError) as error:
            raise table.error(where, f"is not a .npy file ({error})") from error
    good = isinstance(centre, np.ndarray) and centre.shape == (dimension,)
    if not good or centre.dtype != np.float32 or not np.isfinite(centre).all():
        raise table.error(where, f"must be {dimension} finite float32 values")
    if np.linalg.norm(centre) >= 1.0:
        raise table.error(where, "must be shorter than a unit vector")
    table.finish()
    centre = np.array(centre, dtype=np.float32)
    centre.setflags(write=False)
    return centre


def _thresholds(table: Table | None) -> Thresholds | None:
    if table is None:
        return None
    rates: dict[float, float] = {}
    measured = table.table("false_match_rates", optional=True)
    if measured is not None:
        rates = {
            measured.key_number(key): measured.number(key, -1, 1) for key in measured.remaining()
        }
        measured.finish()
    thresholds = Thresholds(
        verify=table.number("verify", -1, 1),
        identify=table.number("identify", -1, 1),
        false_match_rates=MappingProxyType(rates),
    )
    table.finish()
    return thresholds


def _detector(table: Table) -> DetectorSettings:
    table.choice("decoder", ("yunet",))
    settings = DetectorSettings(
        score_threshold=table.number("score_threshold", 0, 1),
        overlap_max=table.number("overlap_max", 0, 1),
        certain_score=table.number("certain_score", 0, 1),
        second_look_score=table.number("second_look_score", 0, 1),
    )
    table.finish()
    return settings
