"""One node of an ONNX graph, as the maker of its operator sees it."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from visagedb_indexer.errors import UnsupportedOperatorError


@dataclass
class Node:
    """One operation of the graph, as its maker sees it.

    Attributes:
        operator: The operator's name.
        inputs: Names of the inputs; empty where an optional one is left out.
        output: Name of the only output that is used.
        attributes: Attribute values; a maker takes out what it understands.
        constants: Per input the value, where it is known at import.
        exported_batch: Batch size written into the graph by its exporter.
    """

    operator: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any]
    constants: list[Tensor | None] = field(default_factory=list)
    exported_batch: int = 1

    def take(self, name: str, default: Any = None) -> Any:
        """Remove an attribute and return its value."""
        value = self.attributes.pop(name, default)
        return value.decode("ascii", "replace") if isinstance(value, bytes) else value

    def expect(self, name: str, *allowed: Any) -> Any:
        """Remove an attribute that may only have certain values; the first is the default."""
        value = self.take(name, allowed[0])
        if value not in allowed:
            raise self.refuse(f"{name}={value!r}")
        return value

    def constant(self, index: int) -> Tensor | None:
        """Value of an optional input that must be known at import."""
        if index >= len(self.inputs) or not self.inputs[index]:
            return None
        value = self.constants[index]
        if value is None:
            raise self.refuse(f"input {index} computed at run time")
        return value

    def required(self, index: int) -> Tensor:
        """Value of an input that must be given and known at import."""
        value = self.constant(index)
        if value is None:
            raise self.refuse(f"no input {index}")
        return value

    def refuse(self, what: str) -> UnsupportedOperatorError:
        """The error that says which form of the operator is not supported."""
        return UnsupportedOperatorError(
            f"operator {self.operator} (node {self.output!r}) with {what} is not supported",
            {"operator": self.operator, "node": self.output},
        )
