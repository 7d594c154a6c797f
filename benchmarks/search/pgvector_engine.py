"""pgvector: a graph index in PostgreSQL, asked over a socket."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.engine import Engine, Setting
from search.workload import TOP_K

_EF_MAX = 1000
_QUERY = f"SELECT id FROM faces ORDER BY embedding <=> %s LIMIT {TOP_K}"  # noqa: S608


class PgVector(Engine):
    """HNSW of pgvector's defaults; a connection per client."""

    notes = f"ef_search ends at {_EF_MAX:,}; the kernel's cache of its files is not counted"
    settings = tuple(Setting(f"ef {ef}", {"ef": ef}) for ef in (40, 200, _EF_MAX))
    _server: Any = None

    def load(self) -> None:
        import pgserver  # type: ignore[import-not-found,import-untyped,unused-ignore]

        self._threads = threading.local()
        self._server = pgserver.get_server(self.place.own / "pg")
        self._ef = 40
        connection = self._connect(vectors=False)
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute(
            f"CREATE TABLE faces (id bigint, embedding vector({self.workload.dimension}))"
        )
        connection = self._connect()
        copy = "COPY faces (id, embedding) FROM STDIN WITH (FORMAT BINARY)"
        for start, vectors in self.workload.blocks():
            with connection.cursor().copy(copy) as rows:
                rows.set_types(["int8", "vector"])
                for ordinal, vector in enumerate(vectors, start):
                    rows.write_row((ordinal, vector))

    def build(self) -> None:
        connection = self._connect()
        connection.execute("SET maintenance_work_mem = '2GB'")
        connection.execute("SET max_parallel_maintenance_workers = " + str(self.place.threads - 1))
        connection.execute("CREATE INDEX ON faces USING hnsw (embedding vector_cosine_ops)")
        connection.execute("ANALYZE faces")

    def configure(self, setting: Setting) -> None:
        self._ef = setting.values["ef"]

    def search(self, probe: NDArray[np.float32]) -> Sequence[int]:
        local = self._threads
        if not hasattr(local, "connection"):
            local.connection, local.ef = self._connect(), 0
        if local.ef != self._ef:
            local.connection.execute(f"SET hnsw.ef_search = {self._ef}")
            local.ef = self._ef
        return [row[0] for row in local.connection.execute(_QUERY, (probe,)).fetchall()]

    def extra_processes(self) -> list[int]:
        # The postmaster is a daemon: nobody's child.
        lines = Path(self.place.own / "pg" / "postmaster.pid").read_text().splitlines()
        return [int(lines[0])]

    def close(self) -> None:
        if self._server is not None:
            self._server.cleanup()

    def _connect(self, *, vectors: bool = True) -> Any:
        import psycopg  # type: ignore[import-not-found,import-untyped,unused-ignore]
        from pgvector.psycopg import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
            register_vector,
        )

        connection = psycopg.connect(self._server.get_uri(), autocommit=True)
        connection.execute("SET max_parallel_workers_per_gather = 0")
        if vectors:
            register_vector(connection)
        return connection
