from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

from visagedb_indexer.errors import (
    InvalidModelCardError,
    ModelFileMissingError,
    ModelShapeError,
    UnsupportedOperatorError,
)
from visagedb_indexer.faces.networks import load_network
from visagedb_indexer.faces.onnx_import import import_network
from visagedb_indexer.faces.registry import ModelRegistry


def save(
    path: Path,
    nodes: Sequence[Any],
    constants: dict[str, Any],
    *,
    opset: int = 13,
    size: Sequence[Any] = (1, 3, 8, 8),
) -> Path:
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(size))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    path.write_bytes(model.SerializeToString())
    return path


def reference(path: Path, x: np.ndarray) -> np.ndarray:
    """The result of onnx's own reference implementation, operator by operator."""
    from onnx.reference import ReferenceEvaluator

    result: np.ndarray = ReferenceEvaluator(str(path)).run(None, {"x": x})[0]
    return result


def rand(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def node(operator: str, *inputs: str, **attributes: Any) -> Any:
    return helper.make_node(operator, list(inputs), ["y"], **attributes)


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "conv": (node("Conv", "x", "w", "b", pads=[1, 1, 1, 1]), {"w": rand(4, 3, 3, 3), "b": rand(4)}),
    "conv lopsided": (
        node("Conv", "x", "w", pads=[0, 1, 2, 1], strides=[2, 1]),
        {"w": rand(4, 3, 3, 3)},
    ),
    "conv in groups": (node("Conv", "x", "w", group=3, dilations=[2, 2]), {"w": rand(6, 1, 3, 3)}),
    "max pool": (node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2]), {}),
    "average pool": (node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), {}),
    "global average pool": (node("GlobalAveragePool", "x"), {}),
    "prelu": (node("PRelu", "x", "a"), {"a": rand(3, 1, 1)}),
    "leaky relu": (node("LeakyRelu", "x", alpha=0.2), {}),
    "hard sigmoid": (node("HardSigmoid", "x"), {}),
    "clip": (node("Clip", "x", "", "h"), {"h": np.float32(0.5)}),
    "add": (node("Add", "x", "c"), {"c": rand(1, 3, 1, 1)}),
    "div": (node("Div", "x", "c"), {"c": np.float32(3)}),
    "resize": (
        node("Resize", "x", "", "s", coordinate_transformation_mode="asymmetric",
             nearest_mode="floor"),
        {"s": np.float32([1, 1, 2, 2])},
    ),
    "transpose": (node("Transpose", "x", perm=[0, 2, 3, 1]), {}),
    "reshape": (node("Reshape", "x", "s"), {"s": np.int64([1, -1])}),
    "mean": (node("ReduceMean", "x", axes=[2, 3], keepdims=0), {}),
    "matmul": (node("MatMul", "x", "w"), {"w": rand(8, 5)}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_operator_agrees_with_the_specification(name: str, tmp_path: Path) -> None:
    operation, constants = CASES[name]
    path = save(tmp_path / "net.onnx", [operation], constants)
    x = rand(1, 3, 8, 8)
    (found,) = import_network(path)(torch.from_numpy(x))
    expected = reference(path, x)
    assert tuple(found.shape) == expected.shape
    assert np.abs(found.numpy() - expected).max() < 1e-5


def normalised(x: np.ndarray, parameters: Sequence[np.ndarray], epsilon: float) -> np.ndarray:
    """The specification's formula of BatchNormalization."""
    shape = (1, -1) + (1,) * (x.ndim - 2)
    scale, shift, mean, variance = (p.reshape(shape) for p in parameters)
    result: np.ndarray = (x - mean) / np.sqrt(variance + epsilon) * scale + shift
    return result


def test_normalisation_alone(tmp_path: Path) -> None:
    names = ("s", "t", "m", "v")
    parameters = [rand(3), rand(3) * 2, rand(3) + 1, np.abs(rand(3)) + 0.5]
    operation = node("BatchNormalization", "x", *names, epsilon=1e-3)
    constants = dict(zip(names, parameters, strict=True))
    path = save(tmp_path / "net.onnx", [operation], constants)
    x = rand(2, 3, 8, 8)
    (found,) = import_network(path)(torch.from_numpy(x))
    assert np.abs(found.numpy() - normalised(x, parameters, 1e-3)).max() < 1e-5


def test_lopsided_padding_of_a_maximum(tmp_path: Path) -> None:
    operation = node("MaxPool", "x", kernel_shape=[3, 3], pads=[0, 0, 1, 1])
    path = save(tmp_path / "net.onnx", [operation], {})
    x = -np.abs(rand(1, 3, 8, 8))
    padded = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    (found,) = import_network(path)(torch.from_numpy(x))
    assert np.array_equal(found.numpy(), windows.max(axis=(4, 5)))


def test_normalisation_is_folded_and_batches_are_free(tmp_path: Path) -> None:
    first = [rand(4), rand(4) * 2, rand(4), np.abs(rand(4)) + 1]
    second = [rand(5), rand(5) * 2, rand(5), np.abs(rand(5)) + 1]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", *"stmv"], ["n"]),
        helper.make_node("Reshape", ["n", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "g", "h"], ["d"], transB=1),
        helper.make_node("BatchNormalization", ["d", *"STMV"], ["y"]),
    ]
    constants = {"w": rand(4, 3, 3, 3), "g": rand(5, 144), "h": rand(5)}
    constants |= dict(zip("stmv", first, strict=True)) | dict(zip("STMV", second, strict=True))
    constants |= {"shape": np.array([1, 144], dtype=np.int64)}
    network = import_network(save(tmp_path / "net.onnx", nodes, constants))
    assert len(network.steps) == 3

    batch = rand(3, 3, 8, 8)
    convolved = functional.conv2d(torch.from_numpy(batch), torch.from_numpy(constants["w"]))
    flat = normalised(convolved.numpy(), first, 1e-5).reshape(3, -1)
    expected = normalised(flat @ constants["g"].T + constants["h"], second, 1e-5)
    (found,) = network(torch.from_numpy(batch))
    assert np.abs(found.numpy() - expected).max() < 1e-3


def test_block_quantised_weights(tmp_path: Path) -> None:
    quantised = np.random.default_rng(3).integers(-127, 127, (4, 27), dtype=np.int8)
    scales = np.abs(rand(4, 3)) * 0.01
    zeros = np.random.default_rng(4).integers(-5, 5, (4, 3), dtype=np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], axis=1, block_size=9),
        helper.make_node("Reshape", ["d", "shape"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["y"]),
    ]
    constants = {"q": quantised, "s": scales, "z": zeros, "shape": np.int64([4, 3, 3, 3])}
    path = save(tmp_path / "net.onnx", nodes, constants, opset=21)
    x = rand(1, 3, 8, 8)
    network = import_network(path)
    assert len(network.steps) == 1
    assert np.abs(network(torch.from_numpy(x))[0].numpy() - reference(path, x)).max() < 1e-5


@pytest.mark.parametrize(
    "operation",
    [
        node("Det", "x"),
        node("Conv", "x", "w", auto_pad="SAME_UPPER"),
        node("Conv", "x", "w", pads=[-1, 0, 0, 0]),
        node("Conv", "x", "w", mystery=1),
        node("Conv", "x", "x"),
        node("Resize", "x", "", "s", mode="linear"),
        node("Relu", "x", domain="com.example"),
        node("If", "x"),
    ],
    ids=lambda operation: operation.op_type,
)
def test_what_is_not_known_is_refused(operation: Any, tmp_path: Path) -> None:
    constants = {"w": rand(4, 3, 3, 3), "s": np.float32([1, 1, 2, 2])}
    path = save(tmp_path / "net.onnx", [operation], constants)
    with pytest.raises(UnsupportedOperatorError):
        import_network(path)


@pytest.mark.parametrize("opset", [1, 99])
def test_other_opsets_are_refused(opset: int, tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", [node("Relu", "x")], {}, opset=opset)
    with pytest.raises(UnsupportedOperatorError, match="opset"):
        import_network(path)


def test_files_that_are_not_networks(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with pytest.raises(ModelFileMissingError):
        import_network(path)
    path.write_bytes(b"not an ONNX file at all")
    with pytest.raises(InvalidModelCardError):
        import_network(path)
    with pytest.raises(ModelShapeError):
        import_network(save(path, [node("Relu", "x")], {}, size=(3, 8)))


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "unlisted.data", ""])
def test_data_files_must_be_listed(location: str, tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", [node("Add", "x", "c")], {"c": rand(1, 3, 8, 8)})
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())
    for allowed in ((), (location,)):
        if Path(location).name == location and location and allowed:
            continue
        with pytest.raises(InvalidModelCardError):
            import_network(path, allowed_files=allowed)


def test_data_file_shorter_than_said(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", [node("Add", "x", "c")], {"c": rand(1, 3, 8, 8)})
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    content = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="net.data")
    tensor.external_data.add(key="length", value=str(len(content)))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileMissingError):
        import_network(path, allowed_files=["net.data"])
    (tmp_path / "net.data").write_bytes(content[:-1])
    with pytest.raises(InvalidModelCardError, match="shorter"):
        import_network(path, allowed_files=["net.data"])
    (tmp_path / "net.data").write_bytes(content)
    import_network(path, allowed_files=["net.data"])


def test_detector_runs_any_size_and_batch(registry: ModelRegistry) -> None:
    network = load_network(registry.get("yunet"))
    batch = torch.rand(3, 3, 96, 160) * 255
    with torch.inference_mode():
        together = network(batch)
        alone = network(batch[1:2])
    shapes = dict(zip(network.output_names, (tuple(o.shape) for o in together), strict=True))
    assert shapes["cls_8"] == (3, 240, 1)
    assert shapes["kps_32"] == (3, 15, 10)
    for many, one in zip(together, alone, strict=True):
        assert torch.allclose(many[1:2], one, atol=1e-4)


def test_float_detector_with_dynamic_shapes(shared_models: Path) -> None:
    network = import_network(shared_models / "yunet_n_dynamic.onnx")
    outputs = dict(zip(network.output_names, network(torch.rand(2, 3, 64, 96)), strict=True))
    assert tuple(outputs["bbox_16"].shape) == (2, 24, 4)
