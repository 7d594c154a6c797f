"""Makes the golden data directory of the present storage format: tests/golden/data.

    python tools/golden.py

It holds a little of everything that a server keeps, made by a real server; the test
tests/store/test_golden.py opens it with every later release. The archive is rewritten only while
its format is not released: a change of the format takes a new version and a migration.
"""

import io
import json
import sys
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import visagedb
from visagedb_indexer.backup import BackupFolder, back_up_directory
from visagedb_indexer.store.schema import FORMAT_VERSION
from visagedb_server.config import ServerConfig
from visagedb_server.server import Server

GOLDEN: Final = Path(__file__).resolve().parents[1] / "tests" / "golden" / "data"
DIMENSION: Final = 16
BYTES_MAX: Final = 1_000_000
_SEED: Final = 20_240_607


def vectors(count: int, seed: int = _SEED) -> NDArray[np.float32]:
    """Unit vectors, shape (count, DIMENSION)."""
    drawn = np.random.default_rng(seed).standard_normal((count, DIMENSION))
    unit: NDArray[np.float32] = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype("f4")
    return unit


def make(data: Path) -> None:
    """Fills a data directory by way of a server."""
    root = data.parent / "imports"
    root.mkdir()
    server = Server(ServerConfig.load(data=data, port=0, workers=0, import_roots=(root,)))
    server.start()
    try:
        with visagedb.Client(server.address) as client:
            _people(client)
            _changes(client)
            _loose(client)
            _quarantine(client)
            _imports(client, root)
    finally:
        server.stop(grace=5)


def _people(client: visagedb.Client) -> None:
    client.create_gallery("people", display_name="Some people", model="own", dimension=DIMENSION)
    faces = vectors(60)
    for number in range(24):
        client.create_identity(
            "people",
            f"person-{number}",
            display_name=f"Person {number} \u00e4\u4e2d",
            labels={"site": ("north", "south")[number % 2], "staff": "yes"} if number % 3 else {},
            metadata={"number": number, "nested": {"list": [1, 2.5, None, "x"]}},
        )
    for place, vector in enumerate(faces):
        client.enroll("people", f"person-{place % 24}", vector=vector, source=f"photo-{place}.jpg")
    client.create_identity(
        "people", "expiring", expire_time=datetime(2100, 1, 1, tzinfo=UTC), labels={"site": "east"}
    )
    client.enroll("people", "expiring", vector=vectors(1, 1)[0])


def _changes(client: visagedb.Client) -> None:
    client.merge_identities("people", "person-1", ["person-2"])
    face = next(iter(client.list_faces("people", "person-3")))
    client.split_identity("people", "person-3", [face], new_identity="split")
    change = client.move_faces(
        "people", [next(iter(client.list_faces("people", "person-4")))], "person-5"
    )
    assert change.lineage is not None
    client.undo_change(change.lineage)
    client.delete_identity("people", "person-6")
    doomed = next(iter(client.list_faces("people", "person-7")))
    client.delete_face("people", "person-7", doomed.id)
    client.audit_gallery("people").result()
    client.verify_integrity("people").result()


def _loose(client: visagedb.Client) -> None:
    client.create_gallery("archive", model="own", dimension=DIMENSION)
    centres = vectors(6, 2)
    for place in range(30):
        near = centres[place % 6] + 0.05 * vectors(30, 3)[place]
        client.enroll_loose("archive", vector=near, source=f"archive-{place}.jpg")
    clustering = client.cluster("archive", scope="loose", threshold=0.6).result()
    clusters = list(client.clusters(clustering))
    client.assign_cluster(clusters[0], "found")
    client.join_clusters(clusters[1:3])


def _quarantine(client: visagedb.Client) -> None:
    client.create_gallery(
        "gated",
        model="own",
        dimension=DIMENSION,
        threshold=0.5,
        duplicate_check=visagedb.IdentityCheck(action=visagedb.GateAction.QUARANTINE),
    )
    [vector] = vectors(1, 4)
    client.enroll("gated", "first", vector=vector)
    client.enroll("gated", "second", vector=vector + 0.01)


def _imports(client: visagedb.Client, root: Path) -> None:
    client.create_gallery("imported", model="own", dimension=DIMENSION)
    rows = vectors(40, 5)
    rows[7] = 0
    np.savez(
        root / "faces.npz",
        vector=rows,
        identity_id=np.array([f"row-{place // 2}" for place in range(40)]),
    )
    client.import_faces("imported", root / "faces.npz").result()


def described(data: Path) -> dict[str, Any]:
    """What is in a data directory, as a server of any release tells it."""
    server = Server(ServerConfig.load(data=data, port=0, workers=0))
    server.start()
    try:
        with visagedb.Client(server.address) as client:
            return {gallery.id: _gallery(client, gallery.id) for gallery in client.list_galleries()}
    finally:
        server.stop(grace=5)


def _gallery(client: visagedb.Client, name: str) -> dict[str, Any]:
    found = client.get_gallery(name)
    probes = vectors(8, 6)
    return {
        "uid": found.uid,
        "display_name": found.display_name,
        "model": found.model.name,
        "counts": [found.identity_count, found.face_count, found.loose_face_count],
        "identities": {
            one.id: _identity(client, name, one) for one in client.list_identities(name)
        },
        "loose": [_face(one) for one in client.list_faces(name, "", include_template=True)],
        "lineage": [[one.kind, one.undone] for one in client.list_lineage(name)],
        "clusterings": [
            [one.face_count, one.cluster_count, [c.size for c in client.clusters(one)]]
            for one in client.list_clusterings(name)
        ],
        "quarantine": [one.identity for one in client.list_quarantined_faces(name)],
        "imports": [[one.enrolled_count, one.failed_count] for one in client.list_imports(name)],
        "erasures": len(list(client.list_erasures(name))),
        "searches": [_search(client, name, probe) for probe in probes],
        "filtered": _search(client, name, probes[0], 'labels.site="north"'),
    }


def _identity(client: visagedb.Client, gallery: str, one: visagedb.Identity) -> dict[str, Any]:
    return {
        "display_name": one.display_name,
        "labels": dict(one.labels),
        "metadata": dict(one.metadata),
        "expire_time": one.expire_time.isoformat() if one.expire_time else None,
        "faces": [
            _face(face) for face in client.list_faces(gallery, one.id, include_template=True)
        ],
    }


def _face(face: visagedb.Face) -> list[Any]:
    assert face.template is not None
    return [face.id, face.source, [round(float(x), 4) for x in face.template.vector[:3]]]


def _search(
    client: visagedb.Client, gallery: str, probe: NDArray[np.float32], text: str = ""
) -> list[Any]:
    result = client.identify(gallery, vector=probe, top_k=5, filter=text)
    (answer,) = result
    return [[one.id, round(one.score, 4)] for one in answer.candidates]


def archived(data: Path, folder: Path) -> bytes:
    """A data directory without free pages, locks and derived files, as a tar."""
    backups = BackupFolder(folder)
    back_up_directory(data, backups, "golden", lambda done, stage: None)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz", preset=9) as archive:
        for path in sorted((folder / "golden").rglob("*")):
            if path.is_file() and path.name != "MANIFEST":
                entry = tarfile.TarInfo(path.relative_to(folder / "golden").as_posix())
                entry.size = path.stat().st_size
                with path.open("rb") as file:
                    archive.addfile(entry, file)
    return packed.getvalue()


def main() -> None:
    """Writes the archive and what is in it."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make(folder / "data")
        expected = described(folder / "data")
        archive = archived(folder / "data", folder / "backups")
    if len(archive) > BYTES_MAX:
        sys.exit(f"the archive has {len(archive)} bytes, more than {BYTES_MAX}")
    (GOLDEN / f"format-{FORMAT_VERSION}.tar.xz").write_bytes(archive)
    text = json.dumps(expected, indent=1, ensure_ascii=False, sort_keys=True)
    (GOLDEN / f"format-{FORMAT_VERSION}.json").write_text(text + "\n", encoding="utf-8")
    print(f"format {FORMAT_VERSION}: {len(archive):,} bytes, {len(expected)} galleries")


if __name__ == "__main__":
    main()
