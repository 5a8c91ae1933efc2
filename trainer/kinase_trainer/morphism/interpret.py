"""Execute the recipes of a plan on torch tensors, on any device and in any precision.

Random numbers are drawn by NumPy on the CPU, so a child is the same on every device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinase.morphism.factoring import factor
from kinase.morphism.numbers import rectified, separate
from kinase.morphism.plan import (
    Base,
    Factor,
    Fill,
    Identity,
    Ints,
    Moments,
    Noise,
    Normal,
    Pairs,
    Parent,
    Put,
    Reals,
    Recipe,
    Scale,
    Separable,
    Step,
    Take,
    normal,
)

SQUARES = ("exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum")
"""Slots with squares of gradients, which scale with the square."""


@dataclass(frozen=True)
class Like:
    """Device and precision of new tensors."""

    device: torch.device
    dtype: torch.dtype

    def reals(self, values: Reals) -> Tensor:
        """Numbers as a new tensor."""
        return torch.tensor(np.ascontiguousarray(values), dtype=self.dtype, device=self.device)

    def index(self, values: Ints) -> Tensor:
        """Indices as a tensor."""
        return torch.from_numpy(np.asarray(values, np.int64)).to(self.device)


def make(recipe: Recipe, parent: Mapping[str, Tensor], like: Like) -> Tensor:
    """A tensor of the child, made from those of the parent, without shared memory."""
    tensor = _begin(recipe.base, parent, like)
    own = not isinstance(recipe.base, Parent)
    for step in recipe.steps:
        if isinstance(step, Noise | Put) and not own:
            tensor, own = tensor.clone(), True
        tensor = _do(step, tensor, like)
        own = own or isinstance(step, Take | Pairs)
    return tensor if own else tensor.clone()


def make_slot(recipe: Recipe, slot: Tensor | None, name: str) -> Tensor | None:
    """The optimizer's state of a tensor, gathered like the tensor and scaled like its gradients;
    None if the tensor is new.

    Args:
        recipe: recipe of the tensor.
        slot: slot of the parent's tensor from which the recipe starts.
        name: name of the slot.
    """
    if slot is None or not isinstance(recipe.base, Parent):
        return None
    like = Like(slot.device, slot.dtype)
    power = 2 if name in SQUARES else 1
    for step in recipe.steps:
        match step:
            case Scale(axis, _, slots):
                slot = _scale(slot, axis, slots**power, like)
            case Pairs(rows, columns, _, slots):
                slot = _do(Pairs(rows, columns, slots**power, slots), slot, like)
            case Take():
                slot = _do(step, slot, like)
    return slot.clone()


def numpy_of(tensor: Tensor) -> Reals:
    """The numbers in double precision, on the CPU."""
    values: Reals = tensor.detach().to("cpu", torch.float64).numpy()
    return values


def _begin(base: Base, parent: Mapping[str, Tensor], like: Like) -> Tensor:
    match base:
        case Parent(name):
            return parent[name].detach()
        case Fill(shape, value, whole):
            dtype = torch.int64 if whole else like.dtype
            return torch.full(shape, value, dtype=dtype, device=like.device)
        case Identity(shape):
            return _identity(shape, like)
        case Normal(shape, std, seed):
            return like.reals(std * normal(shape, seed))
        case Moments():
            return like.reals(_moments(base, parent))
        case Factor(name=name):
            return like.reals(factor(base, numpy_of(parent[name])))
        case Separable():
            depthwise, pointwise = separate(numpy_of(parent[base.name]))
            return like.reals(depthwise if base.part == "depthwise" else pointwise)


def _identity(shape: tuple[int, ...], like: Like) -> Tensor:
    """1 for output o and its input (the same channel, or within a group), at the middle tap."""
    tensor = torch.zeros(shape, dtype=like.dtype, device=like.device)
    rows = torch.arange(shape[0], device=like.device)
    columns = rows % shape[1]
    if len(shape) == 2:
        tensor[rows, columns] = 1.0
    else:
        tensor[rows, columns, shape[2] // 2, shape[3] // 2] = 1.0
    return tensor


def _moments(base: Moments, parent: Mapping[str, Tensor]) -> Reals:
    scale = np.ones(base.channels) if base.scale is None else numpy_of(parent[base.scale])
    mean = np.zeros(base.channels) if base.shift is None else numpy_of(parent[base.shift])
    variance = scale**2
    if base.rectified:
        mean, variance = rectified(mean, scale)
    match base.part:
        case "mean":
            return mean
        case "var":
            return variance
        case _:
            deviation: Reals = np.sqrt(variance + base.eps)
            return deviation


def _do(step: Step, tensor: Tensor, like: Like) -> Tensor:
    match step:
        case Take(axis, indices):
            taken = tensor.index_select(axis, like.index(np.maximum(indices, 0)))
            empty = np.flatnonzero(indices < 0)
            return taken.index_fill_(axis, like.index(empty), 0.0) if len(empty) else taken
        case Scale(axis, factors):
            return _scale(tensor, axis, factors, like)
        case Pairs(rows, columns, factors):
            taken = tensor[like.index(rows)[:, None], like.index(columns)]
            return taken * like.reals(factors).view(*factors.shape, *[1] * (tensor.ndim - 2))
        case Put(axis, at, value):
            return tensor.index_fill_(axis, like.index(at), value)
        case Noise():
            return _add_noise(step, tensor, like)


def _scale(tensor: Tensor, axis: int, factors: Reals, like: Like) -> Tensor:
    if (factors == 1).all():
        return tensor
    shape = [1] * tensor.ndim
    shape[axis] = len(factors)
    return tensor * like.reals(factors).view(shape)


def _add_noise(step: Noise, tensor: Tensor, like: Like) -> Tensor:
    std = step.std * (float(np.std(numpy_of(tensor))) if step.relative else 1.0)
    shape = list(tensor.shape)
    if step.axis is None or step.at is None:
        return tensor.add_(like.reals(std * normal(tuple(shape), step.seed)))
    shape[step.axis] = len(step.at)
    draws = like.reals(std * normal(tuple(shape), step.seed))
    return tensor.index_add_(step.axis, like.index(step.at), draws)
