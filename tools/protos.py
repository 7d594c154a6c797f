"""Generate, check and lint the protobuf contract.

python tools/protos.py generate    write client/visagedb/v1
python tools/protos.py check       fail if the committed stubs are not what generate writes
python tools/protos.py lint        buf lint and buf format
python tools/protos.py breaking    compare with the committed baseline proto/baseline.binpb
python tools/protos.py baseline    accept the present contract as the new baseline
"""

import filecmp
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROTO = ROOT / "proto"
STUBS = ROOT / "client"
PACKAGE = Path("visagedb") / "v1"


def google_protos() -> Path:
    """Folder of the installed googleapis-common-protos, which ships its sources."""
    spec = importlib.util.find_spec("google.longrunning")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("googleapis-common-protos is not installed: pip install -e '.[dev]'")
    return Path(next(iter(spec.submodule_search_locations))).parent


@contextmanager
def workspace() -> Iterator[Path]:
    """A temporary copy of proto/ with the Google imports beside it, as buf wants them.

    The Python package calls the file of long-running operations by another name than
    every other language does; here it gets its usual one.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shutil.copytree(PROTO, root, dirs_exist_ok=True)
        source = google_protos()
        for room in ("api", "rpc"):
            shutil.copytree(
                source / room,
                root / "google" / room,
                ignore=lambda _, names: [n for n in names if not n.endswith(".proto")],
            )
        target = root / "google" / "longrunning" / "operations.proto"
        target.parent.mkdir(parents=True)
        shutil.copy(source / "longrunning" / "operations_proto.proto", target)
        yield root


def sources(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in (root / PACKAGE).glob("*.proto"))


def generate(target: Path) -> None:
    with workspace() as root:
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{root}"]
        command += [f"--{plugin}_out={target}" for plugin in ("python", "grpc_python")]
        command += [f"--{plugin}_out={target}" for plugin in ("mypy", "mypy_grpc")]
        plugins = Path(sys.executable).parent
        command += [
            f"--plugin=protoc-gen-{name}={plugins / f'protoc-gen-{name}'}"
            for name in ("mypy", "mypy_grpc")
        ]
        subprocess.run([*command, *sources(root)], check=True, cwd=root)
    (target / PACKAGE / "__init__.py").write_text('"""Generated from proto/visagedb/v1."""\n')


def check() -> None:
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        names = {p.name for p in (fresh / PACKAGE).iterdir()}
        names |= {p.name for p in (STUBS / PACKAGE).iterdir() if p.is_file()}
        _, changed, missing = filecmp.cmpfiles(
            fresh / PACKAGE, STUBS / PACKAGE, sorted(names), shallow=False
        )
    if changed or missing:
        sys.exit(f"stale stubs: {', '.join(changed + missing)}; run: make protos")
    print(f"{len(names)} stub files are fresh")


def buf(*arguments: str, cwd: Path) -> None:
    program = Path(sys.executable).parent / "buf"
    if subprocess.run([program, *arguments], cwd=cwd, check=False).returncode:
        sys.exit(f"buf {arguments[0]} failed")


def lint() -> None:
    with workspace() as root:
        buf("lint", "--path", str(PACKAGE), cwd=root)
        buf("format", "--diff", "--exit-code", "--path", str(PACKAGE), cwd=root)
    print("the contract is clean")


def breaking() -> None:
    with workspace() as root:
        buf("breaking", "--against", "baseline.binpb", "--path", str(PACKAGE), cwd=root)
    print("nothing breaks the baseline")


def baseline() -> None:
    with workspace() as root:
        buf("build", "--path", str(PACKAGE), "--exclude-source-info", "-o", "new.binpb", cwd=root)
        shutil.copy(root / "new.binpb", PROTO / "baseline.binpb")


def main() -> None:
    commands = {
        "generate": lambda: generate(STUBS),
        "check": check,
        "lint": lint,
        "breaking": breaking,
        "baseline": baseline,
    }
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]]()


if __name__ == "__main__":
    main()
