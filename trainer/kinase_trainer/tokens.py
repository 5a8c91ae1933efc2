"""Operations on sequences of tokens (Dosovitskiy et al. 2021, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Tokens(nn.Module):
    """The pixels of a map as a sequence, row by row."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, H·W, C)."""
        return x.flatten(2).transpose(1, 2)


class ClassToken(nn.Module):
    """A learned token before the others."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (N, T + 1, D)."""
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)


class Position(nn.Module):
    """A learned embedding added to each token."""

    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(1, tokens, dim).normal_(std=0.02))

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (N, T, D)."""
        return x + self.embedding


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2). Queries, keys and values are
    separate layers, so that a head is some rows of each and some columns of the output."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads, self.head_dim = heads, head_dim
        self.query = nn.Linear(dim, inner)
        self.key = nn.Linear(dim, inner)
        self.value = nn.Linear(dim, inner)
        self.output = nn.Linear(inner, dim)

    def reset(self) -> None:
        """Draw the weights again (Glorot & Bengio 2010)."""
        for layer in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (N, T, D)."""
        split = (*x.shape[:2], self.heads, self.head_dim)
        query, key, value = (
            layer(x).view(split).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.output(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Select(nn.Module):
    """One token of the sequence."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (N, D)."""
        return x[:, self.index]
