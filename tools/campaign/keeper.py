"""Writes of whole galleries, and work in the background, under the writers' feet."""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import grpc

import visagedb
from campaign.lanes import GALLERY
from campaign.model import DIMENSION
from visagedb.v1 import (
    backups_pb2,
    backups_pb2_grpc,
    erasures_pb2,
    erasures_pb2_grpc,
    galleries_pb2,
    galleries_pb2_grpc,
    imports_pb2,
    imports_pb2_grpc,
)

RESTORED: Final = "restored-"
AFTERWARDS: Final = "afterwards"
"""A gallery that comes and goes when a disk has failed for a while."""


class Keeper:
    """Creates and deletes galleries, and starts long-running operations.

    Args:
        seed: Of its decisions.
        backups: The folder that the server writes backups to.

    Attributes:
        galleries: Ids that must be there.
        acknowledged: Calls by kind.
        operations: Names of the operations that were acknowledged.
        wish: Room of the failpoint that is to be reached; empty for none.
    """

    def __init__(self, seed: int, backups: Path) -> None:
        self._backups = backups
        self._backup = ""
        self.galleries = {GALLERY}
        self.acknowledged: Counter[str] = Counter()
        self.operations: set[str] = set()
        self._random = random.Random(f"{seed}-keeper")
        self._pending: set[str] | None = None
        self.wish = ""
        self._wishes: Mapping[str, Sequence[Callable[[visagedb.Client], None]]] = {
            "catalogue": (self._create, self._delete),
            "checkpoint": (self._cluster,),
            "clustering": (self._cluster,),
            "gallery": (self._create, self._delete),
            "backup": (self._back_up, self._restore),
            "compaction": (self._compact,),
            "export": (self._export,),
            "restore": (self._back_up, self._restore),
            "operations": (self._cluster,),
        }
        self._running: str | None = None
        self._next = 0

    def step(self, client: visagedb.Client) -> None:
        """One call, and the book-keeping of its answer."""
        others = len(self.galleries) - 1
        chosen = [self._create] if others < 4 else []
        chosen += [self._delete] if others else []
        if self._running is None or client.get_operation(self._running).done:
            chosen += [self._cluster, self._calibrate, self._compact, self._compact]
            chosen += [self._export, self._restore if self._backup else self._back_up]
        chosen += [self._update]
        wished = [one for one in chosen if one in self._wishes.get(self.wish, ())]
        if self.wish and not wished:
            wished = [self._update]
        self._random.choice(wished or chosen)(client)

    def refused(self) -> None:
        """The last call was refused for want of room: it must not have happened."""
        self._pending = None

    def settle(self, client: visagedb.Client) -> list[str]:
        """Compares galleries and operations with what must be there; returns findings."""
        findings = []
        pending, self._pending = self._pending, None
        self._running = None
        there = {gallery.id for gallery in client.list_galleries()}
        # A restore may end now or later: nobody has waited for it.
        for name in sorted(name for name in there if name.startswith(RESTORED)):
            if client.get_gallery(name).identity_count == 0:
                findings.append(f"{name} was restored without its people")
            client.delete_gallery(name)
        there = {name for name in there if not name.startswith((RESTORED, AFTERWARDS))}
        if there not in (self.galleries, pending):
            findings.append(f"galleries: expected {self.galleries} or {pending}, found {there}")
        self.galleries = there
        if lost := self.operations - {one.name for one in client.list_operations()}:
            findings.append(f"operations are lost: {sorted(lost)[:3]}")
        return findings

    def _create(self, client: visagedb.Client) -> None:
        self._next += 1
        name = f"other-{self._next}"
        self._pending = self.galleries | {name}
        client.create_gallery(name, model="test", dimension=DIMENSION)
        client.enroll(name, "someone", vector=[1.0] * DIMENSION)
        self._done("create gallery", self._pending)

    def _delete(self, client: visagedb.Client) -> None:
        name = self._random.choice(sorted(self.galleries - {GALLERY}))
        self._pending = self.galleries - {name}
        client.delete_gallery(name)
        self._done("delete gallery", self._pending)

    def _done(self, kind: str, galleries: set[str]) -> None:
        self.galleries = galleries
        self._pending = None
        self.acknowledged[kind] += 1

    def _update(self, client: visagedb.Client) -> None:
        client.update_gallery(GALLERY, display_name=f"people {self._random.random()}")
        self.acknowledged["update gallery"] += 1

    def _cluster(self, client: visagedb.Client) -> None:
        operation = client.cluster(GALLERY, method="average-linkage", threshold=0.6)
        self._started("cluster", operation.name)

    def _calibrate(self, client: visagedb.Client) -> None:
        self._started("calibrate", client.calibrate(GALLERY).name)

    def _compact(self, client: visagedb.Client) -> None:
        request = erasures_pb2.CompactGalleryRequest(
            name=f"galleries/{GALLERY}", overwrite=self.wish == "compaction"
        )
        with grpc.insecure_channel(client.address) as channel:
            answer = erasures_pb2_grpc.ErasureServiceStub(channel).CompactGallery(request)
        self._started("compact", answer.operation.name)

    def _export(self, client: visagedb.Client) -> None:
        request = imports_pb2.ExportFacesRequest(
            gallery=f"galleries/{GALLERY}",
            path=str(self._backups.with_name("exports") / "people.parquet"),
            overwrite=True,
        )
        with grpc.insecure_channel(client.address) as channel:
            answer = imports_pb2_grpc.ImportServiceStub(channel).ExportFaces(request)
        self._started("export", answer.operation.name)

    def _back_up(self, client: visagedb.Client) -> None:
        shutil.rmtree(self._backups, ignore_errors=True)
        self._next += 1
        self._backup = f"backup-{self._next}"
        request = galleries_pb2.SnapshotGalleryRequest(
            name=f"galleries/{GALLERY}", snapshot_id=self._backup
        )
        with grpc.insecure_channel(client.address) as channel:
            answer = galleries_pb2_grpc.GalleryServiceStub(channel).SnapshotGallery(request)
        self._started("back up", answer.operation.name)

    def _restore(self, client: visagedb.Client) -> None:
        backup, self._backup = self._backup, ""
        if not (self._backups / backup).is_dir():
            # The backup was cut short.
            return
        request = backups_pb2.RestoreGalleryRequest(
            backup_id=backup, gallery_id=f"{RESTORED}{self._next}"
        )
        with grpc.insecure_channel(client.address) as channel:
            answer = backups_pb2_grpc.BackupServiceStub(channel).RestoreGallery(request)
        self._started("restore", answer.operation.name)

    def _started(self, kind: str, operation: str) -> None:
        self.operations.add(operation)
        self._running = operation
        self.acknowledged[kind] += 1
