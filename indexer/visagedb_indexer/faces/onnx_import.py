"""Reads an ONNX file into a torch module, for convolutional face networks.

The importer is small on purpose: it knows the operators of `onnx_operators.OPERATORS` and
refuses everything else, and it never runs code that came with the file. What can be computed
at import is (dequantised weights, constant shapes); batch normalisation is folded into the
convolution or linear layer before it. The result runs any batch size, and any image size if
the network is fully convolutional, in float32 or bfloat16, on CPU or GPU.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from visagedb_indexer.errors import (
    InvalidModelCardError,
    ModelFileMissingError,
    ModelShapeError,
    UnsupportedOperatorError,
)
from visagedb_indexer.faces.onnx_node import Node
from visagedb_indexer.faces.onnx_operators import OPERATORS, Run

OPSETS: Final = range(11, 23)
NODES_MAX: Final = 20_000
PARAMETERS_MAX: Final = 500_000_000

_FOLDS_INTO: Final = ("Conv", "Gemm")


@dataclass(frozen=True)
class Step:
    """One operation at run time: reads named values, writes one."""

    run: Run
    inputs: tuple[str | None, ...]
    output: str
    dead: tuple[str, ...]
    """Values nobody reads after this step; dropping them bounds the memory in use."""


class Network(nn.Module):
    """An imported network; calling it runs the graph.

    Attributes:
        input_shape: As declared: (n, channels, height, width), None where it is free.
        output_names: Names of the outputs, in the graph's order.
        steps: The operations that are left to do at run time, in order.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        constants: Mapping[str, Tensor],
        input_name: str,
        input_shape: tuple[int | None, ...],
        output_names: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.steps = tuple(steps)
        self._input_name = input_name
        self._slots = {name: f"constant_{i}" for i, name in enumerate(constants)}
        for name, slot in self._slots.items():
            self.register_buffer(slot, constants[name].contiguous())
        self.input_shape = input_shape
        self.output_names = output_names

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Runs the network on a batch (n, channels, height, width)."""
        values: dict[str, Tensor] = {self._input_name: x}
        for name, slot in self._slots.items():
            values[name] = getattr(self, slot)
        for step in self.steps:
            arguments = [None if name is None else values[name] for name in step.inputs]
            values[step.output] = step.run(*arguments)
            for name in step.dead:
                del values[name]
        return tuple(values[name] for name in self.output_names)

    def replace_steps(self, change: Callable[[Step, Mapping[str, Tensor]], Step]) -> None:
        """Lets an optimiser exchange steps; it sees each with the constants of the network."""
        constants = {name: getattr(self, slot) for name, slot in self._slots.items()}
        self.steps = tuple(change(step, constants) for step in self.steps)


def import_network(path: Path, *, allowed_files: Iterable[str] = ()) -> Network:
    """Imports the ONNX file.

    Args:
        path: The file; its digest is the caller's business.
        allowed_files: Data files beside it that may be read. Nothing else is opened.

    Raises:
        ModelFileMissingError: The file or one of its data files is not there.
        InvalidModelCardError: It is not an ONNX file, or names a data file that is not allowed.
        UnsupportedOperatorError: It uses something this importer does not know.
        ModelShapeError: It has no single image input.
    """
    model = _read(path)
    _load_external(model, path.parent, frozenset(allowed_files))
    _check_opset(model)
    graph = model.graph
    constants = {
        tensor.name: _tensor(numpy_helper.to_array(tensor)) for tensor in graph.initializer
    }
    if sum(value.numel() for value in constants.values()) > PARAMETERS_MAX:
        raise InvalidModelCardError(f"{path.name} has more than {PARAMETERS_MAX} parameters")
    input_name, input_shape = _single_input(graph, constants)
    outputs = tuple(output.name for output in graph.output)
    nodes = [_node(proto, input_shape[0] or 1) for proto in graph.node]
    runs = _make(nodes, constants)
    nodes = _fold_batch_normalization(nodes, runs, constants, frozenset(outputs))
    missing = set(outputs) - {node.output for node in nodes}
    if missing:
        raise ModelShapeError(f"{path.name} does not compute its outputs {sorted(missing)}")
    steps = _schedule(nodes, runs, constants, outputs)
    used = {name for step in steps for name in step.inputs if name in constants}
    network = Network(
        steps,
        {name: value for name, value in constants.items() if name in used},
        input_name,
        input_shape,
        outputs,
    )
    return network.eval().requires_grad_(False)


def _read(path: Path) -> Any:
    try:
        return onnx.load(str(path), load_external_data=False)
    except FileNotFoundError:
        raise ModelFileMissingError(f"{path} does not exist", {"file": str(path)}) from None
    except Exception as error:
        raise InvalidModelCardError(f"{path} is not an ONNX file: {error}") from error


def _external_tensors(model: Any) -> list[Any]:
    external = onnx.TensorProto.EXTERNAL
    return [tensor for tensor in model.graph.initializer if tensor.data_location == external]


def _location(tensor: Any) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def _load_external(model: Any, folder: Path, allowed: frozenset[str]) -> None:
    """Reads weights kept in other files: only listed ones, only inside the model's folder."""
    for tensor in _external_tensors(model):
        name = _location(tensor)
        if not name or name not in allowed or Path(name).name != name:
            raise InvalidModelCardError(
                f"the network refers to the data file {name!r}, which its card does not list",
                {"file": name},
            )
        entries = {entry.key: entry.value for entry in tensor.external_data}
        tensor.raw_data = _slice(folder / name, entries)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _slice(path: Path, entries: Mapping[str, str]) -> bytes:
    try:
        offset, size = int(entries.get("offset", 0)), path.stat().st_size
        length = int(entries.get("length", size - offset))
    except FileNotFoundError:
        raise ModelFileMissingError(f"{path} does not exist", {"file": str(path)}) from None
    except ValueError:
        raise InvalidModelCardError(f"{path} is referred to by a malformed range") from None
    if offset < 0 or length < 0 or offset + length > size:
        raise InvalidModelCardError(f"{path} is shorter than the network says")
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)


def _check_opset(model: Any) -> None:
    """Refuses versions of the standard operator set that are not known here, and functions."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    opset = int(versions.get("", versions.get("ai.onnx", 0)))
    if opset not in OPSETS:
        raise UnsupportedOperatorError(
            f"ONNX opset {opset} is not supported ({OPSETS.start} to {OPSETS.stop - 1} are)",
            {"opset": str(opset)},
        )
    if model.functions or len(model.graph.node) > NODES_MAX:
        raise UnsupportedOperatorError("networks with functions or huge graphs are not supported")


def _single_input(
    graph: Any, constants: Mapping[str, Tensor]
) -> tuple[str, tuple[int | None, ...]]:
    """The image input.

    Some exporters also declare weights as inputs, or leave inputs behind that no node reads
    (quantisers do); both are skipped.
    """
    read = {name for node in graph.node for name in node.input} - constants.keys()
    inputs = [entry for entry in graph.input if entry.name in read]
    if len(inputs) != 1:
        raise ModelShapeError(f"the network has {len(inputs)} inputs, not one image")
    dimensions = inputs[0].type.tensor_type.shape.dim
    shape = tuple(int(d.dim_value) if d.dim_value > 0 else None for d in dimensions)
    if len(shape) != 4:
        raise ModelShapeError(f"the network's input has {len(shape)} dimensions, not four")
    return inputs[0].name, shape


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise UnsupportedOperatorError(f"tensors of type {array.dtype} are not supported")
    return torch.from_numpy(np.array(array, order="C"))


def _node(proto: Any, exported_batch: int) -> Node:
    attributes = {}
    for attribute in proto.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto):
            if value.data_location == onnx.TensorProto.EXTERNAL:
                raise UnsupportedOperatorError("constants in external files are not supported")
            value = _tensor(numpy_helper.to_array(value))
        attributes[attribute.name] = value
    node = Node(
        operator=proto.op_type,
        inputs=list(proto.input),
        output=proto.output[0] if proto.output else "",
        attributes=attributes,
        exported_batch=exported_batch,
    )
    if proto.domain not in ("", "ai.onnx") or proto.op_type not in OPERATORS:
        name = f"{proto.domain}.{proto.op_type}" if proto.domain else proto.op_type
        raise UnsupportedOperatorError(
            f"the network uses the operator {name}, which is not supported", {"operator": name}
        )
    if any(proto.output[1:]) and proto.op_type not in ("Dropout", "BatchNormalization"):
        raise node.refuse("more than one output")
    return node


def _make(nodes: list[Node], constants: dict[str, Tensor]) -> dict[str, Run]:
    """Makes every node's function; computes at once whatever depends on constants only."""
    runs: dict[str, Run] = {}
    for node in nodes:
        node.constants = [constants.get(name) for name in node.inputs]
        try:
            run = OPERATORS[node.operator](node)
        except (IndexError, TypeError, ValueError) as error:
            raise node.refuse(f"malformed inputs or attributes ({error})") from error
        if node.attributes:
            raise node.refuse(f"the attributes {sorted(node.attributes)}")
        runs[node.output] = run
        if all(not name or name in constants for name in node.inputs):
            arguments = [constants[name] if name else None for name in node.inputs]
            try:
                constants[node.output] = run(*arguments)
            except RuntimeError as error:
                raise ModelShapeError(f"node {node.output!r}: {error}") from error
    return runs


def _fold_batch_normalization(
    nodes: list[Node], runs: dict[str, Run], constants: dict[str, Tensor], outputs: frozenset[str]
) -> list[Node]:
    """Merges y = scale x (conv(x) - mean) / sqrt(variance + epsilon) + shift into the conv."""
    readers = Counter(name for node in nodes for name in node.inputs)
    makers = {node.output: node for node in nodes}
    kept: list[Node] = []
    for node in nodes:
        before = makers.get(node.inputs[0]) if node.inputs else None
        if (
            node.operator != "BatchNormalization"
            or before is None
            or before.operator not in _FOLDS_INTO
            or readers[before.output] != 1
            or before.output in outputs
            or any(name not in constants for name in (*before.inputs[1:], *node.inputs[1:]))
        ):
            kept.append(node)
            continue
        weight, bias = _folded(before, node, runs, constants)
        constants[f"{node.output}.weight"], constants[f"{node.output}.bias"] = weight, bias
        before.inputs = [before.inputs[0], f"{node.output}.weight", f"{node.output}.bias"]
        runs[node.output] = runs[before.output]
        before.output = node.output
        makers[node.output] = before
    return kept


def _folded(
    layer: Node, normalization: Node, runs: Mapping[str, Run], constants: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Weight and bias of the layer with the normalisation in it, computed in float64."""
    parameters = [constants[name].double() for name in normalization.inputs[1:]]
    run = runs[normalization.output]
    channels = parameters[0].numel()
    # The normalisation is affine, so its values at 0 and 1 tell its shift and its factor.
    shift = run(torch.zeros(1, channels, dtype=torch.float64), *parameters)[0]
    factor = run(torch.ones(1, channels, dtype=torch.float64), *parameters)[0] - shift
    weight = constants[layer.inputs[1]].double()
    bias = constants[layer.inputs[2]].double() if len(layer.inputs) > 2 else torch.zeros(channels)
    along_rows = layer.operator == "Conv" or weight.shape[0] == channels
    shape = [-1] + [1] * (weight.dim() - 1) if along_rows else [1, -1]
    folded = weight * factor.reshape(shape)
    return folded.float(), (bias * factor + shift).float()


def _schedule(
    nodes: Sequence[Node],
    runs: Mapping[str, Run],
    constants: Mapping[str, Tensor],
    outputs: tuple[str, ...],
) -> list[Step]:
    """The run-time steps, in the file's order, each with the values that die after it."""
    live = [node for node in nodes if node.output not in constants]
    last: dict[str, int] = {}
    for index, node in enumerate(live):
        last.update(dict.fromkeys(filter(None, node.inputs), index))
    known = {node.output for node in live}
    steps = []
    for index, node in enumerate(live):
        names = tuple(name or None for name in node.inputs)
        dying = {name for name in names if name and name in known and last[name] == index}
        steps.append(
            Step(runs[node.output], names, node.output, tuple(sorted(dying - set(outputs))))
        )
    return steps
