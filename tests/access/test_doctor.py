"""What `visagedb doctor` says of certificates, permissions and the audit log."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from guarded import Guarded

from visagedb_server.audit_log import AuditLog
from visagedb_server.audit_log.folder import Folder
from visagedb_server.commands.checks import Status
from visagedb_server.commands.security_checks import api_key, audit_log, certificates, permissions


def pair(folder: Path, days: float) -> tuple[Path, Path]:
    now = datetime.now(UTC)
    leaf = trustme.CA().issue_cert(
        "localhost", not_before=now - timedelta(days=2), not_after=now + timedelta(days=days)
    )
    certificate, key = folder / "server.pem", folder / "server.key"
    leaf.cert_chain_pems[0].write_to_path(str(certificate))
    key.write_bytes(leaf.private_key_pem.bytes())
    key.chmod(0o600)
    return certificate, key


@pytest.mark.parametrize(
    ("days", "expected"), [(90, Status.OK), (10, Status.WARN), (-1, Status.FAIL)]
)
def test_the_expiry_of_a_certificate(tmp_path: Path, days: float, expected: Status) -> None:
    found = list(certificates(*pair(tmp_path, days), None))
    assert [check.status for check in found] == [expected, Status.OK]


def test_a_certificate_that_cannot_be_used(tmp_path: Path) -> None:
    certificate, key = pair(tmp_path, 90)
    assert [check.status for check in certificates(certificate, None, None)] == [Status.FAIL]
    key.chmod(0o644)
    assert [check.status for check in certificates(certificate, key, None)][1] is Status.WARN
    key.write_text("nonsense")
    assert [check.status for check in certificates(certificate, key, None)] == [Status.FAIL]
    assert list(certificates(None, None, None)) == []


def test_the_key_of_the_environment(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    address = guarded.server.address
    [missing] = api_key(address)
    assert missing.status is Status.WARN
    monkeypatch.setenv("VISAGEDB_API_KEY", guarded.key("reader", "north"))
    [taken] = api_key(address)
    assert taken.status is Status.OK
    assert "reader of north" in taken.detail
    assert list(api_key("127.0.0.1:1")) == []


def test_permissions_and_the_log(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert list(permissions(data)) == list(audit_log(data)) == []
    data.mkdir(mode=0o700)
    AuditLog(Folder(data / "audit")).close()
    assert {check.status for check in (*permissions(data), *audit_log(data))} == {Status.OK}
    data.chmod(0o755)
    assert next(permissions(data)).status is Status.WARN
    path = Folder(data / "audit").files()[0]
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    [check] = audit_log(data)
    assert check.status is Status.FAIL
    assert "audit verify" in check.fix
