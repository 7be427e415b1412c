"""Where the linear head starts: from what the frozen base already knows, so that training begins nearly right."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional

from bankllm.datasets import Split

PROBE_C = 30.0
"""Inverse regularisation: on 1,998 validation texts of Banking77, 10, 30 and 100 gave 92.3, 92.4 and 91.7 %."""


def start_from_class_means(head: nn.Linear, embeddings: np.ndarray, split: Split) -> None:
    """Each row of the head becomes its class's mean embedding, at unit length: a nearest-centroid classifier."""
    vectors, labels = torch.from_numpy(embeddings), torch.tensor(split.labels)
    sums = torch.zeros(head.weight.shape).index_add_(0, labels, vectors)
    with torch.no_grad():
        head.weight.copy_(functional.normalize(sums, dim=-1))
        head.bias.zero_()


def start_from_probe(head: nn.Linear, embeddings: np.ndarray, split: Split, logit_scale: float, seed: int) -> None:
    """Multinomial logistic regression on the embeddings, copied into the head."""
    probe = LogisticRegression(C=PROBE_C, max_iter=2000, random_state=seed).fit(embeddings, split.labels)
    weight, bias = probe.coef_, probe.intercept_
    if len(probe.classes_) == 2:  # then scikit-learn keeps one row, the second class against the first
        weight, bias = np.vstack([0 * weight, weight]), np.append(0 * bias, bias)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight / logit_scale))
        head.bias.copy_(torch.from_numpy(bias))
