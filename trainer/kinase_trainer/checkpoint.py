"""Checkpoints of a trial, in the store. Tensors are safetensors, the rest JSON.

A checkpoint is one object: a SHA-256 of what follows, the length of a JSON head, the head with
the scalars, the tensors. A put is atomic, so there is no half-written one and no need of a manifest
beside it; a damaged one is found by its digest and passed over.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from kinase.api.trial import Point
from kinase.store import NotFound, Store

CHECKPOINT = "checkpoint/last"
"""Below a trial's prefix."""


@dataclass
class Saved:
    """What a checkpoint holds."""

    epoch: int
    """Epochs done."""
    tensors: dict[str, Tensor]
    curve: list[Point] = field(default_factory=list)
    scalars: dict[str, Any] = field(default_factory=dict)


def save(store: Store, prefix: str, saved: Saved) -> None:
    """Replace the checkpoint."""
    body = save_tensors({name: t.detach().contiguous() for name, t in saved.tensors.items()})
    head = json.dumps(
        {
            "epoch": saved.epoch,
            "curve": [point.model_dump(by_alias=True) for point in saved.curve],
            "scalars": saved.scalars,
        }
    ).encode()
    data = len(head).to_bytes(8, "little") + head + body
    store.put(f"{prefix}/{CHECKPOINT}", hashlib.sha256(data).digest() + data)


def restore(store: Store, prefix: str) -> tuple[Saved | None, str]:
    """The checkpoint, or None with the reason if there is one that cannot be used."""
    try:
        raw = store.get(f"{prefix}/{CHECKPOINT}")
    except NotFound:
        return None, ""
    try:
        digest, data = raw[:32], raw[32:]
        if hashlib.sha256(data).digest() != digest:
            raise ValueError("its checksum is wrong")
        size = int.from_bytes(data[:8], "little")
        head = json.loads(data[8 : 8 + size])
        saved = Saved(
            epoch=int(head["epoch"]),
            tensors=load_tensors(data[8 + size :]),
            curve=[Point.model_validate(point) for point in head["curve"]],
            scalars=dict(head["scalars"]),
        )
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        return None, f"the checkpoint was not used ({error}); training began anew"
    return saved, ""


def pack(model: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], Any]:
    """Tensors and scalars of a model and its optimiser."""
    tensors = {f"model.{name}": t for name, t in model.state_dict().items()}
    state = optimiser.state_dict()
    scalars: dict[str, Any] = {}
    for index, slots in state["state"].items():
        for name, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{index}.{name}"] = value
            elif value is not None:
                scalars[f"{index}.{name}"] = value
    return tensors, scalars


def unpack(model: nn.Module, optimiser: torch.optim.Optimizer, saved: Saved) -> None:
    """Put a checkpoint back.

    Raises:
        ValueError: it is of another network; then nothing was changed.
    """
    weights = {
        name.removeprefix("model."): tensor
        for name, tensor in saved.tensors.items()
        if name.startswith("model.")
    }
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if {name: tensor.shape for name, tensor in weights.items()} != wanted:
        raise ValueError("it is of another network")
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in saved.tensors.items():
        if name.startswith("optimiser."):
            _, index, slot = name.split(".", 2)
            state.setdefault(int(index), {})[slot] = tensor.clone()
    for name, value in saved.scalars.get("optimiser", {}).items():
        index, slot = name.split(".", 1)
        state.setdefault(int(index), {})[slot] = value
    model.load_state_dict(weights)
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
