"""TLS: certificates read from files, and read again when the files change."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from visagedb_indexer.errors import FailedPreconditionError

_LOG = structlog.get_logger("visagedb.tls")
_STAMP = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where the certificates are, as PEM.

    Attributes:
        certificate: The server's, with those between it and the root behind it.
        key: Its private key, without a password.
        client_ca: Who signs the certificates of clients; None if they need none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def stamp(self) -> _STAMP:
        """Changes when one of the files does, be it written or replaced.

        Raises:
            OSError: One is not there.
        """
        paths = (self.certificate, self.key, self.client_ca)
        stats = [path.stat() for path in paths if path is not None]
        return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in stats)

    def read(self) -> "Certificates":
        """The contents of the files, checked.

        Raises:
            FailedPreconditionError: One cannot be read, or the key is not the certificate's.
        """
        try:
            return Certificates(
                self.certificate.read_bytes(),
                self.key.read_bytes(),
                None if self.client_ca is None else self.client_ca.read_bytes(),
            )
        except (OSError, ValueError, TypeError) as error:
            raise FailedPreconditionError(
                f"the TLS certificate {self.certificate} with the key {self.key} cannot be used: "
                f"{error}"
            ) from error


class Certificates:
    """A certificate with its private key, in PEM.

    Attributes:
        not_after: When the certificate expires.

    Raises:
        ValueError: It cannot be read, or the key belongs to another certificate.
        TypeError: The key has a password.
    """

    def __init__(self, certificate: bytes, key: bytes, client_ca: bytes | None) -> None:
        leaf = x509.load_pem_x509_certificates(certificate)[0]
        private = serialization.load_pem_private_key(key, None)
        if _public(private.public_key()) != _public(leaf.public_key()):
            raise ValueError("the key is not that of the certificate")
        if client_ca is not None:
            x509.load_pem_x509_certificates(client_ca)
        self.not_after = leaf.not_valid_after_utc
        self.not_before = leaf.not_valid_before_utc
        self._parts = (certificate, key, client_ca)

    def expires_within(self, span: timedelta) -> bool:
        """Whether the certificate is no longer valid after some time."""
        return self.not_after <= datetime.now(UTC) + span

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """As gRPC wants them."""
        certificate, key, client_ca = self._parts
        return grpc.ssl_server_certificate_configuration([(key, certificate)], client_ca)


class ReloadingCertificates:
    """Certificates that follow their files: a new connection gets the newest good ones.

    Files that cannot be used, such as a certificate whose key is not yet in place, are reported
    once, and those read before stay in use.

    Args:
        files: Where they are.

    Raises:
        FailedPreconditionError: They cannot be used.
    """

    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        try:
            self._stamp: _STAMP | None = files.stamp()
        except OSError:
            self._stamp = None
        first = files.read()
        _warn_of_expiry(first)
        self.credentials = grpc.dynamic_ssl_server_credentials(
            first.configuration(),
            cast("Callable[[], grpc.ServerCertificateConfiguration]", self._newer),
            require_client_authentication=files.client_ca is not None,
        )

    def _newer(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC for every new connection; None for no change."""
        try:
            stamp = self._files.stamp()
            if stamp == self._stamp:
                return None
            self._stamp = stamp
            read = self._files.read()
        except (OSError, FailedPreconditionError) as error:
            _LOG.warning("new certificates cannot be used; the old ones stay", error=str(error))
            return None
        _LOG.info("certificates reloaded", expires=read.not_after.isoformat())
        _warn_of_expiry(read)
        return read.configuration()


def _warn_of_expiry(read: Certificates) -> None:
    if read.expires_within(timedelta(days=14)):
        _LOG.warning("the TLS certificate expires soon", expires=read.not_after.isoformat())


def _public(key: object) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    encoded: bytes = key.public_bytes(serialization.Encoding.DER, form)  # type: ignore[attr-defined]
    return encoded
