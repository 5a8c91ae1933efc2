"""Inheritance without morphisms: copy every tensor whose name and shape match (Real et al. 2017,
section 3.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kinase_trainer.errors import CorruptModel


@dataclass(frozen=True)
class Matched:
    """What a network has inherited from another."""

    names: tuple[str, ...]
    """Number of inherited tensors."""
    share: float
    """Share of the child's parameters."""


def inherit_matching(state: Mapping[str, Tensor], child: nn.Module) -> Matched:
    """Copy tensors from another network's state to a network if name and shape match; the others do
    not change.

    Raises:
        CorruptModel: a matching tensor is not finite; nothing was changed.
    """
    own = child.state_dict()
    names = tuple(n for n, t in own.items() if n in state and state[n].shape == t.shape)
    for name in names:
        if not bool(torch.isfinite(state[name]).all()):
            raise CorruptModel(f"the parent's {name} holds a value that is not finite")
    with torch.no_grad():
        for name in names:
            own[name].copy_(state[name])
    sizes = {name: parameter.numel() for name, parameter in child.named_parameters()}
    inherited = sum(sizes.get(name, 0) for name in names)
    return Matched(names, inherited / max(1, sum(sizes.values())))
