"""Pack a batch as a tree of tokens: a beginning that rows share, such as the instruction, is computed once.

A model without dropout gives a token the same hidden state in every row that begins alike, so loss and gradients are
those of the padded batch. No padding passes through the linear layers: on SmolLM2 with TellerChat's examples and
batches of 16, they see 20 % fewer tokens than without sharing, and less than half of those of a padded batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from bankllm.training.language_model.token_rows import TokenRow

ATTENTION = "bankllm_prefix_tree"
"""Name of the attention in `transformers`."""
ROWS = 2
"""Rows of similar length that the attention pads to the longest of them."""


@dataclass(frozen=True, eq=False)
class Tree:
    """A batch with n distinct beginnings."""

    input_ids: Tensor
    """(1, n) int64."""
    position_ids: Tensor
    """(1, n) int64: distance from the row's beginning."""
    nodes: tuple[Tensor, ...]
    """For each group of rows, (rows, length) int64: position in the tree of each token; 0 where a row has ended."""
    first: Tensor
    """(n,) int64: for each position of the tree, one of its places in the flat and joined `nodes`."""
    before: Tensor
    """(completion tokens,) int64: position in the tree of the token before each one."""
    labels: Tensor
    """(completion tokens,) int64."""
    tokens: int
    """Tokens of the rows."""

    def to(self, device: torch.device) -> Self:
        moved: dict[str, Any] = {n: value.to(device) for n, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, nodes=tuple(node.to(device) for node in self.nodes), **moved)


def pack(rows: Sequence[TokenRow]) -> Tree:
    tree: dict[tuple[int, int], int] = {}  # (position of the parent, token) → position
    nodes: list[Tensor] = []
    places, first, before, labels = [], [], [], []
    ordered, offset = sorted(rows, key=lambda row: row.length), 0
    for group in (ordered[start : start + ROWS] for start in range(0, len(ordered), ROWS)):
        node = torch.zeros(len(group), group[-1].length, dtype=torch.int64)
        for number, row in enumerate(group):
            parent, path = -1, []
            for place, token in enumerate((*row.prompt, *row.completion)):
                if (parent, token) not in tree:
                    tree[parent, token] = len(tree)
                    places.append(place)
                    first.append(offset + number * node.shape[1] + place)
                if place >= len(row.prompt):
                    before.append(parent)
                    labels.append(token)
                parent = tree[parent, token]
                path.append(parent)
            node[number, : row.length] = torch.tensor(path)
        nodes.append(node)
        offset += node.numel()
    return Tree(
        torch.tensor([[token for _, token in tree]]),
        torch.tensor([places]),
        tuple(nodes),
        torch.tensor(first),
        torch.tensor(before),
        torch.tensor(labels),
        sum(row.length for row in rows),
    )


@contextmanager
def used_in(model: Any) -> Iterator[None]:
    """Inside the block, a model of `transformers` reads trees, see `states_before`."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(ATTENTION, _attention)
    AttentionMaskInterface.register(ATTENTION, _no_mask)
    before, model.config._attn_implementation = model.config._attn_implementation, ATTENTION
    try:
        yield
    finally:
        model.config._attn_implementation = before


def states_before(model: Any, tree: Tree) -> Tensor:
    """The last hidden state, (completion tokens, hidden), before each token of the rows' completions."""
    output = model.get_decoder()(input_ids=tree.input_ids, position_ids=tree.position_ids, layout=tree, use_cache=False)
    states: Tensor = output.last_hidden_state[0][tree.before]
    return states


def _no_mask(*args: object, **kwargs: object) -> None:
    """Rows end on the right, so no token of a row sees the padding."""


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: None, *, layout: Tree, scaling: float, **kwargs: Any
) -> tuple[Tensor, None]:
    """Causal attention within each row. `query`, `key` and `value` are (1, heads, n, width)."""
    tokens = [tensor[0].transpose(0, 1).flatten(1) for tensor in (query, key, value)]
    outputs = []
    for node in layout.nodes:
        q, k, v = (
            tensor.index_select(0, node.flatten()).view(*node.shape, -1, query.shape[-1]).transpose(1, 2)
            for tensor in tokens
        )
        shared = query.shape[1] != key.shape[1]  # several heads share keys and values
        output = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=shared)
        outputs.append(output.transpose(1, 2).flatten(0, 1).flatten(1))
    return torch.cat(outputs).index_select(0, layout.first).view(1, -1, *query.shape[1::2]), None
