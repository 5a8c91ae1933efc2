"""The training of a supernet: before each step of the weights, one of the choices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kinase_trainer import checkpoint
from kinase_trainer.data import Part, batches
from kinase_trainer.supernet.bilevel import WeightStep, gradients
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.relaxation import Learned, Relaxation
from kinase_trainer.train import Run, autocast, evaluate, seed_of

CHOICES = "choices."
"""Prefix of the relaxation's tensors in a checkpoint."""


@dataclass
class SupernetRun(Run):
    """The state of a supernet's training. `train` is the part that its weights learn from."""

    relaxation: Relaxation = field(kw_only=True)
    held: Part = field(kw_only=True)
    """The part of the training split that the choices learn from."""
    chooser: torch.optim.Optimizer | None = None
    """Steps the choices; None if nothing of them is learned by gradients."""
    order: int = 1
    """0: the choices learn from the loss by which the weights step. 1: from a held-out batch, and
    see the weights as they are. 2: as they would be after their next step."""
    frozen: int = 0
    """Epochs in which the choices do not learn yet."""

    def __post_init__(self) -> None:
        """Draw the first held-out batch when it is needed."""
        super().__post_init__()
        self._batches: Iterator[tuple[Tensor, Tensor]] = iter(())
        self._round = 0
        self._draws = torch.Generator()

    @property
    def network(self) -> Supernetwork:
        """The model."""
        assert isinstance(self.model, Supernetwork)
        return self.model

    @property
    def passes(self) -> int:
        """Samples that one epoch passes forward and backward, those of the choices' steps too."""
        # of order 2: the weights' gradient, the held-out loss, and the two sides of a difference
        again = {0: 0, 1: 1, 2: 4}[self.order]
        return len(self.train) * (1 + again * self.learns)

    @property
    def learns(self) -> bool:
        """Whether the choices learn in this epoch."""
        return self.chooser is not None and self.epoch >= self.frozen

    def train_epoch(self) -> int:
        """Train one epoch; see `Run`. Returns the sample passes."""
        self.relaxation.begin(self.epoch, self.epochs)
        self._draws.manual_seed(seed_of(self.seed, 3, self.epoch))
        self._batches, self._round = iter(()), 0
        passes, before = self.passes, len(self.train)
        seen = super().train_epoch()
        return seen * (passes // before)

    def prepare(self, images: Tensor, targets: Tensor, rate: float) -> None:
        """Step the choices on a held-out batch, then choose for the weights' step."""
        if self.learns and self.order:
            self._step_choices(images, targets, rate, *self._held())
        self.relaxation.choose(self.network, self._draws)

    def _step(self, loss: Tensor) -> None:
        choosing = self.chooser is not None and self.learns and not self.order
        if not choosing:
            super()._step(loss)
            return
        assert isinstance(self.relaxation, Learned)
        assert self.chooser is not None
        self.chooser.zero_grad(set_to_none=True)
        super()._step(loss)
        alphas = list(self.relaxation.parameters())
        found = [torch.zeros_like(a) if a.grad is None else a.grad.clone() for a in alphas]
        if self.scaler is not None:
            found = [each / self.scaler.get_scale() for each in found]
        self.relaxation.learn(found, self.chooser)

    def _held(self) -> tuple[Tensor, Tensor]:
        """The next held-out batch; after all of them, all again in another order."""
        while True:
            for batch in self._batches:
                return batch
            generator = torch.Generator().manual_seed(
                seed_of(self.seed, 4, self.epoch, self._round)
            )
            t = self.training
            self._round += 1
            self._batches = batches(
                self.held, t.batch_size, generator, t.augmentation, self.network.mean
            )

    def _step_choices(
        self, images: Tensor, targets: Tensor, rate: float, held: Tensor, wanted: Tensor
    ) -> None:
        assert isinstance(self.relaxation, Learned)
        assert self.chooser is not None
        choices = list(self.relaxation.parameters())
        weights = [p for p in self.network.parameters() if p.requires_grad]
        draw = int(torch.randint(2**62, (), generator=self._draws))

        def loss(x: Tensor, y: Tensor) -> Tensor:
            self.relaxation.choose(self.network, torch.Generator().manual_seed(draw))
            with autocast(self.training, self.device):
                return self._loss(self.network(x), y)

        momentum = float(self.optimizer.param_groups[0].get("momentum", 0.0))
        step = WeightStep(
            rate if self.order == 2 else 0.0,
            momentum,
            float(self.optimizer.param_groups[0]["weight_decay"]),
            [self.optimizer.state.get(w, {}).get("momentum_buffer") for w in weights],
        )
        found = gradients(
            choices, weights, lambda: loss(images, targets), lambda: loss(held, wanted), step
        )
        self.relaxation.learn(found, self.chooser)

    def score(self) -> dict[str, float]:
        """Metrics of the validation split, as the supernet chooses now."""
        self.relaxation.choose(
            self.network, torch.Generator().manual_seed(seed_of(self.seed, 5, self.epoch))
        )
        with torch.no_grad():
            found = evaluate(self.model, self.task, self.validation, self.training, self.device)
        return {f"val_{name}": value for name, value in found.items()}

    def pack(self) -> checkpoint.Saved:
        """Weights, choices, and the state of both optimizers: one checkpoint."""
        saved = super().pack()
        if self.chooser is None:
            return saved
        tensors, scalars = checkpoint.pack(self.relaxation, self.chooser)
        mine = {f"{CHOICES}{name}": tensor for name, tensor in tensors.items()}
        return checkpoint.Saved(
            saved.epoch,
            {**saved.tensors, **mine},
            saved.curve,
            {**saved.scalars, "choices": scalars},
        )

    def unpack(self, saved: checkpoint.Saved) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: it is of another supernet, or its choices are not numbers; then nothing
                was changed.
        """
        mine = {
            name.removeprefix(CHOICES): tensor
            for name, tensor in saved.tensors.items()
            if name.startswith(CHOICES)
        }
        rest = {n: t for n, t in saved.tensors.items() if not n.startswith(CHOICES)}
        if not all(bool(torch.isfinite(t).all()) for t in mine.values()):
            raise ValueError("its choices are not numbers")
        before = {name: t.clone() for name, t in self.relaxation.state_dict().items()}
        if self.chooser is not None:
            scalars = {"optimiser": saved.scalars.get("choices", {})}
            theirs = checkpoint.Saved(saved.epoch, mine, saved.curve, scalars)
            checkpoint.unpack(self.relaxation, self.chooser, theirs)
        try:
            super().unpack(checkpoint.Saved(saved.epoch, rest, saved.curve, saved.scalars))
        except ValueError:
            self.relaxation.load_state_dict(before)
            raise


def halves(part: Part, share: float, seed: int) -> tuple[Part, Part]:
    """Divide the training split between the weights and the choices.

    Args:
        part: the training split.
        share: of the samples that are held out for the choices, 0..1.
        seed: of the division.

    Returns:
        For the weights, and for the choices.

    Raises:
        ValueError: one of them would have fewer than two samples.
    """
    count = len(part)
    held = math.floor(count * share)
    if held < 2 or count - held < 2:
        raise ValueError(
            f"a share of {share:g} of {count} training samples leaves {held} for the choices and "
            f"{count - held} for the weights; both need two or more"
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed_of(seed, 6)))
    return part.subset(order[held:].sort().values), part.subset(order[:held].sort().values)
