"""The checks of `visagedb doctor` about certificates, permissions and the audit log."""

import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from visagedb_indexer.errors import IndexerError
from visagedb_server.access.tls import CertificateFiles
from visagedb_server.audit_log.folder import Folder
from visagedb_server.commands.checks import SERVER_TIMEOUT_SECONDS, Check, Status

EXPIRY_WARN: Final = timedelta(days=30)
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def certificates(certificate: Path | None, key: Path | None, ca: Path | None) -> Iterator[Check]:
    """Whether the server's certificate can be used, for how long, and who can read its key."""
    if certificate is None and key is None:
        return
    name = "certificate"
    if certificate is None or key is None:
        yield Check(name, Status.FAIL, "only one of both was given", "--tls-cert and --tls-key")
        return
    try:
        read = CertificateFiles(certificate, key, ca).read()
    except IndexerError as error:
        yield Check(name, Status.FAIL, error.message, "mend the files, or name others")
        return
    until = read.not_after.strftime("%Y-%m-%d %H:%M UTC")
    fix = "get a new one; a running server takes it without a restart"
    if read.expires_within(timedelta(0)):
        yield Check(name, Status.FAIL, f"{certificate} expired on {until}", fix)
    elif read.not_before > datetime.now(UTC):
        yield Check(name, Status.FAIL, f"{certificate} is not valid yet", "look at the clock")
    elif read.expires_within(EXPIRY_WARN):
        yield Check(name, Status.WARN, f"{certificate} expires on {until}", fix)
    else:
        yield Check(name, Status.OK, f"{certificate} with its key, until {until}")
    yield _private("certificate's key", key)


def permissions(data: Path | None) -> Iterator[Check]:
    """Whether the data directory, which holds biometric data, is for its owner only."""
    if data is None or not data.is_dir():
        return
    yield _private("data directory's mode", data)
    folder = Folder(data / "audit")
    if folder.key_file.exists():
        yield _private("audit log's key", folder.key_file)


def audit_log(data: Path | None) -> Iterator[Check]:
    """Whether the end of the audit log is where its head says; all of it is much to read."""
    if data is None or not (data / "audit").is_dir():
        return
    folder, name, fix = Folder(data / "audit"), "audit log", "visagedb audit verify --data DIR"
    try:
        # Read first: a running server writes on.
        head, (last, damage) = folder.read_head(), folder.last()
    except OSError as error:
        yield Check(name, Status.FAIL, f"cannot be read: {error}", fix)
        return
    if damage:
        yield Check(name, Status.FAIL, damage, fix)
    elif head is None or head.sequence > last.sequence:
        yield Check(name, Status.FAIL, "its newest entries are gone", fix)
    else:
        yield Check(name, Status.OK, f"{last.sequence:,} entries, the newest in place")


def api_key(address: str | None) -> Iterator[Check]:
    """Whether a server that runs takes the key of the environment, or needs none."""
    from visagedb import DEFAULT_ADDRESS, Client, UnauthenticatedError, VisageError

    name = "API key"
    try:
        with Client(address or DEFAULT_ADDRESS, timeout=SERVER_TIMEOUT_SECONDS) as client:
            caller = client.get_caller()
    except UnauthenticatedError as error:
        yield Check(name, Status.WARN, error.message, "set VISAGEDB_API_KEY to a valid key")
    except (VisageError, OSError):
        return  # Whether a server answers is another check.
    else:
        sees = "all galleries" if caller.galleries is None else ", ".join(caller.galleries)
        whose = f"key {caller.api_key}" if caller.api_key else "the server needs none"
        yield Check(name, Status.OK, f"{whose}: {caller.role} of {sees}")


def _private(name: str, path: Path) -> Check:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        return Check(name, Status.FAIL, f"{path}: {error.strerror}", "make it readable")
    if mode & _OTHERS:
        wanted = "700" if path.is_dir() else "600"
        detail = f"{path} can be read by others (mode {mode:o})"
        return Check(name, Status.WARN, detail, f"chmod {wanted} {path}")
    return Check(name, Status.OK, f"{path} is for its owner only")
