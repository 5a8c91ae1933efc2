"""Training and scoring.

All random numbers in an epoch come from generators seeded by the trial's seed and the epoch's
number, so no random state has to be stored to resume.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from kinase.api.inheritance import Inherited
from kinase.api.task import Training
from kinase.api.trial import Point
from kinase.words import counted
from kinase_trainer import checkpoint
from kinase_trainer.data import Part, batches, plain_batches, plain_size, sizes_of
from kinase_trainer.epochs import Diverged
from kinase_trainer.errors import ConfigError
from kinase_trainer.group import ALONE, Group
from kinase_trainer.morphism import Distillation
from kinase_trainer.network import Network
from kinase_trainer.tasks import LearningTask, Meter


def pick_device(name: str, slot: int = 0) -> torch.device:
    """The device that a manifest selects. With several GPUs, it is chosen by the slot.

    Raises:
        ConfigError: this machine does not have the device.
    """
    if name == "auto":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    if name == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError(
                "training.device is 'cuda', but torch finds no CUDA device here; use cpu or auto"
            )
        return torch.device("cuda", slot % torch.cuda.device_count())
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(
            "training.device is 'mps', but this machine has no Apple GPU; use cpu or auto"
        )
    return torch.device(name)


def seed_of(seed: int, *labels: int) -> int:
    """A seed for one purpose, such as an epoch's order."""
    return int(np.random.SeedSequence([seed, *labels]).generate_state(1, np.uint64)[0] >> 1)


def _weights(model: nn.Module) -> set[int]:
    """The ids of the parameters that are weights of layers: matrices and filters, but not biases,
    normalization, class tokens, position embeddings and scales."""
    layers = (nn.Conv2d, nn.Linear, nn.MultiheadAttention)
    return {
        id(p)
        for module in model.modules()
        if isinstance(module, layers)
        for p in module.parameters(recurse=False)
        if p.ndim > 1
    }


def make_optimizer(
    model: nn.Module, training: Training, *, paths: bool = False
) -> torch.optim.Optimizer:
    """The manifest's optimizer, with weight decay for the parameters that the manifest selects.

    Args:
        model: the network.
        training: `spec.training`.
        paths: whether a step has gradients for some of the parameters only, as in a supernet. Then
            the others do not move.
    """
    weights = None if training.optimizer.member.decay == "all" else _weights(model)
    decayed = [p for p in model.parameters() if weights is None or id(p) in weights]
    exempt = [p for p in model.parameters() if weights is not None and id(p) not in weights]
    o = training.optimizer.member
    groups = [
        {"params": decayed, "weight_decay": o.weight_decay},
        {"params": exempt, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    # one kernel for all parameters: 8 % of a small network's step on a CPU
    fused = all(p.device.type in ("cpu", "cuda") for p in model.parameters())
    # torch's fused SGD fails where some of the parameters have a momentum and others have none yet
    fused = fused and not paths
    if training.optimizer.type == "AdamW":
        return torch.optim.AdamW(groups, lr=o.learning_rate, betas=o.betas, fused=fused)
    nesterov = o.nesterov and o.momentum > 0
    return torch.optim.SGD(
        groups, lr=o.learning_rate, momentum=o.momentum, nesterov=nesterov, fused=fused
    )


def warmup_of(training: Training, epochs: int) -> float:
    """Epochs of warm-up in a training of `epochs`: the same share as in the full training if it is
    shorter, otherwise the same number."""
    return training.warmup_epochs * min(1.0, epochs / training.epochs)


def learning_rate(training: Training, step: int, steps: int, epochs: int) -> float:
    """Learning rate of a step: a linear rise, whose last step has the manifest's rate, then a half
    cosine to zero (Loshchilov & Hutter 2017, without restarts) or a constant.

    The rise is evaluated at the end of a step, so that the first step has a rate above zero; the
    cosine at its start.

    Args:
        training: `spec.training`.
        step: number of earlier steps in the training.
        steps: steps per epoch.
        epochs: epochs of the training.
    """
    peak: float = training.optimizer.member.learning_rate
    warmup = warmup_of(training, epochs)
    epoch, end = step / steps, (step + 1) / steps
    if end < warmup:
        return peak * end / warmup
    if training.schedule == "constant" or epoch <= warmup:
        return peak
    return peak * 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))


def autocast(training: Training, device: torch.device) -> AbstractContextManager[object]:
    """The number format of the forward pass."""
    precision = training.precision
    if precision == "auto":
        half = device.type == "cuda" and torch.cuda.is_bf16_supported()
        precision = "bfloat16" if half else "float32"
    if precision == "float32":
        return nullcontext()
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float16
    return torch.autocast(device.type, dtype)


LOOKS = {"cpu": 1}
"""Steps between two checks of the loss on a CPU. A check waits for the device, which is free on a
CPU."""
RARE_LOOKS = 50
"""Steps between two checks on any other device."""


@dataclass
class Run:
    """The state of a training."""

    model: Network
    optimizer: torch.optim.Optimizer
    task: LearningTask
    training: Training
    device: torch.device
    train: Part
    validation: Part
    epochs: int
    seed: int
    epoch: int = 0
    """Epochs done."""
    curve: list[Point] = field(default_factory=list)
    scaler: torch.amp.GradScaler | None = None
    inherited: Inherited | None = None
    """What the network began with, if it could inherit."""
    measured: dict[str, float | None] = field(default_factory=dict)
    """Zero-cost proxies of the network as it was drawn; None where one is not finite."""
    goal: Distillation | None = None
    """The teacher of the first epochs: the parent."""
    distil: int = 0
    """So many of them."""
    ended: str = ""
    """Why the training is over before its last epoch."""
    group: Group = ALONE
    """The workers that train this network together."""

    def __post_init__(self) -> None:
        if self.training.precision == "float16":
            self.scaler = torch.amp.GradScaler(self.device.type)

    @property
    def passes(self) -> int:
        """Samples that one epoch passes forward and backward."""
        return len(self.train)

    def train_epoch(self) -> int:
        """Train one epoch, on labels or by distillation; return the number of samples.

        Raises:
            Diverged: the loss is NaN or infinite.
        """
        model, t, epoch = self.model, self.training, self.epoch
        generator = torch.Generator().manual_seed(seed_of(self.seed, 1, epoch))
        own = [self.group.rank] if self.group.rank else []
        torch.manual_seed(seed_of(self.seed, 2, epoch, *own))  # drop-path, dropout
        model.train()
        model.set_drop_path(t.drop_path * epoch / max(1, self.epochs - 1))
        sizes = sizes_of(len(self.train), t.batch_size)
        steps = len(sizes)
        looks = LOOKS.get(self.device.type, RARE_LOOKS)
        seen = 0
        goal = self.goal if epoch < self.distil else None
        total = torch.zeros((), device=self.device)
        for step, (count, (images, targets)) in enumerate(
            zip(sizes, self.batches(self.train, generator), strict=True), start=1
        ):
            rate = learning_rate(t, epoch * steps + step - 1, steps, self.epochs)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.prepare(images, targets, rate)
            with autocast(t, self.device):
                output = model(images)
                loss = goal.loss(output, images) if goal else self._loss(output, targets)
            loss = self.part(loss, targets, labels=goal is None)
            total += loss.detach()
            seen += count
            if step % looks == 0 and not math.isfinite(self.group.total(total)):
                break
            self._step(loss)
        whole = self.group.total(total)
        if not math.isfinite(whole):
            raise Diverged(epoch + 1, whole, seen)
        self.group.settle(model)
        self.epoch += 1
        if goal is not None and self.inherited is not None:
            more = {"distilled": self.inherited.distilled + 1}
            self.inherited = self.inherited.model_copy(update=more)
        if self.epoch >= self.distil:
            self.goal = None  # free its memory
        return seen

    def batches(self, part: Part, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """This worker's shares of one epoch of batches."""
        t = self.training
        return batches(
            part, t.batch_size, generator, t.augmentation, self.model.mean, self.group.share
        )

    def part(self, loss: Tensor, targets: Tensor, *, labels: bool = True) -> Tensor:
        """This worker's part of the loss of a whole batch. The parts of all workers, and their
        gradients, add up to it.

        Args:
            loss: the mean over this worker's share of the batch.
            targets: of the share.
            labels: whether the loss is the task's, which can weight samples.
        """
        if self.group.size == 1:
            return loss
        weights = self.task.weights(targets) if labels else None
        mine = float(len(targets) if weights is None else weights.sum().item())
        return loss * (mine / self.group.total(mine))

    def prepare(self, images: Tensor, targets: Tensor, rate: float) -> None:
        """Called before every step with its batch and its learning rate."""

    def _loss(self, output: Tensor | tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        smoothing = self.training.label_smoothing
        if isinstance(output, tuple):
            main, auxiliary = (self.task.loss(o, targets, smoothing) for o in output)
            return main + self.training.auxiliary * auxiliary
        return self.task.loss(output, targets, smoothing)

    def _step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self._backward(loss)
        self._move()

    def _backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those that there are."""
        scaled = loss if self.scaler is None else self.scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]

    def _move(self) -> None:
        """Step by the gradients of all workers."""
        # before overflows are looked for, so that all workers see the same
        self.group.add([p.grad for p in self.model.parameters() if p.grad is not None])
        if self.scaler is None:
            self._clip()
            self.optimizer.step()
            return
        self.scaler.unscale_(self.optimizer)
        self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _clip(self) -> None:
        if self.training.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip_norm)

    def score(self) -> dict[str, float]:
        """Metrics of the validation split, with the prefix `val_`."""
        return {f"val_{name}": value for name, value in self.evaluate().items()}

    def evaluate(self) -> dict[str, float]:
        """Metrics of the validation split, as the model is set to run. The workers divide it."""
        return evaluate(
            self.model, self.task, self.validation, self.training, self.device, group=self.group
        )

    def pack(self) -> checkpoint.Saved:
        """Weights, the optimizer's state, and what cannot be derived from seed and epoch."""
        tensors, scalars = checkpoint.pack(self.model, self.optimizer)
        rest: dict[str, Any] = {"optimiser": scalars, "epochs": self.epochs}
        if self.inherited is not None:
            rest["inherited"] = self.inherited.model_dump(mode="json", by_alias=True)
        if self.measured:
            rest["measured"] = self.measured
        if self.scaler is not None:
            rest["scaler"] = self.scaler.state_dict()
        return checkpoint.Saved(self.epoch, tensors, self.curve, rest)

    def unpack(self, saved: checkpoint.Saved) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: it is of another network or training; then nothing was changed.
        """
        scalars = saved.scalars
        epochs = scalars.get("epochs", self.epochs)
        if saved.epoch > self.epochs:
            raise ValueError(
                f"it holds {counted(saved.epoch, 'epoch')}, more than the {self.epochs} asked for"
            )
        if epochs != self.epochs:
            length = counted(int(epochs), "epoch")
            raise ValueError(f"it is of a training of {length}, not {self.epochs}")
        checkpoint.unpack(self.model, self.optimizer, saved)
        if self.scaler is not None and "scaler" in scalars:
            self.scaler.load_state_dict(scalars["scaler"])
        self.epoch, self.curve = saved.epoch, saved.curve
        self.measured = dict(scalars.get("measured", {}))
        try:
            self.inherited = Inherited.model_validate(scalars.get("inherited"))
        except ValidationError:  # it is not known any more, or there is nothing to know
            self.inherited = None


@torch.no_grad()
def evaluate(
    model: nn.Module,
    task: LearningTask,
    part: Part,
    training: Training,
    device: torch.device,
    meter: Meter | None = None,
    group: Group = ALONE,
) -> dict[str, float]:
    """Metrics of a split, without NaN values. Each worker of a group passes its rows of every
    batch; the metrics are computed at the first one, from all outputs."""
    model.eval()
    meter = meter or task.meter()
    whole = torch.split(part.targets, plain_size(part))
    for (images, _), targets in zip(plain_batches(part, group.share), whole, strict=True):
        with autocast(training, device):
            output = model(images)
        output = group.gather(output, len(targets))
        if output is not None:
            meter.add(output, targets)
    measured = group.tell(meter.metrics() if group.leads else None)
    return {name: value for name, value in measured.items() if math.isfinite(value)}


def now(device: torch.device) -> float:
    """The time in seconds, after synchronizing the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
