"""Work on a data directory that no server has open: its backup, its return, its repair.

Each runs in a process of its own, which a failpoint may end.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import lmdb

from campaign.server import CONTEXT
from visagedb_indexer import failpoints
from visagedb_indexer.backup import BackupFolder, back_up_directory, restore_directory
from visagedb_indexer.integrity import repair_store
from visagedb_indexer.store import GalleryStore, schema

_BACKUP: Final = "whole"


def kill_offline(data: Path, name: str, arrival: int) -> bool:
    """Ends restoring or repairing at a failpoint, and does it again to the end.

    What is restored takes the place of the data directory.

    Returns:
        Whether the failpoint was reached.
    """
    restoring = name.startswith("restore.")
    work = _restore if restoring else _repair
    target = data.with_name("restored")
    if restoring:
        _run(_back_up, data, "")
    else:
        _run(_break, data, "")
    code = _run(work, data, f"{name}=kill@{arrival}")
    if not target.exists():
        assert _run(work, data, "") == 0, f"{name}: the second attempt failed"
    if restoring:
        shutil.rmtree(data)
        target.rename(data)
        shutil.rmtree(_folder(data).root)
    return code != 0


def _run(work: Callable[[Path], None], data: Path, failpoint: str) -> int | None:
    process = CONTEXT.Process(target=_armed, args=(work, data, failpoint))
    process.start()
    process.join()
    return process.exitcode


def _armed(work: Callable[[Path], None], data: Path, failpoint: str) -> None:
    failpoints.arm({failpoints.ARMED_VARIABLE: failpoint})
    work(data)


def _folder(data: Path) -> BackupFolder:
    return BackupFolder(data.with_name("offline-backups"))


def _back_up(data: Path) -> None:
    back_up_directory(data, _folder(data), _BACKUP, _quietly)


def _restore(data: Path) -> None:
    restore_directory(_folder(data), _BACKUP, data.with_name("restored"), _quietly)


def _break(data: Path) -> None:
    """Takes derived entries away from every gallery."""
    for gallery in (data / "galleries").iterdir():
        environment = lmdb.open(str(gallery), max_dbs=64, map_size=1 << 34)
        handle = environment.open_db(schema.CONTENTS.name)
        with environment.begin(write=True) as txn:
            txn.drop(handle, delete=False)
        environment.close()


def _repair(data: Path) -> None:
    for gallery in (data / "galleries").iterdir():
        store = GalleryStore(gallery)
        assert repair_store(store).repairs is not None
        store.close()


def _quietly(done: float, stage: str) -> None:
    """Nobody asks how far it is."""
