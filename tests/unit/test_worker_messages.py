"""What a child says is read as if an enemy had said it; one that is taken over gets nowhere."""

import os
import pickle
import stat
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sample_photos import SamplePhotosError, sample_photos

from visagedb_indexer import errors, limits
from visagedb_indexer.values import Box, ExtractedFace, Extraction, Landmarks, Point, Quality
from visagedb_indexer.workers import Death, WorkerPool
from visagedb_indexer.workers.messages import (
    Answered,
    BadMessageError,
    Began,
    Outcome,
    Refusal,
    Started,
    packed,
    read_message,
    received,
    received_error,
    received_seconds,
    sent,
)

SECONDS = 60
POINT = Point(3.0, 4.0)
FACE = ExtractedFace(
    Box(1.0, 2.0, 30.0, 40.0),
    Landmarks(POINT, POINT, POINT, POINT, POINT),
    0.9,
    Quality(0.5, 1.0, 0.4, 1.0, 1.0, 0.9, ("BLURRED",)),
    np.array([0.6, 0.8], np.float32),
)
PHOTO = Extraction(640, 480, (FACE,))


def test_extractions_and_errors_come_through() -> None:
    outcomes: list[Any] = [
        PHOTO,
        Extraction(1, 1, ()),
        errors.CorruptImageError("cut", {"field": "image"}),
        errors.ModelNotAvailableError("none", {"model": "x"}),
    ]
    answer = read_message(packed(Answered(3, tuple(map(sent, outcomes)), {"embed": 0.5})))
    assert isinstance(answer, Answered)
    photo, empty, corrupt, model = received(answer.outcomes, 4)
    assert isinstance(photo, Extraction)
    (face,) = photo.faces
    np.testing.assert_array_equal(face.vector, FACE.vector)
    assert face.vector.flags.writeable
    assert (face.box, face.landmarks, face.quality) == (FACE.box, FACE.landmarks, FACE.quality)
    assert empty == Extraction(1, 1, ())
    assert isinstance(corrupt, errors.CorruptImageError)
    assert (corrupt.message, corrupt.metadata) == ("cut", {"field": "image"})
    assert isinstance(model, errors.ModelNotAvailableError)


def changed(**fields: Any) -> Outcome:
    """The photograph with something else about its face."""
    outcome = sent(PHOTO)
    return msgspec.structs.replace(
        outcome, faces=(msgspec.structs.replace(outcome.faces[0], **fields),)
    )


@pytest.mark.parametrize(
    "outcomes",
    [
        (),
        (sent(PHOTO), sent(PHOTO)),
        (changed(vector=b"123"),),
        (changed(vector=b""),),
        (changed(vector=bytes(4 * limits.VECTOR_DIMENSION_MAX + 4)),),
        (changed(vector=np.array([np.nan], "<f4").tobytes()),),
        (changed(detection_score=float("nan")),),
        (changed(detection_score=7.0),),
        (changed(box=Box(float("inf"), 0, 1, 1)),),
        (changed(quality=Quality(2.0, 1, 1, 1, 1, 1)),),
        (changed(quality=Quality(1, 1, 1, 1, 1, 1, ("<script>",))),),
        (msgspec.structs.replace(sent(PHOTO), width=-1),),
        (msgspec.structs.replace(sent(PHOTO), faces=sent(PHOTO).faces * 600),),
        (Outcome(refusal=Refusal("NO_FACE", "x" * 5000)),),
        (Outcome(refusal=Refusal("NO_FACE", "", {str(i): "" for i in range(99)})),),
    ],
)
def test_outcomes_that_no_child_sends_are_refused(outcomes: tuple[Outcome, ...]) -> None:
    with pytest.raises(BadMessageError):
        received(outcomes, 1)


def test_a_child_cannot_raise_what_is_not_its_own() -> None:
    for reason in ("STORAGE_CORRUPT", "GALLERY_CLOSED", "nonsense", ""):
        error = received_error(Refusal(reason, "trust me"))
        assert type(error) is errors.ImageCrashedWorkerError
    assert received_seconds({"embed": 1.0, "evil": 2.0, "decode": -1.0, "align": float("nan")}) == {
        "detect": 0.0, "quality": 0.0, "embed": 1.0,
    }  # fmt: skip


@given(st.binary(max_size=200))
def test_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        message = read_message(data)
    except BadMessageError:
        return
    assert isinstance(message, (Started, Began, Answered))


@given(st.data())
def test_a_damaged_answer_is_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(packed(Answered(1, (sent(PHOTO),), {"embed": 0.1})))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = read_message(bytes(whole))
        if isinstance(message, Answered):
            received(message.outcomes, 1)
    except BadMessageError:
        pass


class Bomb:
    """Whoever unpickles it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


HOSTILE = {
    "pickle": "connection.send_bytes(Path({bomb!r}).read_bytes())",
    "unasked": "connection.send_bytes(packed(Answered(1, (), {{}})))",
    "wrong_count": (
        "connection.send_bytes(packed(Began(1))); "
        "connection.send_bytes(packed(Answered(1, (Outcome(1, 1),) * 99, {{}})))"
    ),
    "began_nothing": "connection.send_bytes(packed(Began(77)))",
    "too_long": "connection.send_bytes(bytes(65 << 20))",
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_child_that_is_taken_over_is_replaced(
    attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process says what no worker says, as soon as it has an image."""
    try:
        photo = sample_photos().people["Barack_Obama"][0].read_bytes()
    except SamplePhotosError as error:
        pytest.skip(str(error))
    bomb, went_off, used = tmp_path / "bomb", tmp_path / "went-off", tmp_path / "used"
    bomb.write_bytes(pickle.dumps(Bomb(went_off)))
    script = tmp_path / "python"
    script.write_text(
        textwrap.dedent(
            f"""\
            #!{sys.executable}
            import os, re, sys, time
            from pathlib import Path
            used = Path({str(used)!r})
            if used.exists():
                os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])
            used.touch()
            sys.path[:] = {sys.path!r}
            from multiprocessing.connection import Connection
            from visagedb_indexer.workers.messages import Answered, Began, Outcome, Started, packed
            connection = Connection(int(re.search(r"main\\((\\d+)\\)", sys.argv[2])[1]))
            connection.recv_bytes()
            connection.send_bytes(packed(Started()))
            connection.recv_bytes()
            {HOSTILE[attack].format(bomb=str(bomb))}
            time.sleep(60)
            """
        )
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(script))
    pool = WorkerPool(count=1)
    try:
        futures = [pool.submit(photo, model="", embed=False) for _ in range(4)]
        assert [len(future.result(SECONDS).faces) for future in futures] == [1] * 4
        deaths = pool.stats().deaths
        assert deaths[Death.BAD_MESSAGE] + deaths[Death.CRASHED] == 1
        assert not went_off.exists()
    finally:
        pool.close(drain=False)


def test_nothing_in_the_workers_unpickles() -> None:
    folder = Path(errors.__file__).parent / "workers"
    for path in folder.glob("*.py"):
        text = path.read_text()
        assert "import pickle" not in text
        assert ".recv()" not in text, f"{path} unpickles"
        assert "connection.send(" not in text, f"{path} pickles"


@pytest.fixture
def small_pool() -> Iterator[WorkerPool]:
    """One process that may have 1.2 GB."""
    pool = WorkerPool(count=1, memory_bytes_max=1200 * limits.MIB)
    pool.wait_ready()
    yield pool
    pool.close(drain=False)


def test_an_image_that_exhausts_memory_is_refused_alone(
    small_pool: WorkerPool, tmp_path: Path
) -> None:
    try:
        photo = sample_photos().people["Barack_Obama"][0].read_bytes()
    except SamplePhotosError as error:
        pytest.skip(str(error))
    Image.new("RGB", (9000, 11_000), (120, 90, 60)).save(tmp_path / "large.png")
    large = (tmp_path / "large.png").read_bytes()
    images = [photo, photo, large, photo, photo]
    futures = [small_pool.submit(image, model="sface", flip=True) for image in images]
    for image, future in zip(images, futures, strict=True):
        if image is large:
            error = future.exception(SECONDS)
            assert isinstance(error, errors.ImageTooLargeError), error
            assert error.metadata["cause"] == errors.OUT_OF_MEMORY
        else:
            assert future.result(SECONDS).faces
    stats = small_pool.stats()
    assert stats.deaths[Death.OUT_OF_MEMORY] >= 1
    assert stats.restarts == stats.deaths[Death.OUT_OF_MEMORY]
    assert stats.images_lost == 0
    assert small_pool.submit(photo, model="sface").result(SECONDS).faces


def test_the_kernel_would_end_a_worker_before_the_server(small_pool: WorkerPool) -> None:
    (pid,) = small_pool.worker_pids()
    score = Path(f"/proc/{pid}/oom_score_adj")
    if not score.exists():
        pytest.skip("this system has no OOM killer to ask")
    assert int(score.read_text()) > int(Path(f"/proc/{os.getpid()}/oom_score_adj").read_text())
