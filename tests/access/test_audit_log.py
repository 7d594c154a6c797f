"""The audit log: what is in it, that it lasts, and that nobody changes it unnoticed."""

import base64
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from guarded import Guarded, first_admin_key
from servers import make_config, start_process
from support import mates, random_vectors

import visagedb
from visagedb._cli._app import run
from visagedb_indexer.errors import FailedPreconditionError
from visagedb_server import limits
from visagedb_server.access.errors import AuditLogUnavailableError
from visagedb_server.audit_log import AuditLog, Entry
from visagedb_server.audit_log.chain import digest_of, line_of, parse_line
from visagedb_server.audit_log.folder import Folder
from visagedb_server.audit_log.reading import Filter, find
from visagedb_server.audit_log.verifying import verify
from visagedb_server.server import Server

VECTORS = random_vectors(4, 16)


def entry(number: int, **fields: Any) -> Entry:
    return Entry(number, "call", method="test/Test", resource=f"galleries/g{number % 3}", **fields)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A closed log of 20 calls in several files."""
    folder = Folder(tmp_path / "audit")
    log = AuditLog(folder, file_bytes_max=700)
    for number in range(20):
        log.put_durable(entry(number))
    log.close()
    assert len(folder.files()) > 3
    return folder


def problems(folder: Folder, head: str = "") -> list[str]:
    return [finding.problem for finding in verify(folder, head).findings]


def rewrite(path: Path, change: Any) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))


def test_a_log_that_nobody_touched_is_in_order(folder: Folder) -> None:
    found = verify(folder)
    assert found.findings == ()
    assert found.first_sequence == 1
    assert found.entry_count == found.head.sequence > 20
    assert problems(folder, str(found.head)) == []
    again = AuditLog(folder)
    again.close()
    assert problems(folder, str(found.head)) == []
    sequences = [
        one.sequence for one in find(folder, everything(), 1000, oldest_first=True).entries
    ]
    assert sequences == list(range(1, len(sequences) + 1))


def everything() -> Filter:
    return Filter(sees=lambda gallery: True)


def change_a_word(lines: list[bytes]) -> None:
    lines[1] = lines[1].replace(b"test/Test", b"test/Tess")


def remove_one(lines: list[bytes]) -> None:
    del lines[1]


def swap_two(lines: list[bytes]) -> None:
    lines[1], lines[2] = lines[2], lines[1]


def insert_a_copy(lines: list[bytes]) -> None:
    lines.insert(2, lines[1])


def insert_a_forged_one(lines: list[bytes]) -> None:
    digest, content, _ = parse_line(lines[1].strip())
    own = digest_of(b"another key" * 3, digest, content)
    lines.insert(2, line_of(own, content))


def write_garbage(lines: list[bytes]) -> None:
    lines[1] = b"garbage\n"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (change_a_word, "changed"),
        (remove_one, "removed"),
        (swap_two, "reordered"),
        (insert_a_copy, "inserted"),
        (insert_a_forged_one, "inserted"),
        (write_garbage, "changed"),
    ],
)
def test_a_change_is_found(folder: Folder, change: Any, word: str) -> None:
    rewrite(folder.files()[1], change)
    found = problems(folder)
    assert found
    assert any(word in problem for problem in found), found


def test_every_byte_counts(folder: Folder) -> None:
    path = folder.files()[1]
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(bytes(damaged))
        assert problems(folder), place
    path.write_bytes(whole)
    assert problems(folder) == []


def test_entries_that_are_cut_off_are_missed(folder: Folder) -> None:
    rewrite(folder.files()[-1], lambda lines: lines.pop())
    assert any("cut off" in problem for problem in problems(folder))


def test_a_file_that_is_gone_is_missed(folder: Folder) -> None:
    files = folder.files()
    kept = files[0].read_bytes()
    files[0].unlink()
    assert any("removed" in problem for problem in problems(folder))
    files[0].write_bytes(kept)
    files[2].unlink()
    assert any("removed" in problem for problem in problems(folder))


def test_an_old_copy_put_back_is_found_by_a_head_that_was_noted(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "audit")
    log = AuditLog(folder)
    log.put_durable(entry(1))
    old = {path: path.read_bytes() for path in folder.path.iterdir()}
    log.put_durable(entry(2))
    log.close()
    noted = str(verify(folder).head)
    for path, data in old.items():
        path.write_bytes(data)
    # By itself it is a chain like any other.
    assert problems(folder) == []
    assert any("cut off" in problem for problem in problems(folder, noted))
    with pytest.raises(ValueError, match="no head"):
        verify(folder, "12:zz")


def test_damage_before_a_start_stays_visible(folder: Folder) -> None:
    rewrite(folder.files()[-1], lambda lines: lines.pop())
    log = AuditLog(folder)
    log.put_durable(entry(99))
    log.close()
    assert any("removed" in problem for problem in problems(folder))
    start = find(folder, everything(), 10).entries[-1]
    assert any(
        "gone" in one.details.get("damage", "") for one in find(folder, everything(), 5).entries
    ), start


def test_a_torn_line_is_what_a_crash_leaves_and_no_damage(folder: Folder) -> None:
    with folder.files()[-1].open("ab") as file:
        file.write(b"0123456789abcdef")
    assert problems(folder) == []
    AuditLog(folder).close()
    assert problems(folder) == []
    torn = [one.details.get("torn_bytes") for one in find(folder, everything(), 3).entries]
    assert "16" in torn


@pytest.mark.parametrize("with_head", [True, False])
@pytest.mark.parametrize("everything_is_garbage", [True, False])
def test_no_entry_is_overwritten_after_damage(
    folder: Folder, with_head: bool, everything_is_garbage: bool
) -> None:
    for path in folder.files() if everything_is_garbage else folder.files()[-1:]:
        rewrite(path, lambda lines: lines.__setitem__(slice(None), [b"garbage\n"] * len(lines)))
    before = {path: path.read_bytes() for path in folder.files()}
    if not with_head:
        (folder.path / "HEAD").unlink()
    log = AuditLog(folder)
    log.put_durable(entry(5))
    log.close()
    assert {path: path.read_bytes() for path in before} == before
    assert len(folder.files()) == len(before) + 1
    assert problems(folder)


@pytest.mark.parametrize("begun", [b"", b"0123"])
def test_a_crash_while_a_file_is_begun_is_no_damage(folder: Folder, begun: bytes) -> None:
    before = verify(folder)
    folder.file_at(before.head.sequence + 1).write_bytes(begun)
    for _ in range(2):
        log = AuditLog(folder, file_bytes_max=700, files_max=3)
        for number in range(20):
            log.put_durable(entry(number))
        log.close()
    assert problems(folder) == []


def test_the_oldest_files_make_room_and_the_log_says_so(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "audit")
    log = AuditLog(folder, file_bytes_max=700, files_max=3)
    for number in range(40):
        log.put(entry(number))
        log.flush()
    log.close()
    assert len(folder.files()) == 3
    found = verify(folder)
    assert found.findings == ()
    assert found.first_sequence > 10
    folder.files()[0].unlink()
    assert any("removed" in problem for problem in problems(folder))


def test_a_log_without_its_key_is_not_continued(folder: Folder, tmp_path: Path) -> None:
    folder.key_file.rename(tmp_path / "kept")
    with pytest.raises(FailedPreconditionError, match="its key"):
        AuditLog(folder)
    with pytest.raises(FailedPreconditionError):
        verify(folder)
    elsewhere = Folder(folder.path, tmp_path / "kept")
    AuditLog(elsewhere).close()
    assert problems(elsewhere) == []


def test_entries_of_many_threads_are_one_chain(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "audit")
    log = AuditLog(folder)

    def work(first: int) -> None:
        for number in range(first, first + 200):
            log.put(entry(number))
        log.put_durable(entry(0))

    threads = [threading.Thread(target=work, args=(1000 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    found = verify(folder)
    assert found.findings == ()
    assert found.entry_count == 4 * 201 + 3


def test_reading_by_page_and_filter(folder: Folder) -> None:
    everything_ = find(folder, everything(), 1000).entries
    pages, after = [], 0
    while True:
        found = find(folder, everything(), 7, after=after)
        pages += found.entries
        if not found.next_sequence:
            break
        after = found.next_sequence
    assert pages == list(everything_)
    assert list(reversed(pages)) == list(
        find(folder, everything(), 1000, oldest_first=True).entries
    )
    late = find(folder, everything(), 1000, after=10, oldest_first=True).entries
    assert late[0].sequence == 11
    of_g1 = find(folder, Filter(lambda gallery: True, resource="galleries/g1"), 1000).entries
    assert {one.resource for one in of_g1} == {"galleries/g1"}
    seen = find(folder, Filter(lambda gallery: gallery == "g2"), 1000).entries
    assert {one.gallery for one in seen} == {"g2"}
    timed = find(folder, Filter(lambda gallery: True, start_us=3, end_us=5), 1000).entries
    assert sorted(one.time_us for one in timed) == [3, 4]


def test_what_cannot_be_written_down_is_not_done(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    with visagedb.Client(guarded.server.address, api_key=guarded.admin) as client:
        client.create_gallery("unwritten", model="test", dimension=16)
        log = guarded.server.audit_log
        monkeypatch.setattr(log, "_failure", "the disk is full")
        with pytest.raises(visagedb.UnavailableError, match="audit log") as refused:
            client.delete_gallery("unwritten")
        assert refused.value.reason == "AUDIT_LOG_UNAVAILABLE"
        monkeypatch.setattr(log, "_failure", "")
        assert client.get_gallery("unwritten")


def test_a_full_disk_is_reported_and_overcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path / "audit")
    log = AuditLog(folder)
    monkeypatch.setattr("visagedb_server.audit_log.writer.RETRY_SECONDS", 0.01)
    monkeypatch.setattr("visagedb_server.audit_log.writer.DURABLE_SECONDS_MAX", 0.2)
    real = log._write

    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log, "_write", full)
    with pytest.raises(AuditLogUnavailableError, match="No space"):
        log.put_durable(entry(1))
    with pytest.raises(AuditLogUnavailableError, match="No space"):
        log.check()
    monkeypatch.setattr(log, "_write", real)
    monkeypatch.setattr("visagedb_server.audit_log.writer.DURABLE_SECONDS_MAX", 10)
    log.put_durable(entry(2))
    log.check()
    log.close()
    assert problems(folder) == []
    assert [one.time_us for one in find(folder, everything(), 9).entries if one.method] == [2, 1]


def test_after_a_failed_sync_nothing_is_done_until_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path / "audit")
    log = AuditLog(folder)
    monkeypatch.setattr("visagedb_server.audit_log.writer.DURABLE_SECONDS_MAX", 0.5)

    def fail() -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(log, "_sync", fail)
    with pytest.raises(AuditLogUnavailableError, match="restart"):
        log.put_durable(entry(1))
    with pytest.raises(AuditLogUnavailableError, match="Input/output"):
        log.check()
    log.close()
    AuditLog(folder).close()
    assert problems(folder) == []


@pytest.fixture
def client(tmp_path: Path) -> Iterator[visagedb.Client]:
    data = tmp_path / "data"
    key = first_admin_key(data)
    server = Server(make_config(data))
    server.start()
    with visagedb.Client(server.address, api_key=key) as client:
        yield client
    server.stop(grace=5)


def test_what_is_written_of_calls(client: visagedb.Client, tmp_path: Path) -> None:
    me = client.get_caller().api_key
    client.create_gallery("people", model="test", dimension=16, threshold=0.5)
    client.enroll("people", "ada", vector=VECTORS[0])
    client.identify("people", vector=VECTORS[0])
    client.identify("people", vector=VECTORS[1])
    list(client.stream_identify("people", iter(mates(VECTORS[:1], 0.9))))
    client.verify(VECTORS[0], gallery="people", identity="ada")
    list(client.list_faces("people", "ada", include_template=True))
    list(client.list_faces("people", "ada"))
    client.get_gallery("people")
    client.update_gallery("people", display_name="All")
    made = client.create_api_key("auditor", ["people"], display_name="office")
    client.delete_identity("people", "ada")
    with pytest.raises(visagedb.GalleryNotFoundError):
        client.identify("nobody", vector=VECTORS[0])
    client.revoke_api_key(made.key)

    entries = [e for e in client.list_audit_entries(oldest_first=True) if e.event == "call"]
    brief = [(e.method.rpartition("/")[2], e.resource, e.outcome, e.decision) for e in entries]
    assert (
        brief[:13]
        == [
            ("CreateGallery", "galleries/people", "OK", ""),
            ("EnrollFace", "galleries/people/identities/ada", "OK", ""),
            ("Identify", "galleries/people", "OK", "match"),
            ("Identify", "galleries/people", "OK", "no_match"),
            ("StreamIdentify", "galleries/people", "OK", "match"),
            ("Verify", "galleries/people", "OK", "match"),
            ("ListFaces", "galleries/people/identities/ada", "OK", ""),
            ("UpdateGallery", "galleries/people", "OK", ""),
            ("CreateApiKey", made.key.name, "OK", ""),
            ("DeleteIdentity", "galleries/people/identities/ada", "OK", ""),
            ("Identify", "galleries/nobody", "NOT_FOUND", ""),
            ("RevokeApiKey", made.key.name, "OK", ""),
            ("ListAuditEntries", "", "OK", ""),
        ][: len(brief)]
    )
    assert len(brief) >= 12
    assert {e.api_key for e in entries} == {me}
    assert all(e.peer.startswith("ipv4:127.0.0.1") and e.time is not None for e in entries)
    identify = entries[2]
    assert identify.details["identities"] == "galleries/people/identities/ada"
    assert identify.counts == {"faces": 1, "matches": 1, "candidates": 1}
    assert entries[9].counts == {"faces": 1}
    # No vector in any writing, and no secret.
    text = b"".join(path.read_bytes() for path in (tmp_path / "data" / "audit").glob("*.log"))
    raw = VECTORS[0].astype("<f4").tobytes()
    for trace in (raw, base64.b64encode(raw), raw.hex().encode(), str(VECTORS[0][0]).encode()):
        assert trace[:12] not in text
    assert made.secret.split("_", 2)[2].encode() not in text


def test_what_the_server_does_by_itself_is_written_too(client: visagedb.Client) -> None:
    client.create_gallery("people", model="test", dimension=16)
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    client.create_identity("people", "ada", expire_time=soon)
    operation = client.cluster("people")
    operation.result(timeout=30)
    ended = [e for e in client.list_audit_entries() if e.event == "operation"]
    assert [(e.resource, e.details["operation"]) for e in ended] == [
        ("galleries/people", operation.name)
    ]
    until = time.monotonic() + 30
    while not (expired := [e for e in client.list_audit_entries() if e.event == "expiry"]):
        assert time.monotonic() < until
        time.sleep(0.2)
    assert (expired[0].resource, dict(expired[0].counts)) == ("galleries/people", {"identities": 1})


def test_an_auditor_of_one_gallery_sees_its_entries_and_no_face(client: visagedb.Client) -> None:
    for name in ("north", "south"):
        client.create_gallery(name, model="test", dimension=16)
    key = client.create_api_key("auditor", ["north"]).secret
    with visagedb.Client(client.address, api_key=key) as auditor:
        seen = list(auditor.list_audit_entries())
        assert {entry.resource for entry in seen} == {"galleries/north"}
        with pytest.raises(visagedb.PermissionDeniedError):
            auditor.identify("north", vector=VECTORS[0])
        with pytest.raises(visagedb.PermissionDeniedError):
            auditor.verify_audit_log()
    refusals = list(client.list_audit_entries(outcome="PERMISSION_DENIED"))
    assert sorted(entry.reason for entry in refusals) == [
        "GALLERY_NOT_GRANTED",
        "ROLE_NOT_SUFFICIENT",
    ]


def test_a_delete_is_written_down_before_it_is_acknowledged(tmp_path: Path) -> None:
    data = tmp_path / "data"
    key = first_admin_key(data)
    server = start_process(data, "--workers", "0")
    with visagedb.Client(server.address, api_key=key) as client:
        client.create_gallery("people", model="test", dimension=16)
        for number, vector in enumerate(VECTORS):
            client.enroll("people", f"p{number}", vector=vector)
        for number in range(len(VECTORS)):
            client.delete_identity("people", f"p{number}")
        os.kill(server.process.pid, signal.SIGKILL)
        server.kill()
    folder = Folder(data / "audit")
    assert problems(folder) == []
    deleted = find(folder, Filter(lambda gallery: True, method="DeleteIdentity"), 10).entries
    assert len(deleted) == len(VECTORS)
    Server(make_config(data)).stop(grace=0)
    assert problems(folder) == []


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = start_process(tmp_path / "other", "--workers", "0")
    try:
        with visagedb.Client(process.address) as other:
            other.create_gallery("people", model="test", dimension=16)
        address = ["--address", process.address]
        assert run([*address, "audit", "list", "--json"]) == 0
        entries = json.loads(capsys.readouterr().out)["entries"]
        assert "CreateGallery" in {e["method"].rpartition("/")[2] for e in entries}
        assert run([*address, "audit", "list", "--outcome", "PERMISSION_DENIED"]) == 0
        assert run([*address, "audit", "tail", "--no-follow", "--method", "CreateGallery"]) == 0
        assert "galleries/people" in capsys.readouterr().out
        assert run([*address, "audit", "verify", "--json"]) == 0
        head = json.loads(capsys.readouterr().out)["verification"]["head"]
        data = ["--data", str(tmp_path / "other")]
        assert run(["audit", "verify", *data, "--head", head]) == 0
        assert "in order" in capsys.readouterr().out
    finally:
        process.terminate()
    path = Folder(tmp_path / "other" / "audit").files()[0]
    path.write_bytes(path.read_bytes().replace(b"galleries/people", b"galleries/poople"))
    assert run(["audit", "verify", *data]) == 1
    assert "NOT IN ORDER" in capsys.readouterr().out
    assert run(["audit", "verify", "--data", str(tmp_path / "nothing")]) == 1


def test_too_much_that_waits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(Folder(tmp_path / "audit"))
    monkeypatch.setattr(limits, "AUDIT_LOG_QUEUE_MAX", 0)
    with pytest.raises(AuditLogUnavailableError, match="too much"):
        log.check()
    log.close()
