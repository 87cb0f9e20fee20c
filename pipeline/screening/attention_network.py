"""The network behind attention over the elements of a formula: tokens in, one number a formula out.

A formula is a set of tokens, one for each element with its share of the atoms. Formulas of the same number of elements
go through the attention together, so that nothing is padded; all else sees the tokens of a batch as one matrix.

Suffixes: N formulas, K elements of each formula of a group, T tokens of a batch, W width, H heads, F features,
V vocabulary, P properties, R numbers that encode a fraction.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

WAVES = 6  # of the fraction's encoding: sines and cosines of 1, 2, 4... half turns
HEAD_BLOCKS = 3


@dataclass(frozen=True)
class Batch:
    """Formulas sorted by number of elements, as tensors.

    Attributes:
        sizes: (formulas N, elements K) of each group, in order.
        elements_T: Places in the vocabulary.
        fractions_T: Shares of the atoms.
        features_NF: Standardised features; F may be 0.
    """

    sizes: list[tuple[int, int]]
    elements_T: torch.Tensor
    fractions_T: torch.Tensor
    features_NF: torch.Tensor


def _encoded(fractions_T: torch.Tensor) -> torch.Tensor:
    """A fraction as numbers on a linear, a logarithmic and several periodic scales, shape (T, R)."""
    turns = fractions_T[:, None] * (math.pi * 2 ** torch.arange(WAVES, device=fractions_T.device))
    return torch.cat([fractions_T[:, None], fractions_T.log()[:, None], turns.sin(), turns.cos()], dim=1)


def _normalised(hidden: torch.Tensor) -> torch.Tensor:
    """Each row with mean 0 and variance 1; the layer that follows learns scale and shift.

    (What torch's LayerNorm learns has gradients whose last bits depend on the number of threads.)
    """
    return functional.layer_norm(hidden, hidden.shape[1:])


class _Residual(nn.Module):
    """A network of one hidden layer, which adds to what comes in; nothing at first."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        nn.init.zeros_(self.narrow.weight)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows + self.narrow(self.widen(_normalised(rows)).relu())


class Layer(nn.Module):
    """Attention between the elements of a formula, then a network on each; both added to what came in."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.merge = nn.Linear(width, width)
        self.network = _Residual(width, 2 * width)
        self.power_H = nn.Parameter(torch.ones(heads))
        nn.init.zeros_(self.merge.weight)

    def forward(self, tokens_TW: torch.Tensor, logs_T: torch.Tensor, sizes: list[tuple[int, int]]) -> torch.Tensor:
        width = tokens_TW.shape[1]
        together = self.queries_keys_values(_normalised(tokens_TW))
        attended, lengths = [], [n * k for n, k in sizes]
        for (n, k), part, logs in zip(sizes, together.split(lengths), logs_T.split(lengths), strict=True):
            query, key, value = part.view(n, k, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
            bias_NHKK = (logs.view(n, 1, 1, k) * self.power_H[:, None, None]).expand(n, self.heads, k, k)
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias_NHKK)
            attended.append(mixed.transpose(1, 2).reshape(n * k, width))
        return self.network(tokens_TW + self.merge(torch.cat(attended)))


class Network(nn.Module):
    """From a batch to one number a formula.

    Args:
        width: Numbers of a token; the last network is twice as wide.
        layers: Attention layers.
        heads: Heads of each attention.
        properties_VP: Standardised element properties.
        n_features: F, may be 0.
    """

    def __init__(self, width: int, layers: int, heads: int, properties_VP: torch.Tensor, n_features: int):
        super().__init__()
        head = 2 * width
        self.register_buffer("properties_VP", properties_VP)
        self.own_VW = nn.Parameter(torch.randn(len(properties_VP), width) * 0.3)
        self.project = nn.Linear(properties_VP.shape[1], width)
        self.fraction = nn.Linear(2 + 2 * WAVES, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.score = nn.Linear(width, heads)
        self.power_H = nn.Parameter(torch.ones(heads))
        self.value = nn.Linear(width, head)
        self.features = nn.Linear(n_features, head, bias=False) if n_features else None
        self.blocks = nn.ModuleList(_Residual(head, width) for _ in range(HEAD_BLOCKS))
        self.out = nn.Linear(head, 1)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Value (standardised) or logit, shape (N,)."""
        table_VW = self.own_VW + self.project(self.properties_VP)
        logs_T = batch.fractions_T.log()
        tokens_TW = functional.embedding(batch.elements_T, table_VW) + self.fraction(_encoded(batch.fractions_T))
        for layer in self.layers:
            tokens_TW = layer(tokens_TW, logs_T, batch.sizes)
        tokens_TW = _normalised(tokens_TW)
        scores_TH = self.score(tokens_TW) + logs_T[:, None] * self.power_H
        lengths, pooled = [n * k for n, k in batch.sizes], []
        for (n, k), scores, values in zip(
            batch.sizes, scores_TH.split(lengths), self.value(tokens_TW).split(lengths), strict=True
        ):
            weights_NHK = scores.view(n, k, -1).softmax(dim=1).transpose(1, 2)
            heads = weights_NHK.shape[1]
            values_NHKW = values.view(n, k, heads, -1).transpose(1, 2)
            pooled.append((weights_NHK[..., None] * values_NHKW).sum(dim=2).reshape(n, -1))
        hidden = torch.cat(pooled)
        if self.features is not None:
            hidden = hidden + self.features(batch.features_NF)
        for block in self.blocks:
            hidden = block(hidden)
        return self.out(_normalised(hidden))[:, 0]
