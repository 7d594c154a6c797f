"""The server's settings: one validated object from flags, environment and a TOML file.

A flag beats an environment variable (``VISAGEDB_...``), which beats the file.
"""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from visagedb_indexer import limits
from visagedb_indexer.cores import CORES
from visagedb_server import DEFAULT_PORT
from visagedb_server import limits as limits_of_server
from visagedb_server.access.tls import CertificateFiles

_PORT_MAX: Final = 65535


class ConfigError(Exception):
    """The settings are not valid; the message lists every fault."""


class ServerConfig(BaseSettings):
    """How one server runs. Times in seconds."""

    model_config = SettingsConfigDict(env_prefix="VISAGEDB_", extra="forbid", frozen=True)

    data: Path = Field(description="The data directory.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(DEFAULT_PORT, ge=0, le=65535, description="Port; 0 takes a free one.")
    insecure: bool = Field(
        False, description="Listen beyond this machine without encryption or keys."
    )
    tls_cert: Path | None = Field(None, description="The server's certificate chain, PEM.")
    tls_key: Path | None = Field(None, description="The private key of the certificate, PEM.")
    tls_client_ca: Path | None = Field(
        None, description="Who signs the certificates that clients must have, PEM."
    )
    require_keys: bool = Field(False, description="Need API keys even while there are none.")
    audit_key: Path | None = Field(
        None, description="File with the audit log's key; by default it lies with the log."
    )
    workers: int = Field(
        CORES,
        ge=0,
        le=limits.WORKERS_MAX,
        description="Embedding processes; 0 for a server that takes vectors only.",
    )
    worker_threads: int = Field(
        0, ge=0, le=1024, description="Threads of each; 0 shares the cores among them."
    )
    worker_memory_mib: int = Field(
        limits.WORKER_MEMORY_BYTES_DEFAULT // limits.MIB,
        ge=0,
        description="Memory that each may have, in MiB; 0 for no limit.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Arithmetic of the embedding networks."
    )
    device: str = Field("cpu", description="Where the networks run: cpu or cuda.")
    models: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="Model cards, or folders of them; as one text, with colons between."
    )
    default_model: str = Field("sface", description="Model of galleries that name none.")
    import_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="Folders that imports may read; as one text, with colons between."
    )
    export_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="Folders that exports may write to; as one text, with colons between."
    )
    threads: int = Field(
        128, ge=2, le=limits.REQUEST_THREADS_MAX, description="Requests served at once."
    )
    requests_max: int = Field(
        256, ge=2, le=100_000, description="Requests served and waiting; more are refused."
    )
    erasure_hours: float = Field(
        24.0, gt=0, description="Hours after which what was deleted is compacted away."
    )
    overwrite: bool = Field(
        False, description="Overwrite old database files with zeros when compacting by itself."
    )
    backup_root: Path | None = Field(
        None, description="The folder of backups, outside the data directory; without it, none."
    )
    calls_per_second: float = Field(
        0.0, ge=0, le=1e6, description="Calls per second of one caller; 0 for no limit."
    )
    metrics: bool = Field(True, description="Serve metrics and probes over HTTP.")
    metrics_host: str = Field("127.0.0.1", description="Address of the metrics and probes.")
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Their port; 0 takes a free one; if not given, the service's plus 1,000.",
    )
    tracing: bool = Field(False, description="Send OpenTelemetry traces.")
    drain_seconds: float = Field(
        30.0, ge=0, le=3600, description="How long a stop waits for running requests."
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"

    @field_validator("models", "import_roots", "export_roots", mode="before")
    @classmethod
    def _split_paths(cls, paths: object) -> object:
        # The environment has no lists; paths are written there as in PATH.
        return tuple(filter(None, paths.split(os.pathsep))) if isinstance(paths, str) else paths

    @field_validator("import_roots", "export_roots")
    @classmethod
    def _check_folders(cls, folders: tuple[Path, ...]) -> tuple[Path, ...]:
        for folder in folders:
            if not folder.is_dir():
                raise ValueError(f"{folder} is not a folder")
        return folders

    @field_validator("host", "metrics_host")
    @classmethod
    def _check_host(cls, host: str) -> str:
        if host != "localhost":
            ipaddress.ip_address(host)
        return host

    @model_validator(mode="after")
    def _check_exposure(self) -> "ServerConfig":
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together; give both")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        if not self.loopback and not self.insecure and self.tls_cert is None:
            raise ValueError(
                f"{self.host} can be reached from other machines: give tls_cert and tls_key, or "
                "listen on 127.0.0.1, or pass --insecure if the network is yours"
            )
        if 0 < self.worker_memory_mib * limits.MIB < limits.WORKER_MEMORY_BYTES_MIN:
            raise ValueError(
                f"worker_memory_mib must be 0, or at least "
                f"{limits.WORKER_MEMORY_BYTES_MIN // limits.MIB}"
            )
        # What is erased is to leave no byte in the data directory, and a backup on the same
        # disk is none.
        if self.backup_root and self.backup_root.resolve().is_relative_to(self.data.resolve()):
            raise ValueError("backup_root must lie outside the data directory")
        if not _is_loopback(self.metrics_host) and not self.insecure:
            raise ValueError(
                f"metrics on {self.metrics_host} can be read from other machines: they name the "
                "galleries; use 127.0.0.1, or pass --insecure if the network is yours"
            )
        if self.requests_max < self.threads:
            raise ValueError("requests_max must be at least threads")
        return self

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return _is_loopback(self.host)

    @property
    def chosen_metrics_port(self) -> int:
        """The port of the metrics; 0 for a free one."""
        if self.metrics_port is not None:
            return self.metrics_port
        beside = self.port + limits_of_server.METRICS_PORT_OFFSET
        return beside if self.port and beside <= _PORT_MAX else 0

    @property
    def certificates(self) -> CertificateFiles | None:
        """Where the certificates are; None without TLS."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        return CertificateFiles(self.tls_cert, self.tls_key, self.tls_client_ca)

    @property
    def keys_required(self) -> bool:
        """Whether callers need a key even while there are none."""
        return self.require_keys or not (self.loopback or self.insecure)

    @property
    def bind_address(self) -> str:
        """Host and port as gRPC writes them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def load(cls, file: Path | None = None, **flags: Any) -> "ServerConfig":
        """Settings from all sources; flags that are None were not given.

        Raises:
            ConfigError: A setting is unknown or not valid.
        """

        class Layered(cls):  # type: ignore[misc, valid-type]
            @classmethod
            def settings_customise_sources(
                cls, settings_cls: type[BaseSettings], **sources: PydanticBaseSettingsSource
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                layers = [sources["init_settings"], sources["env_settings"]]
                if file is not None:
                    layers.append(TomlConfigSettingsSource(settings_cls, file))
                return tuple(layers)

        if file is not None and not file.is_file():
            raise ConfigError(f"there is no settings file {file}")
        given = {name: value for name, value in flags.items() if value is not None}
        try:
            layered = Layered(**given)
        except ValidationError as error:
            faults = [_fault(fault["loc"], fault["type"], fault["msg"]) for fault in error.errors()]
            raise ConfigError("; ".join(faults)) from error
        except ValueError as error:
            raise ConfigError(f"{file}: {error}") from error
        return cls.model_construct(**layered.model_dump())


def _is_loopback(host: str) -> bool:
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


def _fault(where: tuple[int | str, ...], kind: str, message: str) -> str:
    """One fault of the settings as a sentence."""
    name = ".".join(map(str, where))
    if kind == "missing":
        return f"{name}: needed; give --{name}, or VISAGEDB_{name.upper()}, or a settings file"
    if kind == "extra_forbidden":
        return f"{name}: there is no such setting; known are {', '.join(ServerConfig.model_fields)}"
    message = message.removeprefix("Value error, ")
    return f"{name}: {message}" if name else message
