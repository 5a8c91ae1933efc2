"""Parts of a transformer block whose last weights are zero, so that with a skip they start as an
identity."""

from __future__ import annotations

from kinase.morphism.draft import Draft
from kinase.morphism.plan import Fill
from kinase.space.nodes import Shape


def attention(draft: Draft, x: str, dim: int, heads: int, size: int) -> str:
    """Layer normalization and an attention with output weights of zero."""
    x = draft.layer_norm(x, dim)
    attrs = {"dim": dim, "heads": heads, "head_dim": size}
    name = draft.add("attention", "attention", (x,), attrs)
    inner = heads * size
    for part in ("query", "key", "value"):
        draft.drawn(f"{name}.{part}.weight", (inner, dim))
        draft.tensor(f"{name}.{part}.bias", Fill((inner,), 0.0))
    draft.zero(f"{name}.output.weight", (dim, inner))
    draft.zero(f"{name}.output.bias", (dim,))
    return name


def mlp(draft: Draft, x: str, dim: int, hidden: int, activation: str) -> str:
    """Layer normalization, a linear layer, an activation, and a linear layer of zero weights."""
    x = draft.layer_norm(x, dim)
    x = draft.linear("hidden", x, dim, hidden)
    x = draft.add(activation, activation, (x,))
    name = draft.linear("linear", x, hidden, dim)
    draft.zero(f"{name}.weight", (dim, hidden))
    return name


def attention_block(draft: Draft, x: str, shape: Shape, heads: int, size: int) -> str:
    """x + attention(x), with shape (tokens, features)."""
    return draft.add("add", "add", (x, attention(draft, x, shape[-1], heads, size)))


def mlp_block(draft: Draft, x: str, dim: int, hidden: int, activation: str) -> str:
    """x + mlp(x)."""
    return draft.add("add", "add", (x, mlp(draft, x, dim, hidden, activation)))
