"""A second product becomes a low-rank correction of the first if the weights differ by low rank, and only then."""

import numpy as np
import onnx_ir as ir
import pytest

from bankllm.model.low_rank_sharing import low_rank, share_base_matmul

SIZE, RANK = 32, 2
ort = pytest.importorskip("onnxruntime")


def matrix(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def model(*weights: np.ndarray) -> ir.Model:
    """A graph with input x and one product x·W per weight."""
    x = ir.Value(name="x", shape=ir.Shape(["n", SIZE]), type=ir.TensorType(ir.DataType.FLOAT))
    constants = [ir.Value(name=f"w{i}", const_value=ir.tensor(w, name=f"w{i}")) for i, w in enumerate(weights)]
    nodes = [ir.node("MatMul", [x, constant]) for constant in constants]
    outputs = [node.outputs[0] for node in nodes]
    for number, output in enumerate(outputs):
        output.name, output.type = f"y{number}", ir.TensorType(ir.DataType.FLOAT)
    # As in a real graph, another node follows each product.
    after = [ir.node("Identity", [output]) for output in outputs]
    for number, node in enumerate(after):
        node.outputs[0].name, node.outputs[0].type = f"z{number}", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        [x], [node.outputs[0] for node in after], nodes=[*nodes, *after], initializers=constants, opset_imports={"": 20}
    )
    return ir.Model(graph, ir_version=10)


def run(given: ir.Model, x: np.ndarray) -> list[np.ndarray]:
    session = ort.InferenceSession(ir.to_proto(given).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def test_the_product_with_an_adapted_weight_becomes_a_correction() -> None:
    rng = np.random.default_rng(0)
    weight, x = matrix(rng, SIZE, SIZE), matrix(rng, 5, SIZE)
    adapted = weight + matrix(rng, SIZE, RANK) @ matrix(rng, RANK, SIZE)
    given = model(weight, adapted)
    assert share_base_matmul(given) == 1
    assert {tuple(value.const_value.shape) for value in given.graph.initializers.values()} == {
        (SIZE, SIZE),
        (SIZE, RANK),
        (RANK, SIZE),
    }
    for found, expected in zip(run(given, x), [x @ weight, x @ adapted], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_products_with_unrelated_weights_are_not_changed() -> None:
    rng = np.random.default_rng(1)
    given = model(matrix(rng, SIZE, SIZE), matrix(rng, SIZE, SIZE))
    assert share_base_matmul(given) == 0
    assert len(given.graph.initializers) == 2


@pytest.mark.parametrize(("rank", "found"), [(0, None), (1, 1), (8, 8), (9, None)])
def test_low_rank_is_at_most_a_quarter_of_the_full_rank(rank: int, found: int | None) -> None:
    rng = np.random.default_rng(2)
    difference = matrix(rng, SIZE, rank) @ matrix(rng, rank, SIZE)
    factors = low_rank(difference)
    assert (factors and factors[0].shape[1]) == found
    if factors:
        np.testing.assert_allclose(factors[0] @ factors[1], difference, atol=1e-4)
