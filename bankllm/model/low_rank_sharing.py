"""Twins in an exported graph: the product of an input with an adapted weight, beside that with the plain base's own.

LoRA's two weights differ by a matrix of low rank. So the second product is the first one, which is needed anyhow, and
a correction through a few numbers a token instead of another pass through the whole weight.
"""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

NOISE = 1e-5
"""Singular values of the difference below this share of the largest are rounding, not the adapter's."""
WORTH_IT = 4
"""The difference's rank must be so many times less than the weight's own."""


def share_base_matmul(model: ir.Model) -> int:
    """Rewrite, in place, each second product whose weight differs from the first's by low rank; how many were."""
    first: dict[tuple[ir.Value, tuple[int, ...]], ir.Node] = {}
    shared = 0
    for node, weight in list(_products(model.graph)):
        key = (_input(node, 0), weight.shape)
        if key not in first:
            first[key] = node
            continue
        factors = low_rank(weight - _weight(first[key]))
        if factors is not None:
            _correct(model.graph, first[key], node, *factors)
            shared += 1
    return shared


def low_rank(difference: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(k, n) → factors (k, rank) and (rank, n) whose product it is; None where its rank is not low."""
    left, values, right = np.linalg.svd(difference.astype(np.float64), full_matrices=False)
    rank = int((values > NOISE * values[0]).sum())
    if not 0 < rank * WORTH_IT <= len(values):
        return None
    return (left[:, :rank] * values[:rank]).astype(np.float32), right[:rank].astype(np.float32)


def _products(graph: ir.Graph) -> Iterator[tuple[ir.Node, np.ndarray]]:
    """The nodes that multiply something computed by a constant matrix, in the order in which they run."""
    for node in graph:
        if node.op_type == "MatMul" and (constant := _input(node, 1).const_value) is not None:
            matrix = constant.numpy()
            if matrix.ndim == 2:
                yield node, matrix


def _correct(graph: ir.Graph, first: ir.Node, second: ir.Node, down: np.ndarray, up: np.ndarray) -> None:
    replaced = second.outputs[0]
    inner = ir.node("MatMul", [_input(first, 0), _constant(graph, f"{replaced.name}_down", down)])
    outer = ir.node("MatMul", [inner.outputs[0], _constant(graph, f"{replaced.name}_up", up)])
    total = ir.node("Add", [first.outputs[0], outer.outputs[0]])
    graph.insert_before(second, [inner, outer, total])
    ir.convenience.replace_all_uses_with(replaced, total.outputs[0])
    weight = _input(second, 1)
    graph.remove(second, safe=True)
    if not weight.uses():
        del graph.initializers[str(weight.name)]


def _constant(graph: ir.Graph, name: str, values: np.ndarray) -> ir.Value:
    constant = ir.Value(name=name, const_value=ir.tensor(values, name=name))
    graph.register_initializer(constant)
    return constant


def _input(node: ir.Node, position: int) -> ir.Value:
    value = node.inputs[position]
    assert value is not None  # both of a product's are required
    return value


def _weight(node: ir.Node) -> np.ndarray:
    constant = _input(node, 1).const_value
    assert constant is not None  # `_products` gave it
    return constant.numpy()
