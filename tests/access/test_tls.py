"""Encrypted connections with real certificates, and certificates that change under way."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from guarded import first_admin_key
from servers import make_config, start_process

import visagedb
from visagedb_indexer.errors import FailedPreconditionError
from visagedb_server.access.tls import CertificateFiles
from visagedb_server.config import ConfigError, ServerConfig
from visagedb_server.server import Server


@dataclass
class Files:
    """A certificate authority, and the files of a server."""

    folder: Path
    ca: trustme.CA

    @property
    def cert(self) -> Path:
        return self.folder / "server.pem"

    @property
    def key(self) -> Path:
        return self.folder / "server.key"

    @property
    def root(self) -> Path:
        return self.folder / "ca.pem"

    def issue(self, ca: trustme.CA | None = None, **options: Any) -> trustme.LeafCert:
        """Writes a new certificate where the server looks for it."""
        leaf = (ca or self.ca).issue_cert("127.0.0.1", "localhost", **options)
        self.cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        self.key.write_bytes(leaf.private_key_pem.bytes())
        return leaf

    def client_pair(self, name: str, ca: trustme.CA) -> tuple[Path, Path]:
        leaf = ca.issue_cert(name)
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(str(key))
        return certificate, key


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(tmp_path, trustme.CA())
    files.ca.cert_pem.write_to_path(str(files.root))
    files.issue()
    return files


@pytest.fixture
def tls_server(files: Files, tmp_path: Path) -> Iterator[Server]:
    server = Server(make_config(tmp_path / "data", tls_cert=files.cert, tls_key=files.key))
    server.start()
    yield server
    server.stop(grace=5)


def connects(server: Server, tls: visagedb.Tls | bool) -> bool:
    with visagedb.Client(server.address, tls=tls, timeout=5) as client:
        try:
            client.get_caller()
        except visagedb.ServerUnreachableError:
            return False
        return True


def test_a_client_that_trusts_the_authority_connects(files: Files, tls_server: Server) -> None:
    assert connects(tls_server, visagedb.Tls(files.root))
    assert not connects(tls_server, False)
    assert not connects(tls_server, True)
    other = files.folder / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    assert not connects(tls_server, visagedb.Tls(other))


async def test_the_asynchronous_client_connects(files: Files, tls_server: Server) -> None:
    tls = visagedb.Tls(files.root)
    async with visagedb.AsyncClient(tls_server.address, tls=tls) as client:
        assert (await client.get_caller()).role is visagedb.Role.ADMIN


def test_new_certificates_are_taken_without_a_restart(files: Files, tls_server: Server) -> None:
    old = visagedb.Client(tls_server.address, tls=visagedb.Tls(files.root))
    old.get_caller()
    new_ca = trustme.CA()
    new_root = files.folder / "new.pem"
    new_ca.cert_pem.write_to_path(str(new_root))
    files.issue(new_ca)
    assert connects(tls_server, visagedb.Tls(new_root))
    assert not connects(tls_server, visagedb.Tls(files.root))
    # A connection that is there goes on.
    old.get_caller()
    old.close()


def test_certificates_that_cannot_be_used_are_left_alone(files: Files, tls_server: Server) -> None:
    tls = visagedb.Tls(files.root)
    files.cert.write_text("nonsense")
    assert connects(tls_server, tls)
    files.issue()
    another = files.ca.issue_cert("localhost").private_key_pem.bytes()
    files.key.write_bytes(another)
    assert connects(tls_server, tls)
    files.cert.unlink()
    assert connects(tls_server, tls)
    files.issue()
    assert connects(tls_server, tls)


def test_with_a_client_authority_clients_need_a_certificate(files: Files, tmp_path: Path) -> None:
    clients = trustme.CA()
    authority = files.folder / "clients.pem"
    clients.cert_pem.write_to_path(str(authority))
    server = Server(
        make_config(
            tmp_path / "data", tls_cert=files.cert, tls_key=files.key, tls_client_ca=authority
        )
    )
    server.start()
    try:
        assert connects(server, visagedb.Tls(files.root, *files.client_pair("door", clients)))
        assert not connects(server, visagedb.Tls(files.root))
        stranger = files.client_pair("stranger", trustme.CA())
        assert not connects(server, visagedb.Tls(files.root, *stranger))
    finally:
        server.stop(grace=5)


def test_the_key_must_be_the_certificates_own(files: Files, tmp_path: Path) -> None:
    files.key.write_bytes(files.ca.issue_cert("localhost").private_key_pem.bytes())
    config = make_config(tmp_path / "data", tls_cert=files.cert, tls_key=files.key)
    with pytest.raises(FailedPreconditionError, match="not that of the certificate"):
        Server(config)
    with pytest.raises(FailedPreconditionError, match="No such file"):
        CertificateFiles(files.cert, files.folder / "missing").read()
    # The data directory was given up each time.
    files.issue()
    Server(config).stop(grace=0)


def test_a_certificate_knows_when_it_ends(files: Files) -> None:
    files.issue(not_after=datetime.now(UTC) + timedelta(days=3))
    read = CertificateFiles(files.cert, files.key).read()
    assert read.expires_within(timedelta(days=4))
    assert not read.expires_within(timedelta(days=2))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"host": "0.0.0.0"}, "tls_cert"),  # noqa: S104
        ({"tls_cert": "x"}, "belong together"),
        ({"tls_key": "x"}, "belong together"),
        ({"tls_client_ca": "x"}, "needs tls_cert"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        ServerConfig.load(data="x", **settings)


def test_beyond_this_machine_tls_and_a_key_are_needed(files: Files, tmp_path: Path) -> None:
    data = tmp_path / "data"
    settings = {"host": "0.0.0.0", "tls_cert": files.cert, "tls_key": files.key}  # noqa: S104
    with pytest.raises(FailedPreconditionError, match="keys create"):
        Server(make_config(data, **settings))
    key = first_admin_key(data)
    server = Server(make_config(data, **settings))
    server.start()
    try:
        address = f"127.0.0.1:{server.port}"
        tls = visagedb.Tls(files.root)
        with visagedb.Client(address, tls=tls, api_key=key) as client:
            assert client.get_caller().role is visagedb.Role.ADMIN
        with visagedb.Client(address, tls=tls) as client:
            assert client.health() is visagedb.HealthStatus.SERVING
            with pytest.raises(visagedb.UnauthenticatedError):
                client.list_galleries().__next__()
    finally:
        server.stop(grace=5)


def test_an_insecure_server_says_so_loudly(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = start_process(
        tmp_path / "data",
        "--host",
        "0.0.0.0",  # noqa: S104
        "--insecure",
        "--workers",
        "0",
    )
    server.terminate()
    said = capfd.readouterr().err
    assert said.count("INSECURE") == 2
    assert "no TLS" in said
    assert "no API keys" in said


def test_a_command_connects_with_options(
    files: Files, tls_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    from visagedb._cli._app import run

    assert run(["--address", tls_server.address, "--ca", str(files.root), "gallery", "list"]) == 0
    assert run(["--address", tls_server.address, "gallery", "list"]) == 3
    assert io.StringIO(capsys.readouterr().err).read()
