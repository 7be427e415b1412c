"""ONNX graph rewrite: compute x·W for the base weight once, and obtain x·(W+BA) by adding the low-rank correction.

An exported graph that returns base and adapted embeddings multiplies the same input x by two weights: by W of the base
model, and by W+BA with a merged LoRA adapter. The difference BA has a low rank r. The rewrite replaces the second
product by x·W + (x·B)·A. x·W is computed anyway, and the correction needs only r numbers per token instead of a second
product with the full weight.
"""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

RELATIVE_TOLERANCE = 1e-5
"""Singular values of the difference below this share of the largest singular value count as rounding errors."""
MIN_RANK_RATIO = 4
"""The rewrite is applied only if the full rank of the weight is at least this many times the rank of the difference."""


def share_base_matmul(model: ir.Model) -> int:
    """Rewrite `model` in place, and return the number of replaced products.

    For each input and weight shape, the first product in the graph is kept. Each later product is replaced if its
    weight differs from the first weight by a matrix of low rank.
    """
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
    """Factor a (k, n) matrix into (k, rank) and (rank, n) float32. Returns None if its rank is 0 or not low."""
    left, values, right = np.linalg.svd(difference.astype(np.float64), full_matrices=False)
    rank = int((values > RELATIVE_TOLERANCE * values[0]).sum())
    if not 0 < rank * MIN_RANK_RATIO <= len(values):
        return None
    return (left[:, :rank] * values[:rank]).astype(np.float32), right[:rank].astype(np.float32)


def _products(graph: ir.Graph) -> Iterator[tuple[ir.Node, np.ndarray]]:
    """Yield each MatMul node with a constant matrix as second input, and that matrix, in the order of the graph."""
    for node in graph:
        if node.op_type == "MatMul" and (constant := _input(node, 1).const_value) is not None:
            matrix = constant.numpy()
            if matrix.ndim == 2:
                yield node, matrix


def _correct(graph: ir.Graph, first: ir.Node, second: ir.Node, down: np.ndarray, up: np.ndarray) -> None:
    """Replace the node `second` by the output of `first` plus the correction x·down·up, and delete its weight."""
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
    assert value is not None  # MatMul requires both inputs
    return value


def _weight(node: ir.Node) -> np.ndarray:
    constant = _input(node, 1).const_value
    assert constant is not None  # `_products` yields only nodes with a constant weight
    return constant.numpy()
