"""What an optimiser keeps of each parameter, by the parameter's name: its own order is that of one
network and means nothing in another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

Slots = dict[str, dict[str, Tensor]]
"""Parameter -> slot -> tensor; a count of steps is a tensor without axes."""


def read_slots(model: nn.Module, optimiser: torch.optim.Optimizer) -> Slots:
    """The optimiser's slots by the names of the model's parameters."""
    return {
        name: {
            slot: value.detach().clone()
            if isinstance(value, Tensor)
            else torch.tensor(float(value))
            for slot, value in optimiser.state[parameter].items()
            if value is not None
        }
        for name, parameter in model.named_parameters()
        if parameter in optimiser.state
    }


def write_slots(model: nn.Module, optimiser: torch.optim.Optimizer, slots: Slots) -> None:
    """Give an optimiser these slots. A parameter without any gets zeros if others have some: it
    then moves as one that was never stepped.

    Raises:
        ValueError: a slot has another shape than its parameter.
    """
    kinds = {slot: value for each in slots.values() for slot, value in each.items()}
    names = {parameter: name for name, parameter in model.named_parameters()}
    state: dict[int, dict[str, Any]] = {}
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
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
    # torch's own loading knows what belongs on the parameters' device and what does not
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
