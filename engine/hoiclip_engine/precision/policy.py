"""The policy of policy.toml on the nodes of a graph."""

from __future__ import annotations

import fnmatch
import sys
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Reduced = Literal["int8", "fp16"]
PRODUCTS = ("MatMul", "Gemm")


@dataclass(frozen=True, slots=True)
class Kept:
    """What one precision leaves as it is."""

    products_of_activations: bool
    operators: tuple[str, ...]
    names: tuple[str, ...]

    def nodes(self, graph: Any) -> list[str]:
        """Names of the kept nodes.

        Args:
            graph: an onnx.ModelProto whose nodes are named by node_names.name_nodes.
        """
        weights = {one.name for one in graph.graph.initializer}
        weights |= {node.output[0] for node in graph.graph.node if node.op_type == "Constant"}
        return [node.name for node in graph.graph.node if self._keeps(node, weights)]

    def _keeps(self, node: Any, weights: set[str]) -> bool:
        if node.op_type in self.operators or any(fnmatch.fnmatchcase(node.name, name) for name in self.names):
            return True
        is_product = node.op_type in PRODUCTS and not weights.intersection(node.input)
        return self.products_of_activations and is_product


@cache
def policy(precision: Reduced) -> Kept:
    """The project's policy for a precision."""
    said = tomllib.loads(policy_text())[precision]
    return Kept(said["products_of_activations"], tuple(said["operators"]), tuple(said["names"]))


def policy_text() -> str:
    """The file as it is: what was made by another policy is another graph."""
    return resources.files(__package__).joinpath("policy.toml").read_text(encoding="utf-8")
