"""The kernel head equals scikit-learn's kernel ridge regression, and its scale equals that of explicit leave-one-out.

The file of the head is checked when it is loaded.
"""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.kernel_ridge import KernelRidge

from bankllm.assistant.runtime import DEFAULT_ADAPTER
from bankllm.datasets import Split
from bankllm.errors import ModelError
from bankllm.model.torch_classifier import IntentClassifier
from bankllm.training import head
from bankllm.training.head import fit_kernel_head

GAMMA, RIDGE = 1.0, 0.2


@pytest.fixture
def problem() -> tuple[np.ndarray, Split]:
    """60 unit vectors in four clusters of 15. The first class has two clusters, and two labels are wrong."""
    rng = np.random.default_rng(0)
    centres = np.repeat(np.eye(4, 8), 15, axis=0)
    vectors = centres + rng.normal(0, 0.2, centres.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)
    labels = np.repeat([0, 1, 2, 0], 15)
    labels[[3, 40]] = 1
    return vectors, Split(tuple(f"text {i}" for i in range(60)), tuple(labels.tolist()))


def ridge_regression(vectors: np.ndarray, labels: np.ndarray, priors: np.ndarray) -> KernelRidge:
    return KernelRidge(alpha=RIDGE, kernel="rbf", gamma=GAMMA).fit(vectors, np.eye(3)[labels] - priors)


def test_the_kernel_head_equals_kernel_ridge_regression(problem):
    vectors, split = problem
    labels = np.array(split.labels)
    kernel, _ = fit_kernel_head(vectors, split, 3, GAMMA, RIDGE, seed=0)
    priors = np.eye(3)[labels].mean(axis=0)
    expected = ridge_regression(vectors, labels, priors).predict(vectors) + priors
    np.testing.assert_allclose(kernel(torch.from_numpy(vectors)), expected, atol=5e-3)  # half precision
    assert kernel(torch.from_numpy(vectors)).argmax(dim=1)[[0, 59]].tolist() == [0, 0]  # both clusters of the class
    assert not list(kernel.parameters())


def test_the_scale_is_fitted_to_leave_one_out_predictions(problem):
    vectors, split = problem
    labels = np.array(split.labels)
    priors = np.eye(3)[labels].mean(axis=0)
    left_out = np.empty((len(labels), 3))
    for i in range(len(labels)):
        others = np.arange(len(labels)) != i
        left_out[i] = ridge_regression(vectors[others], labels[others], priors).predict(vectors[[i]])[0] + priors

    def loss(scale: float) -> float:
        return float(-log_softmax(scale * left_out, axis=1)[np.arange(len(labels)), labels].mean())

    _, scale = fit_kernel_head(vectors, split, 3, GAMMA, RIDGE, seed=0)
    assert scale == pytest.approx(minimize_scalar(loss, bounds=(1, 100), method="bounded").x, rel=0.01)


def test_a_head_of_too_many_texts_uses_a_random_sample(problem, monkeypatch):
    vectors, split = problem
    monkeypatch.setattr(head, "MAX_LANDMARKS", 40)
    kernel, _ = fit_kernel_head(vectors, split, 3, GAMMA, RIDGE, seed=0)
    again, _ = fit_kernel_head(vectors, split, 3, GAMMA, RIDGE, seed=0)
    assert kernel.landmarks.shape == (40, 8)
    assert torch.equal(kernel.landmarks, again.landmarks)
    answers = kernel(torch.from_numpy(vectors)).argmax(dim=1).numpy()
    assert np.mean(answers == np.array(split.labels)) > 0.9


@pytest.mark.parametrize("fault", ["a tensor is missing", "of another classifier"])
def test_a_head_that_does_not_fit_is_refused(fault, tmp_path):
    folder = shutil.copytree(DEFAULT_ADAPTER, tmp_path / "adapter")
    tensors = load_file(folder / "head.safetensors")
    if fault == "a tensor is missing":
        del tensors["weight"]
    else:
        tensors["weight"] = torch.zeros(3, 384)
    save_file(tensors, folder / "head.safetensors")
    with pytest.raises(ModelError, match=r"adapter/head.safetensors is damaged or does not match training.json "):
        IntentClassifier.load(folder)
