"""An optimizer's state by parameter name, because the optimizer's order is only valid for one
network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

Slots = dict[str, dict[str, Tensor]]
"""Parameter -> slot -> tensor. A step count is a scalar tensor."""


def read_slots(model: nn.Module, optimizer: torch.optim.Optimizer) -> Slots:
    """The optimizer's slots by the names of the model's parameters."""
    return {
        name: {
            slot: value.detach().clone()
            if isinstance(value, Tensor)
            else torch.tensor(float(value))
            for slot, value in optimizer.state[parameter].items()
            if value is not None
        }
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
    }


def write_slots(model: nn.Module, optimizer: torch.optim.Optimizer, slots: Slots) -> None:
    """Load slots into an optimizer. If only some parameters have slots, the others get zeros, as
    before their first step.

    Raises:
        ValueError: the shapes of a slot and its parameter differ.
    """
    kinds = {slot: value for each in slots.values() for slot, value in each.items()}
    names = {parameter: name for name, parameter in model.named_parameters()}
    state: dict[int, dict[str, Any]] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, parameter in enumerate(parameters if kinds else ()):
        own = slots.get(names[parameter], {})
        for slot, value in own.items():
            if value.ndim and value.shape != parameter.shape:
                raise ValueError(
                    f"{names[parameter]}: its {slot} has shape {tuple(value.shape)}, the "
                    f"parameter has {tuple(parameter.shape)}"
                )
        state[index] = {
            slot: own[slot].detach().clone()
            if slot in own
            else torch.zeros_like(parameter if example.ndim else example)
            for slot, example in kinds.items()
        }
    # torch's loading moves to the parameters' device what belongs there
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
