"""Imports that must come to their end, however often the server dies on the way."""

import time
from collections import Counter
from pathlib import Path
from typing import Final

import grpc
import numpy as np

import visagedb
from campaign.lanes import GALLERY
from campaign.model import Person, State, vector_of
from visagedb.v1 import imports_pb2, imports_pb2_grpc

PREFIX: Final = "i"
_PERSONS: Final = 5
_FACES: Final = 600
_SECONDS_MAX: Final = 120.0


class Importer:
    """Imports one file after another, and deletes the persons of those that are done.

    Args:
        folder: Where the files are; the server is allowed to read it.

    Attributes:
        acknowledged: Calls by kind.
        state: What it must find of its persons, if no import runs.
        resting: Whether it begins nothing new.
    """

    def __init__(self, folder: Path) -> None:
        self.acknowledged: Counter[str] = Counter()
        self.state: State = {}
        self.resting = False
        self._folder = folder
        self._number = 0
        self._operation = ""
        self._coming: State = {}
        self._leaving: str = ""

    def step(self, client: visagedb.Client) -> None:
        """One call, and the book-keeping of its answer."""
        if self._coming:
            self._finish(client)
        elif self.resting:
            time.sleep(0.02)
        elif self.state:
            self._leaving = min(self.state)
            client.delete_identity(GALLERY, self._leaving)
            del self.state[self._leaving]
            self._leaving = ""
            self.acknowledged["delete identity"] += 1
        else:
            self._start(client)

    def complete(self, client: visagedb.Client) -> None:
        """Waits until the import that runs after a restart has come to its end.

        Raises:
            TimeoutError: It does not.
        """
        deadline = time.monotonic() + _SECONDS_MAX
        while self._coming:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._operation} does not end")
            self._finish(client)

    def refused(self) -> None:
        """The last call was refused for want of room: it must not have happened."""
        self._leaving = ""

    def settle(self, actual: State) -> list[str]:
        """Compares what is there after a restart with what must be; returns findings."""
        findings = []
        if self._leaving and self._leaving not in actual:
            del self.state[self._leaving]
        self._leaving = ""
        for name, person in actual.items():
            allowed = self.state.get(name)
            if allowed is None or not person.faces <= allowed.faces:
                findings.append(f"{name} has faces that no import has brought")
        findings += [
            f"faces of {name} are lost: {sorted(person.faces - actual[name].faces)[:3]}"
            if name in actual
            else f"{name} is lost"
            for name, person in self.state.items()
            if name not in actual or not person.faces <= actual[name].faces
        ]
        return findings

    def _start(self, client: visagedb.Client) -> None:
        self._number += 1
        names = [f"{PREFIX}{self._number}-p{place % _PERSONS}" for place in range(_FACES)]
        keys = [f"{PREFIX}{self._number}-f{place}" for place in range(_FACES)]
        np.savez(
            self._source,
            vector=np.array([vector_of(key) for key in keys]),
            identity_id=np.array(names),
            face_id=np.array(keys),
            source=np.array(keys),
        )
        for name, key in zip(names, keys, strict=True):
            self._coming[name] = self._coming.get(name, Person()).plus([key])
        self._begin(client)

    @property
    def _source(self) -> Path:
        return self._folder / f"{self._number}.npz"

    def _begin(self, client: visagedb.Client) -> None:
        request = imports_pb2.ImportFacesRequest(
            gallery=f"galleries/{GALLERY}",
            path=str(self._source),
            request_id=f"import-{self._number}",
        )
        with grpc.insecure_channel(client.address) as channel:
            answer = imports_pb2_grpc.ImportServiceStub(channel).ImportFaces(request)
        self._operation = answer.operation.name
        self.acknowledged["import"] += 1

    def _finish(self, client: visagedb.Client) -> None:
        """Waits for the import that runs; one whose beginning was cut short is begun again."""
        if not self._operation:
            self._begin(client)
        status = client.get_operation(self._operation)
        if not status.done:
            time.sleep(0.01)
            return
        with grpc.insecure_channel(client.address) as channel:
            name = f"galleries/{GALLERY}/imports/{self._operation.partition('/')[2]}"
            stub = imports_pb2_grpc.ImportServiceStub(channel)
            found = getattr(stub.GetImport(imports_pb2.GetImportRequest(name=name)), "import")
        brought = found.enrolled_count + found.already_enrolled_count
        assert (brought, found.done_count, found.failed_count) == (_FACES, _FACES, 0), found
        self.state, self._coming, self._operation = self._coming, {}, ""
        self._source.unlink()
        self.acknowledged["import done"] += 1
