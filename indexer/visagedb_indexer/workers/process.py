"""Starting and ending one child process.

A fresh interpreter is started on an inherited socket. Unlike ``multiprocessing``'s spawn it
does not import the parent's main module again, so any program can own a pool, and the child
holds nothing of the parent but that socket.
"""

import contextlib
import os
import socket
import subprocess
import sys
from multiprocessing.connection import Connection

from visagedb_indexer import limits
from visagedb_indexer.errors import IndexerError, WorkersUnavailableError
from visagedb_indexer.workers.messages import (
    BadMessageError,
    Batch,
    Message,
    Started,
    WorkerSettings,
    packed,
    read_message,
    received_error,
)

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class WorkerProcess:
    """A running child.

    Raises:
        WorkersUnavailableError: The process cannot be started.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        ours, theirs = socket.socketpair()
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            f"from visagedb_indexer.workers.child import main; main({theirs.fileno()})"
        )
        environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(settings.threads))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=environment,
            )
        except OSError as error:
            ours.close()
            raise WorkersUnavailableError(
                f"an embedding process cannot be started: {error}"
            ) from error
        finally:
            theirs.close()
        self.connection = Connection(ours.detach())
        self._settings = settings

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, message: Batch | WorkerSettings) -> None:
        """Sends the child something to do."""
        self.connection.send_bytes(packed(message))

    def receive(self) -> Message:
        """What the child says; blocks until it says something.

        Raises:
            BadMessageError: It is no message.
            EOFError: The child is gone.
            OSError: The same; or the message is larger than any may be.
        """
        return read_message(self.connection.recv_bytes(limits.WORKER_MESSAGE_BYTES_MAX))

    def wait_ready(self) -> None:
        """Blocks until the child has loaded; `kill` from another thread ends the wait.

        Raises:
            IndexerError: The child's own reason, or that it ended without giving one.
        """
        try:
            self.send(self._settings)
            message = self.receive()
        except (BadMessageError, EOFError, OSError) as error:
            code = self.end()
            raise WorkersUnavailableError(
                f"an embedding process ended with status {code} while it started"
            ) from error
        refusal = message.refusal if isinstance(message, Started) else None
        if refusal is not None or not isinstance(message, Started):
            self.end()
            if refusal is None:
                raise WorkersUnavailableError("an embedding process did not start as it should")
            raise received_error(refusal)

    def kill(self) -> None:
        """Ends it the hard way; harmless if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def end(self, grace_seconds: float = 0.0) -> int:
        """Closes the socket, which asks it to end; kills it after the grace time.

        Returns:
            Its exit status; negative is the number of the signal that ended it.
        """
        self.connection.close()
        try:
            return self._process.wait(grace_seconds or 0.2)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()


def as_start_error(error: Exception) -> IndexerError:
    """Whatever kept a process from starting, as one of our errors."""
    if isinstance(error, IndexerError):
        return error
    return WorkersUnavailableError(f"an embedding process cannot be started: {error!r}")
