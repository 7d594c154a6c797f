"""``visagedb serve``."""

from pathlib import Path
from typing import Annotated

import typer

from visagedb_server import DEFAULT_PORT


def serve(
    data: Annotated[Path | None, typer.Option(help="The data directory; made if missing.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on [127.0.0.1].")] = None,
    port: Annotated[
        int | None, typer.Option(help=f"Port to listen on; 0 takes a free one [{DEFAULT_PORT}].")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file with any of the settings.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Embedding processes; 0 takes vectors only [one per core].")
    ] = None,
    model: Annotated[
        list[Path] | None, typer.Option(help="A model card, or a folder of them; repeatable.")
    ] = None,
    default_model: Annotated[
        str | None, typer.Option(help="Model of galleries that name none [sface].")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="float32 or bfloat16 [float32].")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda [cpu].")] = None,
    import_root: Annotated[
        list[Path] | None,
        typer.Option(help="A folder that imports may read; repeatable. None refuses them."),
    ] = None,
    export_root: Annotated[
        list[Path] | None,
        typer.Option(help="A folder that exports may write to; repeatable. None refuses them."),
    ] = None,
    backup_root: Annotated[
        Path | None, typer.Option(help="The folder of backups; without it, none can be made.")
    ] = None,
    insecure: Annotated[
        bool | None,
        typer.Option(
            "--insecure", help="Let other machines reach the server without TLS and keys."
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="The server's certificate chain, PEM; reread on change.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="Clients need a certificate signed by this CA, PEM.")
    ] = None,
    require_keys: Annotated[
        bool | None, typer.Option("--require-keys", help="Need API keys even before there are any.")
    ] = None,
    audit_key: Annotated[
        Path | None, typer.Option(help="File with the audit log's key, made if missing.")
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(help="Port of metrics and probes; 0 takes a free one [--port plus 1000]."),
    ] = None,
    no_metrics: Annotated[
        bool, typer.Option("--no-metrics", help="Serve no metrics and no probes.")
    ] = False,
    tracing: Annotated[
        bool | None, typer.Option("--tracing", help="Send OpenTelemetry traces.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error [info].")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json [text].")] = None,
) -> None:
    """Start a server. Ctrl-C stops it when running requests are done; twice, at once.

    Every setting may also come from the environment (VISAGEDB_DATA, VISAGEDB_PORT, ...)
    or from the --config file; a flag beats the environment, which beats the file.
    These settings have no flag: threads, requests_max, drain_seconds, worker_threads and
    worker_memory_mib.
    When it is ready, the first line on standard output says where it listens.
    """
    try:
        from visagedb_server.lifecycle import run
    except ModuleNotFoundError as error:
        typer.echo(
            f"visagedb serve needs the package {error.name}: pip install 'visagedb[all]'", err=True
        )
        raise typer.Exit(4) from error
    code = run(
        config,
        data=data,
        host=host,
        port=port,
        workers=workers,
        models=tuple(model) if model else None,
        default_model=default_model,
        precision=precision,
        device=device,
        import_roots=tuple(import_root) if import_root else None,
        export_roots=tuple(export_root) if export_root else None,
        backup_root=backup_root,
        insecure=insecure,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        require_keys=require_keys,
        audit_key=audit_key,
        metrics=False if no_metrics else None,
        metrics_port=metrics_port,
        tracing=tracing,
        log_level=log_level,
        log_format=log_format,
    )
    raise typer.Exit(code)
