"""Looking for a vector in the raw files of a folder."""

from pathlib import Path
from typing import Final

from visagedb_indexer.values import Vector

RUN_BYTES: Final = 16


def traces(folder: Path, vector: Vector) -> list[str]:
    """Names of files that hold any run of 16 bytes of a vector: four of its numbers."""
    data = vector.astype("<f4").tobytes()
    runs = [data[start : start + RUN_BYTES] for start in range(0, len(data), RUN_BYTES)]
    files = [(file.name, file.read_bytes()) for file in folder.rglob("*") if file.is_file()]
    return [name for name, content in files if any(run in content for run in runs)]
