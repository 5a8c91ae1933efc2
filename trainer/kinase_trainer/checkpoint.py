"""Checkpoints of a trial in the store. Tensors are safetensors, the rest is JSON.

A large checkpoint is copied, and written while the next epoch is trained.

A checkpoint is one object: a SHA-256 of what follows, the length of a JSON head, the head with the
scalars, the tensors. A put is atomic, so there are no half-written checkpoints, and no separate
manifest is needed. A damaged checkpoint is detected by its digest and ignored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from kinase.api.trial import Point
from kinase.store import NotFound, Store, StoreError

CHECKPOINT = "checkpoint/last"
"""Key below a trial's prefix."""
SMALL = 1 << 18
"""Checkpoints up to this size in bytes are written synchronously: this takes hardly longer than an
empty request, and a killed epoch then always has the checkpoint of the previous one."""


@dataclass
class Saved:
    """Contents of a checkpoint."""

    epoch: int
    """Epochs done."""
    tensors: dict[str, Tensor]
    curve: list[Point] = field(default_factory=list)
    scalars: dict[str, Any] = field(default_factory=dict)


class Uploads:
    """Replaces a trial's checkpoint, one at a time and in order: a large one in a thread.

        with Uploads(store, prefix, kept) as uploads:
            uploads.add(saved)  # returns when it is copied

    At the end it waits for the last upload. An error is raised when the next checkpoint is added,
    or at the end.
    """

    def __init__(self, store: Store, prefix: str, kept: Callable[[int], None]) -> None:
        """`kept` is called with the number of epochs in the checkpoint, in the thread that wrote
        it."""
        self._store, self._key, self._kept = store, f"{prefix}/{CHECKPOINT}", kept
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._last: Future[None] | None = None

    def add(self, saved: Saved) -> None:
        """Wait for the previous upload, and write this checkpoint or hand it to the thread."""
        self.wait()
        head, body = _copied(saved)
        if len(body) <= SMALL:
            self._put(head, body, saved.epoch)
        else:
            self._last = self._thread.submit(self._put, head, body, saved.epoch)

    def _put(self, head: bytes, body: bytes, epoch: int) -> None:
        self._store.put(self._key, _joined(head, body))
        self._kept(epoch)

    def wait(self) -> None:
        """Wait for the current upload.

        Raises:
            StoreError: the checkpoint could not be written.
        """
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            with suppress(*(() if error is None else (StoreError,))):
                self.wait()
        finally:
            self._thread.shutdown()


def _copied(saved: Saved) -> tuple[bytes, bytes]:
    """The head and copies of the tensors."""
    head = json.dumps(
        {
            "epoch": saved.epoch,
            "curve": [point.model_dump(by_alias=True) for point in saved.curve],
            "scalars": saved.scalars,
        }
    ).encode()
    return head, save_tensors({name: t.detach().contiguous() for name, t in saved.tensors.items()})


def _joined(head: bytes, body: bytes) -> bytes:
    parts = [len(head).to_bytes(8, "little"), head, body]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return b"".join([digest.digest(), *parts])


def encode(saved: Saved) -> bytes:
    """A checkpoint as it is written."""
    return _joined(*_copied(saved))


def decode(raw: bytes) -> Saved:
    """What `encode` wrote.

    Raises:
        ValueError, KeyError, TypeError, SafetensorError: it is damaged.
    """
    digest, data = raw[:32], raw[32:]
    if hashlib.sha256(data).digest() != digest:
        raise ValueError("its checksum is wrong")
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])
    return Saved(
        epoch=int(head["epoch"]),
        tensors=load_tensors(data[8 + size :]),
        curve=[Point.model_validate(point) for point in head["curve"]],
        scalars=dict(head["scalars"]),
    )


def restore(store: Store, prefix: str) -> tuple[Saved | None, str]:
    """The checkpoint, or None and why it cannot be used; an empty text if there is none."""
    try:
        raw = store.get(f"{prefix}/{CHECKPOINT}")
    except NotFound:
        return None, ""
    try:
        return decode(raw), ""
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        return None, str(error)


def pack(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], Any]:
    """Tensors and scalars of a model and its optimizer."""
    tensors = {f"model.{name}": t for name, t in model.state_dict().items()}
    state = optimizer.state_dict()
    scalars: dict[str, Any] = {}
    for index, slots in state["state"].items():
        for name, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{index}.{name}"] = value
            elif value is not None:
                scalars[f"{index}.{name}"] = value
    return tensors, scalars


def unpack(model: nn.Module, optimizer: torch.optim.Optimizer, saved: Saved) -> None:
    """Restore a checkpoint.

    Raises:
        ValueError: it is of another network; nothing was changed.
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
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
