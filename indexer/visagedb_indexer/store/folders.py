"""Folders on the disk."""

import os
from pathlib import Path


def sync_folder(path: Path) -> None:
    """Makes the entries of a folder durable: a file that is synced may still have no name."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
