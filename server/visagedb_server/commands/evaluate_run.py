"""One run of `visagedb evaluate`: faces, figures, and where they are shown."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from visagedb._cli._session import Session
from visagedb_indexer.choice import Choice
from visagedb_indexer.cores import CORES
from visagedb_indexer.evaluation import (
    Bootstrap,
    Evaluation,
    OpenSet,
    Settings,
    evaluate_faces,
    evaluate_pairs,
)
from visagedb_indexer.values import Fusion
from visagedb_server.commands.evaluate_sources import (
    FacesToEvaluate,
    folder_faces,
    gallery_faces,
    pair_list,
)
from visagedb_server.evaluation.document import document
from visagedb_server.evaluation.embedding import EmbeddingOptions
from visagedb_server.evaluation.summary import summary
from visagedb_server.evaluation.values import Subject
from visagedb_server.evaluation.words import counted

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked for; see `visagedb_server.commands.evaluate`."""

    folder: Path | None
    pairs: Path | None
    gallery: str | None
    report: Path | None
    model: str
    cards: tuple[Path, ...]
    face: str
    flip: bool
    precision: str
    workers: int | None
    cache: Path | None
    enrolled: int
    fusion: str | None
    strangers: float
    splits: int
    draws: int
    seed: int


def run(session: Session, request: Request) -> None:
    """Evaluates and shows what came of it.

    Raises:
        IndexerError: There is nothing to measure, or nothing to measure with.
        VisageError: The server refuses, or does not answer.
        OSError: The report cannot be written.
    """
    if request.report is not None:
        _prepare_report(request.report)
    subject, evaluation = _measure(session, request)
    subject = replace(subject, options=_options(request, evaluation))
    if evaluation.identification is None and request.pairs is None:
        enrolled = counted(request.enrolled, "image", "images")
        note = (
            f"Nothing was measured of 1:N: of the people who are no strangers nobody has a usable "
            f"image beside the {enrolled} to enrol, or there is only one."
        )
        subject = replace(subject, notes=(*subject.notes, note))
    if request.report is not None:
        from visagedb_server.evaluation.report import write_report

        write_report(request.report, subject, evaluation)
    session.show(document(subject, evaluation), *summary(subject, evaluation))
    if request.report is not None and not session.as_json:
        session.err.print(f"report: {escape(str(request.report))}", soft_wrap=True)


def _prepare_report(path: Path) -> None:
    """Finds out now, not after an hour of embedding, that a report cannot be written."""
    import visagedb_server.evaluation.report  # noqa: F401 (says which package is missing)

    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.absolute().parent} for the report")


def _measure(session: Session, request: Request) -> tuple[Subject, Evaluation]:
    shown = _Shown(session)
    if request.gallery is not None:
        faces = gallery_faces(session.client, request.gallery, request.seed, shown)
        return faces.subject, _evaluated(session, request, faces)
    embedding = EmbeddingOptions(
        model=request.model,
        cards=request.cards,
        choice=Choice(request.face),
        flip=request.flip,
        precision=request.precision,
        workers=request.workers or CORES,
        cache=request.cache,
    )
    if request.pairs is not None:
        listed = pair_list(request.pairs, request.folder, embedding, shown)
        pairs = Settings(bootstrap=Bootstrap(request.draws, request.seed))
        return listed.subject, _working(session, lambda: evaluate_pairs(listed.pairs, pairs))
    assert request.folder is not None, "the command line asks for one of the three"
    found = folder_faces(request.folder, embedding, request.seed, shown)
    return found.subject, _evaluated(session, request, found)


def _evaluated(session: Session, request: Request, found: FacesToEvaluate) -> Evaluation:
    settings = Settings(
        open_set=OpenSet(
            splits=request.splits,
            strangers=request.strangers,
            enrolled=request.enrolled,
            fusion=found.fusion if request.fusion is None else Fusion(request.fusion),
            seed=request.seed,
        ),
        bootstrap=Bootstrap(request.draws, request.seed),
    )
    return _working(session, lambda: evaluate_faces(found.faces, settings))


def _options(request: Request, evaluation: Evaluation) -> dict[str, str]:
    """The settings that decide the figures, as the report lists them."""
    options = {}
    if request.gallery is None:
        options["face of an image"] = request.face
        options["mirror image averaged"] = "yes" if request.flip else "no"
        options["precision"] = request.precision
    if request.pairs is None:
        options["images enrolled of each person"] = str(request.enrolled)
        if evaluation.identification is not None:
            options["several enrolled images"] = evaluation.identification.protocol.fusion
        options["strangers"] = f"{request.strangers:.0%} of the people"
        options["random splits"] = str(request.splits)
    options["repetitions for intervals"] = str(request.draws)
    options["seed"] = str(request.seed)
    return options


class _Shown:
    """Passes items through and shows on standard error how far it is."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __call__(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        columns = (
            TextColumn(what),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        session = self._session
        with Progress(*columns, console=session.err, disable=session.as_json) as progress:
            yield from progress.track(items, total=total)


def _working(session: Session, work: Callable[[], T]) -> T:
    if session.as_json:
        return work()
    with session.err.status("comparing"):
        return work()
