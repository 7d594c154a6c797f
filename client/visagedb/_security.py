"""Encryption and API keys of a connection: what was given, and what the environment says."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc

from visagedb._channel import is_loopback
from visagedb._errors import InvalidArgumentError

API_KEY_VARIABLE: Final = "VISAGEDB_API_KEY"
CA_VARIABLE: Final = "VISAGEDB_CA"
CERTIFICATE_VARIABLE: Final = "VISAGEDB_CLIENT_CERT"
KEY_VARIABLE: Final = "VISAGEDB_CLIENT_KEY"


@dataclass(frozen=True, slots=True)
class Tls:
    """How a client encrypts its connection, as PEM files.

    Attributes:
        ca: Who signed the server's certificate; None for the authorities that gRPC knows.
        certificate: The client's own certificate, for servers that need one.
        key: The private key of that certificate.
    """

    ca: str | os.PathLike[str] | None = None
    certificate: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """As gRPC wants them.

        Raises:
            OSError: A file cannot be read.
        """
        return grpc.ssl_channel_credentials(
            *(None if path is None else Path(path).read_bytes()
              for path in (self.ca, self.key, self.certificate))
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Security:
    """What a connection needs to be let in.

    Attributes:
        credentials: Of the transport; None for an unencrypted connection.
        metadata: What every call carries.
    """

    credentials: grpc.ChannelCredentials | None
    metadata: tuple[tuple[str, str], ...] = field(repr=False)

    def signed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """A gRPC method whose calls carry the key."""
        return partial(method, metadata=self.metadata) if self.metadata else method


def security(
    address: str,
    api_key: str | None,
    tls: Tls | bool | None,
    credentials: grpc.ChannelCredentials | None,
    environment: Mapping[str, str] = os.environ,
) -> Security:
    """What a connection to an address needs.

    Args:
        address: Where the server is.
        api_key: None for the environment's, empty for none.
        tls: True for the authorities that gRPC knows; None for what the environment says;
            False for no encryption.
        credentials: Instead of `tls`.
        environment: Where the variables are looked up.

    Raises:
        InvalidArgumentError: A key would travel unencrypted to another machine.
        OSError: A certificate cannot be read.
    """
    key = environment.get(API_KEY_VARIABLE, "") if api_key is None else api_key
    key = key.strip()
    if credentials is None and tls is None:
        tls = _tls_of(environment)
    if credentials is None and tls is not None and tls is not False:
        credentials = (Tls() if tls is True else tls).credentials()
    if key and credentials is None and tls is not False and not is_loopback(address):
        raise InvalidArgumentError(
            f"the API key would travel unencrypted to {address}; give tls=True or tls=Tls(...) "
            f"(or {CA_VARIABLE}), or tls=False if the network is yours",
            code="INVALID_ARGUMENT",
            reason="INVALID_ARGUMENT",
        )
    if not key.isascii() or any(character.isspace() for character in key):
        raise InvalidArgumentError(
            "the API key has characters that no key has",
            code="INVALID_ARGUMENT",
            reason="INVALID_ARGUMENT",
        )
    return Security(credentials, (("authorization", f"Bearer {key}"),) if key else ())


def _tls_of(environment: Mapping[str, str]) -> Tls | None:
    ca, certificate, key = (
        environment.get(name) or None for name in (CA_VARIABLE, CERTIFICATE_VARIABLE, KEY_VARIABLE)
    )
    return Tls(ca, certificate, key) if ca or certificate else None
