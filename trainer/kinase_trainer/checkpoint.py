"""Checkpoints and the ledger of a trial, in the store. Tensors are safetensors, the rest JSON.

A checkpoint is one object: the tensors with a JSON head that holds the scalars and a SHA-256 of
the tensors. A put is atomic, so there is no half-written one; a damaged one is found by its
digest and passed over.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from kinase.api._base import Model
from kinase.api.trial import Point
from kinase.store import NotFound, Store

log = logging.getLogger(__name__)


class Ledger(Model):
    """`progress.json`: what all attempts of a trial have spent, written before an epoch begins
    and after it has ended, so that a controller can charge what a killed attempt burnt."""

    attempt: int = 0
    """The attempt that wrote this."""
    epochs_begun: int = 0
    """Epochs begun, those of lost attempts included."""
    epochs_done: int = 0
    """Epochs that the checkpoint holds."""
    samples: int = 0
    """Sample passes."""
    device_seconds: float = 0.0
    """Seconds of the device, those of validation included."""
    metrics: dict[str, float] = {}
    """Metrics after the last epoch done."""


@dataclass
class Saved:
    """What a checkpoint holds."""

    epoch: int
    """Epochs done."""
    tensors: dict[str, Tensor]
    curve: list[Point] = field(default_factory=list)
    scalars: dict[str, Any] = field(default_factory=dict)


def read_ledger(store: Store, prefix: str) -> Ledger:
    """What was spent so far; nothing if there is no valid word of it."""
    try:
        return Ledger.model_validate_json(store.get(f"{prefix}/progress.json"))
    except (NotFound, ValidationError):
        return Ledger()


def write_ledger(store: Store, prefix: str, ledger: Ledger) -> None:
    """Replace the ledger."""
    store.put(f"{prefix}/progress.json", ledger.model_dump_json(by_alias=True).encode())


def save(store: Store, prefix: str, saved: Saved) -> None:
    """Replace the checkpoint."""
    body = save_tensors({name: t.detach().contiguous() for name, t in saved.tensors.items()})
    head = json.dumps(
        {
            "epoch": saved.epoch,
            "curve": [point.model_dump(by_alias=True) for point in saved.curve],
            "scalars": saved.scalars,
            "sha256": hashlib.sha256(body).hexdigest(),
        }
    ).encode()
    store.put(f"{prefix}/checkpoint/last", len(head).to_bytes(8, "little") + head + body)


def restore(store: Store, prefix: str) -> tuple[Saved | None, str]:
    """The checkpoint, or None with the reason if there is one that cannot be used."""
    try:
        raw = store.get(f"{prefix}/checkpoint/last")
    except NotFound:
        return None, ""
    try:
        size = int.from_bytes(raw[:8], "little")
        head = json.loads(raw[8 : 8 + size])
        body = raw[8 + size :]
        if hashlib.sha256(body).hexdigest() != head["sha256"]:
            raise ValueError("its checksum is wrong")
        saved = Saved(
            epoch=int(head["epoch"]),
            tensors=load_tensors(body),
            curve=[Point.model_validate(point) for point in head["curve"]],
            scalars=dict(head["scalars"]),
        )
    except (ValueError, KeyError, TypeError, SafetensorError, OverflowError) as error:
        return None, f"the checkpoint was damaged ({error}); training began anew"
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
        ValueError: it is of another network or optimiser.
    """
    weights = {
        name.removeprefix("model."): tensor
        for name, tensor in saved.tensors.items()
        if name.startswith("model.")
    }
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the checkpoint is of another network: {error}") from error
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in saved.tensors.items():
        if name.startswith("optimiser."):
            _, index, slot = name.split(".", 2)
            state.setdefault(int(index), {})[slot] = tensor.clone()
    for name, value in saved.scalars.get("optimiser", {}).items():
        index, slot = name.split(".", 1)
        state.setdefault(int(index), {})[slot] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
