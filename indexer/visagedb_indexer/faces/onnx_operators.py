"""The ONNX operators that convolutional face networks are made of, as torch functions.

Each entry of `OPERATORS` is a maker: it takes a `Node` (attributes, and those inputs whose
values are known at import), checks every attribute, and returns a function of the node's
input tensors. Whatever a maker does not expect is refused with `UnsupportedOperatorError`,
so a network never runs with a meaning other than the one it was written with.

Semantics: the ONNX operator specification, opsets 11 to 22, restricted to inference.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from visagedb_indexer.faces.onnx_node import Node

Run: TypeAlias = Callable[..., Tensor]


def _spatial_pads(node: Node, kernel: Sequence[int]) -> tuple[int, int, int, int]:
    """Padding as (top, left, bottom, right)."""
    automatic = node.expect("auto_pad", "NOTSET", "VALID")
    pads = node.take("pads", [0] * 2 * len(kernel))
    if len(kernel) != 2 or len(pads) != 4 or (automatic == "VALID" and any(pads)):
        raise node.refuse(f"kernel_shape={list(kernel)}, pads={pads}")
    if min(pads) < 0:
        raise node.refuse("negative pads")
    return tuple(pads)


def _split_pads(
    pads: tuple[int, int, int, int],
) -> tuple[tuple[int, int], tuple[int, int, int, int] | None]:
    """Symmetric padding the kernel can do itself, or explicit padding for what it cannot."""
    top, left, bottom, right = pads
    if top == bottom and left == right:
        return (top, left), None
    return (0, 0), (left, right, top, bottom)


@dataclass(frozen=True)
class Convolution:
    """A two-dimensional convolution; a class, so that `packing` can replace it."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    explicit_padding: tuple[int, int, int, int] | None
    dilation: tuple[int, int]
    groups: int

    def pad(self, x: Tensor) -> Tensor:
        """Adds the padding that the kernel itself cannot do."""
        return x if self.explicit_padding is None else functional.pad(x, self.explicit_padding)

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Runs it on (n, channels, height, width)."""
        return functional.conv2d(
            self.pad(x), weight, bias, self.stride, self.padding, self.dilation, self.groups
        )


def _conv(node: Node) -> Run:
    weight = node.required(1)
    kernel = list(weight.shape[2:])
    if weight.dim() != 4 or list(node.take("kernel_shape", kernel)) != kernel:
        raise node.refuse("anything but two dimensions")
    padding, explicit = _split_pads(_spatial_pads(node, kernel))
    stride, dilation = node.take("strides", [1, 1]), node.take("dilations", [1, 1])
    groups = int(node.take("group", 1))
    return Convolution(tuple(stride), padding, explicit, tuple(dilation), groups)


def _max_pool(node: Node) -> Run:
    kernel = node.take("kernel_shape")
    padding, explicit = _split_pads(_spatial_pads(node, kernel))
    stride = node.take("strides", [1, 1])
    dilation = node.take("dilations", [1, 1])
    ceil_mode = bool(node.expect("ceil_mode", 0, 1))
    node.expect("storage_order", 0)

    def run(x: Tensor) -> Tensor:
        if explicit is not None:
            x = functional.pad(x, explicit, value=float("-inf"))
        return functional.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode)

    return run


def _average_pool(node: Node) -> Run:
    kernel = node.take("kernel_shape")
    padding, explicit = _split_pads(_spatial_pads(node, kernel))
    if explicit is not None:
        raise node.refuse("asymmetric pads")
    stride = node.take("strides", [1, 1])
    node.expect("dilations", [1, 1])
    ceil_mode = bool(node.expect("ceil_mode", 0, 1))
    include = bool(node.expect("count_include_pad", 0, 1))
    return lambda x: functional.avg_pool2d(x, kernel, stride, padding, ceil_mode, include)


def _batch_normalization(node: Node) -> Run:
    epsilon = node.take("epsilon", 1e-5)
    node.take("momentum")
    node.expect("training_mode", 0)
    node.expect("spatial", 1)

    def run(x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return functional.batch_norm(x, mean, variance, scale, shift, False, 0.0, epsilon)

    return run


def _gemm(node: Node) -> Run:
    alpha, beta = node.take("alpha", 1.0), node.take("beta", 1.0)
    trans_a, trans_b = node.expect("transA", 0), node.expect("transB", 0, 1)
    assert not trans_a

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        weight = weight if trans_b else weight.t()
        if alpha == beta == 1.0:
            return functional.linear(x, weight, bias)
        product: Tensor = functional.linear(x, weight) * alpha
        return product if bias is None else torch.add(product, bias, alpha=beta)

    return run


def _p_relu(node: Node) -> Run:
    slope = node.required(1)
    channels = slope.numel()
    if slope.dim() > 1 and (slope.shape[0] != channels or slope.dim() > 3):
        raise node.refuse(f"a slope of shape {list(slope.shape)}")
    return lambda x, slope: functional.prelu(x, slope.reshape(-1))


def _clip(node: Node) -> Run:
    low, high = node.constant(1), node.constant(2)
    minimum = None if low is None else float(low)
    maximum = None if high is None else float(high)
    if minimum is None and maximum is None:
        return lambda x, *_: x
    return lambda x, *_: torch.clamp(x, minimum, maximum)


def _reshape(node: Node) -> Run:
    node.expect("allowzero", 0)
    target = node.constants[1]
    if target is None:
        return lambda x, shape: x.reshape([int(size) for size in shape])
    sizes = [int(size) for size in target]
    if node.constants[0] is not None:
        return lambda x, _: x.reshape([x.shape[i] if s == 0 else s for i, s in enumerate(sizes)])
    return _reshape_any_batch(node, sizes)


def _reshape_any_batch(node: Node, sizes: list[int]) -> Run:
    """A reshape of activations, freed of the batch and image size of the exporter.

    The leading size stands for the batch. If a grid (n, rows, columns, c) becomes a list
    (n, rows x columns, c), the middle size follows the image.
    """
    leads_with_batch = bool(sizes) and sizes[0] in (node.exported_batch, 0)
    if not leads_with_batch and not (len(sizes) > 1 and sizes[0] == -1 and -1 not in sizes[1:]):
        raise node.refuse(f"the shape {sizes}")

    def run(x: Tensor, _: Tensor) -> Tensor:
        shape = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
        shape[0] = x.shape[0]
        if x.dim() == 4 and len(shape) == 3 and shape[2] == x.shape[3]:
            shape[1] = x.shape[1] * x.shape[2]
        return x.reshape(shape)

    return run


def _flatten(node: Node) -> Run:
    node.expect("axis", 1)
    return lambda x: x.flatten(1)


def _transpose(node: Node) -> Run:
    order = node.take("perm")
    if order is None:
        raise node.refuse("no perm")
    return lambda x: x.permute(order)


def _resize(node: Node) -> Run:
    """Nearest neighbour by whole factors, the only resize of the detectors' pyramids."""
    node.expect("mode", "nearest")
    node.expect("coordinate_transformation_mode", "asymmetric")
    node.expect("nearest_mode", "floor")
    for name in ("cubic_coeff_a", "exclude_outside", "extrapolation_value"):
        node.take(name)
    node.expect("antialias", 0)
    node.expect("keep_aspect_ratio_policy", "stretch")
    if len(node.inputs) > 3 and node.inputs[3]:
        raise node.refuse("a fixed output size")
    scales = [float(scale) for scale in node.required(2)]
    if len(scales) != 4 or scales[:2] != [1.0, 1.0] or any(s != int(s) for s in scales):
        raise node.refuse(f"scales={scales}")
    return lambda x, *_: functional.interpolate(x, scale_factor=scales[2:], mode="nearest")


def _dequantize_linear(node: Node) -> Run:
    """Block-wise, per-axis or per-tensor dequantisation: (q - zero point) x scale."""
    axis, block = node.take("axis", 1), node.take("block_size", 0)
    node.expect("output_dtype", 0, 1)

    def run(quantized: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        values = quantized.to(torch.float32)

        def spread(parameter: Tensor) -> Tensor:
            if block:
                wide = parameter.repeat_interleave(block, dim=axis)
                return wide.narrow(axis, 0, values.shape[axis])
            if parameter.numel() == 1:
                return parameter.reshape(())
            shape = [1] * values.dim()
            shape[axis] = -1
            return parameter.reshape(shape)

        if zero is not None:
            values = values - spread(zero.to(torch.float32))
        return values * spread(scale)

    return run


def _constant(node: Node) -> Run:
    value: Tensor = node.take("value")
    if value is None:
        raise node.refuse("no tensor value")
    return lambda: value


def _concat(node: Node) -> Run:
    axis = node.take("axis", 0)
    return lambda *parts: torch.cat(parts, axis)


def _shape(node: Node) -> Run:
    node.expect("start", 0)
    return lambda x: torch.tensor(x.shape, dtype=torch.int64)


def _gather(node: Node) -> Run:
    node.expect("axis", 0)
    index = node.required(1)
    if index.numel() != 1:
        raise node.refuse("more than one index")
    position = int(index)
    keep = index.dim() == 1
    return lambda x, _: x[position].reshape(1) if keep else x[position]


def _axes(node: Node) -> list[int]:
    given = node.take("axes")
    if given is not None:
        return list(given)
    axes = node.constant(1)
    return [] if axes is None else [int(axis) for axis in axes]


def _unsqueeze(node: Node) -> Run:
    axes = _axes(node)
    if len(axes) != 1:
        raise node.refuse(f"axes={axes}")
    return lambda x, *_: x.unsqueeze(axes[0])


def _squeeze(node: Node) -> Run:
    axes = _axes(node)
    if not axes or 0 in axes:
        raise node.refuse(f"axes={axes}")
    return lambda x, *_: x.squeeze(axes)


def _reduce_mean(node: Node) -> Run:
    axes, keep = _axes(node), bool(node.expect("keepdims", 1, 0))
    if not axes or 0 in axes:
        raise node.refuse(f"axes={axes}")
    return lambda x, *_: x.mean(axes, keepdim=keep)


def _leaky_relu(node: Node) -> Run:
    slope = node.take("alpha", 0.01)
    return lambda x: functional.leaky_relu(x, slope)


def _hard_sigmoid(node: Node) -> Run:
    alpha, beta = node.take("alpha", 0.2), node.take("beta", 0.5)
    return lambda x: torch.clamp(alpha * x + beta, 0.0, 1.0)


def _identity(node: Node) -> Run:
    return lambda x: x


def _dropout(node: Node) -> Run:
    """Nothing at inference, whatever its ratio."""
    for name in ("ratio", "seed"):
        node.take(name)
    return lambda x, *_: x


def _plain(function: Run) -> Callable[[Node], Run]:
    """A maker for an operator without attributes."""
    return lambda node: function


OPERATORS: Final[Mapping[str, Callable[[Node], Run]]] = {
    "Add": _plain(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "Conv": _conv,
    "DequantizeLinear": _dequantize_linear,
    "Div": _plain(torch.div),
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": _plain(lambda x: x.mean((2, 3), keepdim=True)),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(functional.hardswish),
    "Identity": _identity,
    "LeakyRelu": _leaky_relu,
    "MatMul": _plain(torch.matmul),
    "MaxPool": _max_pool,
    "Mul": _plain(torch.mul),
    "PRelu": _p_relu,
    "ReduceMean": _reduce_mean,
    "Relu": _plain(functional.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": _plain(torch.sigmoid),
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
