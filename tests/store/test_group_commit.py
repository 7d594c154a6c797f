import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support import failures, gallery_record, identity_record, run_together

from visagedb_indexer.errors import (
    GalleryClosedError,
    IdentityExistsError,
    StorageCorruptError,
    UnavailableError,
)
from visagedb_indexer.store import Change, GalleryStore, GroupCommit, Transaction


@pytest.fixture
def store(tmp_path: Path) -> Iterator[GalleryStore]:
    store = GalleryStore(tmp_path / "gallery", gallery_record())
    yield store
    store.close()


@pytest.fixture
def writer(store: GalleryStore) -> Iterator[GroupCommit]:
    writer = GroupCommit(store, "people")
    yield writer
    writer.close()


class Add:
    """A command that adds an identity and counts its runs."""

    def __init__(self, identity_id: str) -> None:
        self.identity_id = identity_id
        self.runs = 0
        self.applied: list[str] = []

    def __call__(self, txn: Transaction) -> Change[int]:
        self.runs += 1
        number = txn.add_identity(identity_record(self.identity_id)).number
        return Change(number, lambda: self.applied.append(self.identity_id))


def held_back(writer: GroupCommit, commands: list) -> list:
    """Runs commands that all have gathered while the writer was busy with another one."""
    busy, go_on = threading.Event(), threading.Event()

    def blocker(txn: Transaction) -> Change[None]:
        busy.set()
        assert go_on.wait(30)
        return Change(None)

    first = threading.Thread(target=lambda: writer.run(blocker))
    first.start()
    assert busy.wait(30)
    waiting = writer._queue.qsize
    results: list = []
    thread = threading.Thread(
        target=lambda: results.extend(run_together([lambda c=c: writer.run(c) for c in commands]))
    )
    thread.start()
    while waiting() < len(commands):
        pass
    go_on.set()
    thread.join()
    first.join()
    return results


def identities(store: GalleryStore) -> list[str]:
    with store.read() as view:
        return [view.identity_by_number(int(n)).id for n in view.numbers(view.owners())]


def test_writes_that_wait_together_share_one_commit(
    store: GalleryStore, writer: GroupCommit
) -> None:
    before = store.environment._env.info()["last_txnid"]
    commands = [Add(f"p{i}") for i in range(20)]
    assert sorted(held_back(writer, commands)) == list(range(20))
    # The writer that held them back has changed nothing, and so has made no commit.
    assert store.environment._env.info()["last_txnid"] == before + 1
    assert all(command.applied for command in commands)


def test_a_refused_command_leaves_its_neighbours_alone(
    store: GalleryStore, writer: GroupCommit
) -> None:
    def refused(txn: Transaction) -> Change[None]:
        raise IdentityExistsError("no")

    good = [Add(f"p{i}") for i in range(5)]
    results = held_back(writer, [*good[:3], refused, *good[3:]])
    assert [type(error) for error in failures(results)] == [IdentityExistsError]
    assert sorted(identities(store)) == [f"p{i}" for i in range(5)]
    assert [command.runs for command in good] == [1] * 5


@pytest.mark.parametrize("error", [ZeroDivisionError(), StorageCorruptError("half done")])
def test_a_failure_in_the_middle_undoes_that_command_alone(
    store: GalleryStore, writer: GroupCommit, error: Exception
) -> None:
    def broken(txn: Transaction) -> Change[None]:
        txn.add_identity(identity_record("half"))
        raise error

    good = [Add(f"p{i}") for i in range(5)]
    results = held_back(writer, [*good[:3], broken, *good[3:]])
    assert failures(results) == [error]
    assert sorted(identities(store)) == [f"p{i}" for i in range(5)]
    assert {command.runs for command in good} <= {1, 2}
    assert [len(command.applied) for command in good] == [1] * 5


def test_a_refusal_that_comes_too_late_leaves_nothing_behind(
    store: GalleryStore, writer: GroupCommit
) -> None:
    def late(txn: Transaction) -> Change[None]:
        txn.add_identity(identity_record("half"))
        raise IdentityExistsError("found on the way")

    adds = [Add("a"), Add("b")]
    results = held_back(writer, [adds[0], late, adds[1]])
    assert isinstance(results[1], IdentityExistsError)
    with pytest.raises(IdentityExistsError):
        writer.run(late)
    with store.read() as view:
        assert view.find_identity("half") is None
        assert view.counters().identity_count == 2
    assert [add.applied for add in adds] == [["a"], ["b"]]


def test_a_lone_failure_is_undone(store: GalleryStore, writer: GroupCommit) -> None:
    def broken(txn: Transaction) -> Change[None]:
        txn.add_identity(identity_record("half"))
        raise StorageCorruptError("half done")

    with pytest.raises(StorageCorruptError):
        writer.run(broken)
    assert identities(store) == []
    assert writer.run(Add("next")) == 0


def test_memory_follows_in_the_order_of_the_commits(
    store: GalleryStore, writer: GroupCommit
) -> None:
    order: list[int] = []

    def adding(name: str) -> object:
        def command(txn: Transaction) -> Change[None]:
            number = txn.add_identity(identity_record(name)).number
            return Change(None, lambda: order.append(number))

        return command

    assert not failures(run_together([lambda i=i: writer.run(adding(f"p{i}")) for i in range(50)]))
    assert order == list(range(50))


def test_a_closed_writer_finishes_what_is_queued_and_takes_no_more(
    store: GalleryStore,
) -> None:
    writer = GroupCommit(store, "people")
    results: list = []
    threads = [
        threading.Thread(target=lambda i=i: results.append(writer.run(Add(f"p{i}"))))
        for i in range(10)
    ]
    for thread in threads:
        thread.start()
    while writer._queue.qsize() + len(identities(store)) + len(results) == 0:
        pass
    for thread in threads:
        thread.join()
    run_together([writer.close] * 3)
    assert sorted(results) == list(range(10))
    with pytest.raises(GalleryClosedError):
        writer.run(Add("late"))


def test_many_writers_racing_a_close_get_an_answer_each(store: GalleryStore) -> None:
    writer = GroupCommit(store, "people")
    tasks = [lambda i=i: writer.run(Add(f"p{i}")) for i in range(40)]
    results = run_together([*tasks, writer.close])[:-1]
    assert {type(error) for error in failures(results)} <= {GalleryClosedError}
    done = len(results) - len(failures(results))
    assert len(identities(store)) == done


@pytest.mark.filterwarnings("default")
def test_a_writer_whose_memory_cannot_follow_stops_with_an_answer_to_everyone(
    store: GalleryStore,
) -> None:
    writer = GroupCommit(store, "people")

    def unfollowed(txn: Transaction) -> Change[int]:
        number = txn.add_identity(identity_record("durable")).number
        return Change(number, lambda: [][number + 1])

    results = held_back(writer, [Add("a"), unfollowed, Add("b")])
    assert UnavailableError in {type(error) for error in failures(results)}
    with pytest.raises(GalleryClosedError):
        writer.run(Add("late"))
    writer.close()
    assert "durable" in identities(store)


def test_an_unchanged_record_is_not_counted(store: GalleryStore, writer: GroupCommit) -> None:
    writer.run(Add("p"))
    with store.read() as view:
        before = view.counters()
        record = view.identity("p")

    def touch(txn: Transaction) -> Change[None]:
        txn.replace_identity(record, replace(record, revision=2))
        return Change(None)

    writer.run(touch)
    with store.read() as view:
        assert view.counters() == replace(before, generation=before.generation + 1)
