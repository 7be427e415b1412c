"""Initialise the linear head, or replace it with a kernel head, without gradients.

The kernel head is kernel ridge regression with a Gaussian kernel on the adapted embeddings (Rifkin et al., "Regularized
least-squares classification", 2003). It has an exact solution and can represent a class that forms several clusters.
"""

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from bankllm.datasets import Split
from bankllm.model.encoder import KernelHead

PROBE_C = 30.0
"""scikit-learn's `C` of the logistic regression, chosen on validation texts of Banking77."""
MAX_LANDMARKS = 12_000
"""Maximum number of training texts in the kernel head; of more, a random sample is used. The kernel matrix has n²
entries: 0.6 GB for this number."""
LEAVE_ONE_OUT_TEXTS = 1000
"""Number of training texts whose leave-one-out predictions determine the scale of the logits."""


def fit_probe(embeddings: np.ndarray, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Fit multinomial logistic regression on (n, hidden) embeddings. Returns (classes, hidden) weights and biases."""
    probe = LogisticRegression(C=PROBE_C, max_iter=2000).fit(embeddings, split.labels)
    weight, bias = probe.coef_, probe.intercept_
    if len(probe.classes_) == 2:  # scikit-learn stores only one row for two classes: second against first
        weight, bias = np.vstack([0 * weight, weight]), np.append(0 * bias, bias)
    return weight, bias


def fit_kernel_head(
    embeddings: np.ndarray, split: Split, classes: int, gamma: float, ridge: float, seed: int
) -> tuple[KernelHead, float]:
    """Fit kernel ridge regression of the labels on (n, hidden) unit-length embeddings. Returns (head, logit scale).

    The scale turns the outputs of the head into logits. It minimises the cross-entropy of the leave-one-out
    predictions, which ridge regression gives in closed form, in O(n²) time per text.
    """
    rng = np.random.default_rng(seed)
    labels = np.array(split.labels)
    if len(labels) > MAX_LANDMARKS:
        rows = np.sort(rng.choice(len(labels), MAX_LANDMARKS, replace=False))
        embeddings, labels = embeddings[rows], labels[rows]
    landmarks = embeddings.astype(np.float16).astype(np.float32)
    kernel = landmarks @ landmarks.T
    kernel -= 1
    kernel *= 2 * gamma
    np.exp(kernel, out=kernel)
    kernel[np.diag_indices_from(kernel)] += ridge
    # The transpose of the symmetric matrix is the same in column order, which LAPACK can overwrite in place.
    factor = cho_factor(kernel.T, lower=True, overwrite_a=True, check_finite=False)
    targets = np.eye(classes, dtype=np.float32)[labels]
    bias = targets.mean(axis=0)
    weight = cho_solve(factor, targets - bias, check_finite=False)
    rows = rng.permutation(len(labels))[:LEAVE_ONE_OUT_TEXTS]
    units = np.zeros((len(labels), len(rows)), dtype=np.float32)
    units[rows, np.arange(len(rows))] = 1
    inverse_diagonal = cho_solve(factor, units, check_finite=False)[rows, np.arange(len(rows))]
    left_out = torch.from_numpy(targets[rows] - weight[rows] / inverse_diagonal[:, None])
    answers = torch.from_numpy(labels[rows])
    scale = minimize_scalar(
        lambda scale: functional.cross_entropy(scale * left_out, answers).item(), bounds=(1, 100), method="bounded"
    ).x
    head = KernelHead(torch.from_numpy(landmarks), torch.from_numpy(weight.T.copy()), torch.from_numpy(bias), gamma)
    return head, float(scale)
