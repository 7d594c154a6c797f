"""What an import is asked to read, and how."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from visagedb_indexer import validation
from visagedb_indexer.choice import Choice
from visagedb_indexer.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    InvalidSourceError,
)
from visagedb_indexer.exchange.entries import Source
from visagedb_indexer.exchange.folders import FolderSource
from visagedb_indexer.exchange.images import ImageEntries
from visagedb_indexer.exchange.naming import Naming
from visagedb_indexer.exchange.npz import NpzSource
from visagedb_indexer.exchange.paths import OpenFolders
from visagedb_indexer.exchange.rows import RowEntries, check_renamed
from visagedb_indexer.exchange.tars import TarSource
from visagedb_indexer.gallery_values import EnrollMode
from visagedb_indexer.values import ModelIdentity, SourceFormat

_ENDINGS: Final = {
    ".tar": SourceFormat.TAR,
    ".tar.gz": SourceFormat.TAR,
    ".tgz": SourceFormat.TAR,
    ".parquet": SourceFormat.PARQUET,
    ".npz": SourceFormat.NPZ,
}
_OF_IMAGES: Final = frozenset({SourceFormat.FOLDER, SourceFormat.TAR})


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What is imported, and how.

    Attributes:
        path: Absolute path of the source.
        format: What it is; None goes by the path.
        mode: What is done with what is there already.
        naming: How paths of images name identities; see `Naming`.
        choice: Which face of an image.
        loose: Enrol every face without an identity.
        labels: Of identities that are new, beside their own.
        columns: Names of columns by what they are for, where they differ.
        model: Which model made the vectors: ``name`` or ``name@version``; empty trusts the caller.
    """

    path: str
    format: SourceFormat | None = None
    mode: EnrollMode = EnrollMode.INSERT
    naming: str = ""
    choice: Choice = Choice.ONLY
    loose: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    model: str = ""

    def check(self, model: ModelIdentity) -> None:
        """Refuses what can be refused before the source is looked at.

        Raises:
            InvalidArgumentError: The naming, the labels or the columns are not valid.
            ModelMismatchError: Another model made the vectors.
        """
        Naming(self.naming)
        validation.check_labels(self.labels)
        check_renamed(self.columns)
        validation.check_same_model(self.model, model)
        if self.loose and (self.labels or self.naming):
            raise InvalidArgumentError(
                "loose faces have no identity to name or to label", {"field": "loose"}
            )


def format_of(plan: ImportPlan, real: Path) -> SourceFormat:
    """What the source is.

    Raises:
        InvalidSourceError: Its name does not say, or it is a folder where a file is meant.
    """
    asked = plan.format
    if asked is None and real.is_dir():
        asked = SourceFormat.FOLDER
    if asked is None:
        name = real.name.lower()
        asked = next((kind for end, kind in _ENDINGS.items() if name.endswith(end)), None)
    if asked is None:
        raise InvalidSourceError(
            f"{real.name} ends in none of {', '.join(_ENDINGS)}; say which format it has",
            {"field": "format"},
        )
    if real.is_dir() != (asked is SourceFormat.FOLDER):
        what = "a folder" if real.is_dir() else "no folder"
        raise InvalidSourceError(f"{real.name} is {what}", {"field": "format"})
    return asked


def has_images(kind: SourceFormat) -> bool:
    """Whether a source holds images, which have to be embedded."""
    return kind in _OF_IMAGES


def open_source(
    plan: ImportPlan,
    folders: OpenFolders,
    model: ModelIdentity,
    check: Callable[[], None] = lambda: None,
) -> tuple[SourceFormat, Source]:
    """Opens the source of an import.

    Args:
        plan: What is asked for.
        folders: What may be opened.
        model: Of the gallery.
        check: Called now and then while it is read; raises to stop.

    Raises:
        PathNotAllowedError: The operator has not opened the path.
        InvalidSourceError: There is nothing of this form.
        ModelMismatchError: Another model made the vectors.
        FailedPreconditionError: A package that it takes is not installed.
    """
    plan.check(model)
    real = folders.source(plan.path)
    kind = format_of(plan, real)
    labels = dict(plan.labels)
    images = ImageEntries(Naming(plan.naming), plan.loose, labels)
    if kind is SourceFormat.FOLDER:
        return kind, FolderSource(real, folders, images, check)
    file = folders.open(real)
    try:
        if kind is SourceFormat.TAR:
            return kind, TarSource(real, file, images, check)
        rows = RowEntries(loose=plan.loose, labels=labels)
        if kind is SourceFormat.NPZ:
            return kind, NpzSource(real, file, plan.columns, rows, check, loose=plan.loose)
        return kind, _parquet(real, file, plan, rows, model, check)
    except BaseException:
        file.close()
        raise


def _parquet(
    real: Path,
    file: BinaryIO,
    plan: ImportPlan,
    rows: RowEntries,
    model: ModelIdentity,
    check: Callable[[], None],
) -> Source:
    try:
        # A package that only those need who have such files, and that takes a while to load.
        from visagedb_indexer.exchange.parquet import ParquetSource
    except ModuleNotFoundError as error:
        raise no_pyarrow() from error
    return ParquetSource(real, file, plan.columns, rows, model, check, loose=plan.loose)


def no_pyarrow() -> FailedPreconditionError:
    """The refusal of a server without the package that reads and writes Parquet."""
    return FailedPreconditionError(
        "this server has no pyarrow, which Parquet files need: pip install 'visagedb[parquet]'"
    )
