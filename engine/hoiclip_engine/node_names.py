"""Names for the nodes of an exported graph that say where in the model they are: module/operation/Operator.

The exporter numbers nodes over the whole graph, so that its names change with every layer. By these, a policy can name
layers, and whoever looks into a graph or profiles an engine finds the line of the model.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from typing import Any

_SCOPES = "pkg.torch.onnx.name_scopes"


def name_nodes(graph: Any) -> None:
    """Renames all nodes of an onnx_ir graph, e.g. to encoder.layers.0.attention/linear/MatMul; each name is there once.

    A second node of a name gets a number: Add, Add.1.
    """
    given: Counter[str] = Counter()
    for node in graph:
        name = f"{_place(node.metadata_props.get(_SCOPES, ''))}/{node.op_type}".lstrip("/")
        node.name = f"{name}.{given[name]}" if given[name] else name
        given[name] += 1


def _place(scopes: str) -> str:
    """Innermost module and the torch operation; nothing for what the exporter added without saying why."""
    try:
        known = [str(scope) for scope in ast.literal_eval(scopes)]
    except (SyntaxError, ValueError):
        return ""
    *modules, operation = known or [""]
    module = modules[-1] if modules else ""
    return f"{module.removeprefix('model').removeprefix('.')}/{re.sub(r'_[0-9]+$', '', operation)}"
