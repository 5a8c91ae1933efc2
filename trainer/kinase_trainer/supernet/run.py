"""The training of a supernet: before each step of the weights, one of the choices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from kinase_trainer import checkpoint
from kinase_trainer.data import Part, plain_batches
from kinase_trainer.epochs import Diverged
from kinase_trainer.supernet.bilevel import WeightStep, gradients
from kinase_trainer.supernet.extra import Extra
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.policy import Policy, Reward
from kinase_trainer.supernet.relaxation import Learned, Relaxation
from kinase_trainer.supernet.statistics import batch_statistics
from kinase_trainer.train import Run, autocast, seed_of

CHOICES = "choices."
"""Prefix of the relaxation's tensors in a checkpoint."""
EXTRAS = "extras."
"""Prefix of the tensors of what else takes part."""


class ChoicesDiverged(Diverged):
    """The choices are not numbers any more."""

    def __init__(self, epoch: int, name: str, samples: int) -> None:
        """Of the tensor `name`, in epoch `epoch`, from 1."""
        super().__init__(epoch, math.nan, samples)
        self.args = (
            f"the choices ({name}) are not numbers in epoch {epoch}; the training ended there; "
            "use a lower learning rate for them",
        )


@dataclass
class SupernetRun(Run):
    """The state of a supernet's training. `train` is the part that its weights learn from."""

    relaxation: Relaxation = field(kw_only=True)
    held: Part = field(kw_only=True)
    """The part of the training split that the choices learn from."""
    chooser: torch.optim.Optimizer | None = None
    """Steps the choices; None if nothing of them is learned."""
    order: int = 1
    """0: the choices learn from the loss by which the weights step, if they learn by gradients. 1:
    from a held-out batch, and see the weights as they are. 2: as they would be after their next
    step."""
    frozen: int = 0
    """Epochs in which the choices do not learn yet."""
    interval: int = 1
    """Steps of the weights for each of the choices."""
    rounds: int = 0
    """Steps of the choices after each epoch, if they are a policy."""
    own_statistics: bool = False
    """Whether batches are normalized by their own statistics in evaluation."""
    extras: tuple[Extra, ...] = ()
    """What else takes part."""
    history: list[dict[str, list[float]]] = field(default_factory=list)
    """After each epoch, how probable the options of each group were, if choices are learned."""

    def __post_init__(self) -> None:
        """Draw the first held-out batch when it is needed."""
        super().__post_init__()
        self._batches: Iterator[tuple[Tensor, Tensor]] = iter(())
        self._round = self._more = 0
        self._now, self._learning = self.epoch, False
        self._batch: tuple[Tensor, Tensor] | None = None
        self.step = 0
        """Steps of the weights done in the epoch."""
        self.draws = torch.Generator()
        """Draws all that is random in an epoch's choices."""

    @property
    def network(self) -> Supernetwork:
        """The model. Of a space whose networks share slices it is an `ElasticNetwork`: then the
        relaxation sets architectures and no options."""
        return cast(Supernetwork, self.model)

    @property
    def passes(self) -> int:
        """Samples that one epoch passes forward and backward, those of the choices' steps too."""
        count = len(self.train)
        total = count * self.relaxation.paths_at(self.epoch, self.epochs)
        if self.learns:
            # of order 2: the weights' gradient, the held-out loss, and both sides of a difference
            total += count * {0: 0, 1: 1, 2: 4}[self.order] * self._paths // self.interval
            total += self.rounds * self._paths * min(self.training.batch_size, len(self.held))
        if self.epoch + 1 == self.epochs and isinstance(self.relaxation, Policy):
            total += self.relaxation.concluding * len(self.held)
        return total + sum(each.passes(self) for each in self.extras)

    @property
    def _paths(self) -> int:
        """Networks that a step of the choices runs."""
        return self.relaxation.paths if isinstance(self.relaxation, Policy) else 1

    @property
    def learns(self) -> bool:
        """Whether the choices learn in the epoch that begins."""
        if self.chooser is None or any(each.freezes(self) for each in self.extras):
            return False
        return self.epoch >= self.frozen

    def train_epoch(self) -> int:
        """Train one epoch; see `Run`. Returns the sample passes.

        Raises:
            Diverged: the loss or the choices are not numbers any more.
        """
        self.relaxation.begin(self.epoch, self.epochs)
        self.draws.manual_seed(seed_of(self.seed, 3, self.epoch))
        self._batches, self._round, self._more = iter(()), 0, 0
        self.step = 0
        self._now, self._learning = self.epoch, self.learns
        for each in self.extras:
            each.begin(self)
        try:
            seen = super().train_epoch()
        except Diverged as error:
            error.samples += self._charged()
            raise
        if self._learning and isinstance(self.relaxation, Policy):
            for _ in range(self.rounds):
                self._reinforce()
        for name, tensor in self.relaxation.named_parameters():
            if not bool(torch.isfinite(tensor).all()):
                raise ChoicesDiverged(self.epoch, name, seen + self._charged())
        if self.epoch == self.epochs and isinstance(self.relaxation, Policy):
            self.relaxation.conclude(self._worth(self.held_out), self.draws)
        for each in self.extras:
            each.after(self)
        if self.chooser is not None:
            rows = self.relaxation.probabilities()
            self.history.append({g: [round(p, 4) for p in row.tolist()] for g, row in rows.items()})
        self._batch = None
        return seen + self._charged()

    def charge(self, samples: int) -> None:
        """Count samples that were passed through the network beyond those of the weights' steps."""
        self._more += samples

    def _charged(self) -> int:
        """Those of all workers."""
        return round(self.group.total(self._more))

    def prepare(self, images: Tensor, targets: Tensor, rate: float) -> None:
        """Step the choices on a held-out batch, then choose for the weights' step."""
        self._batch = images, targets
        for each in self.extras:
            rate = each.rate(self, rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self._learning and self.order and self.step % self.interval == 0:
            if isinstance(self.relaxation, Policy):
                self._reinforce()
            else:
                self._step_choices(images, targets, rate)
        self._choose()
        self.step += 1

    @property
    def images(self) -> Tensor:
        """Those of the step."""
        assert self._batch is not None
        return self._batch[0]

    def _choose(self) -> None:
        """Choose for a step of the weights."""
        assert self._batch is not None
        self.relaxation.choose(self.network, self.draws)
        for each in self.extras:
            each.perturb(self, *self._batch)

    def _loss(self, output: Tensor | tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        loss = super()._loss(output, targets)
        for each in self.extras:
            loss = each.teach(self, output, loss)
        # one loss for weights and choices: what is added has no gradient in the weights
        return self.penalized(loss) if self._single_level else loss

    @property
    def _single_level(self) -> bool:
        return self._learning and not self.order and isinstance(self.relaxation, Learned)

    def penalized(self, loss: Tensor) -> Tensor:
        """The loss of the choices, given that of the task."""
        for each in self.extras:
            loss = each.penalize(self, loss)
        return loss

    def _step(self, loss: Tensor) -> None:
        if not self._single_level:
            self._step_weights(loss)
            return
        assert isinstance(self.relaxation, Learned)
        assert self.chooser is not None
        self.chooser.zero_grad(set_to_none=True)
        scale = 1.0 if self.scaler is None else self.scaler.get_scale()  # before it moves
        self._step_weights(loss)
        parameters = list(self.relaxation.parameters())
        found = [torch.zeros_like(p) if p.grad is None else p.grad / scale for p in parameters]
        self.group.add(found)
        self.relaxation.learn(found, self.chooser)

    def _step_weights(self, loss: Tensor) -> None:
        """One step, by the sum of the gradients of `Relaxation.together` paths."""
        assert self._batch is not None
        images, targets = self._batch
        self.optimizer.zero_grad(set_to_none=True)
        self._backward(loss)
        for _ in range(1, self.relaxation.paths_at(self._now, self.epochs)):
            self._choose()
            with autocast(self.training, self.device):
                loss = self._loss(self.network(images), targets)
            self.charge(len(targets))
            self._backward(self.part(loss, targets))
        self._move()

    def held_batch(self) -> tuple[Tensor, Tensor]:
        """The next held-out batch; after all of them, all again in another order."""
        while True:
            for batch in self._batches:
                return batch
            seed = seed_of(self.seed, 4, self._now, self._round)
            self._round += 1
            self._batches = self.batches(self.held, torch.Generator().manual_seed(seed))

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The held-out part once, without augmentation: this worker's shares of its batches."""
        yield from plain_batches(self.held, self.group.share)

    def choices_loss(self, images: Tensor, targets: Tensor, seed: int) -> Tensor:
        """The task's loss of a batch as the choices drawn with `seed` have it."""
        self.relaxation.explore(self.network, torch.Generator().manual_seed(seed))
        return self.task_loss(images, targets)

    def task_loss(self, images: Tensor, targets: Tensor) -> Tensor:
        """The task's loss of a batch in the network as it is set to run."""
        with autocast(self.training, self.device):
            return super()._loss(self.network(images), targets)

    def _step_choices(self, images: Tensor, targets: Tensor, rate: float) -> None:
        assert isinstance(self.relaxation, Learned)
        assert self.chooser is not None
        held, wanted = self.held_batch()
        choices = list(self.relaxation.parameters())
        weights = [p for p in self.network.parameters() if p.requires_grad]
        seed = int(torch.randint(2**62, (), generator=self.draws))
        group = self.optimizer.param_groups[0]
        step = WeightStep(
            rate if self.order == 2 else 0.0,
            float(group.get("momentum", 0.0)),
            float(group["weight_decay"]),
            [self.optimizer.state.get(w, {}).get("momentum_buffer") for w in weights],
        )
        found = gradients(
            choices,
            weights,
            lambda: self.part(self.choices_loss(images, targets, seed), targets),
            lambda: self.part(self.penalized(self.choices_loss(held, wanted, seed)), wanted),
            step,
            add=self.group.add,
        )
        self.charge(len(wanted) + (3 * len(targets) if self.order == 2 else 0))
        self.relaxation.learn(found, self.chooser)

    def _reinforce(self) -> None:
        assert isinstance(self.relaxation, Policy)
        assert self.chooser is not None
        batch = self.held_batch()
        self.relaxation.reinforce(self._worth(lambda: [batch]), self.chooser, self.draws)

    def _worth(self, part: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> Reward:
        """What a path is worth on batches; see `quality`."""

        def reward(path: Mapping[str, int]) -> float:
            self.network.follow(path)
            found = self.quality(part())[0]
            for each in self.extras:
                found = each.rewarded(found, path)
            return found

        return reward

    @torch.no_grad()
    def quality(self, part: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float]:
        """How good the network is as it is set to run, with the statistics of each batch.

        Args:
            part: batches.

        Returns:
            The accuracy, or 1 / (1 + loss) if the task has none; and minus the loss.
        """
        meter, total, count = self.task.meter(), 0.0, 0.0
        training = self.network.training
        self.network.eval()
        with batch_statistics(self.network):
            for images, targets in part:
                with autocast(self.training, self.device):
                    output = self.network(images)
                meter.add(output, targets)
                total += float(self.task.loss(output, targets, 0.0)) * len(targets)
                count += len(targets)
        self.network.train(training)
        self.charge(int(count))
        right = meter.metrics().get("accuracy", math.nan) * count if count else 0.0
        total, count, right = map(self.group.total, (total, count, right))
        loss = total / max(count, 1.0)
        return (1.0 / (1.0 + max(loss, 0.0)) if math.isnan(right) else right / count), -loss

    def derived(self) -> list[tuple[dict[str, int], float]]:
        """The paths that are left, best first, and how sure they are.

        Raises:
            ValueError: a score is not a number.
        """
        self.relaxation.read(self.network)
        for each in self.extras:
            found = each.derived(self)
            if found is not None:
                return found
        return self.relaxation.candidates()

    def score(self) -> dict[str, float]:
        """Metrics of the validation split, as the supernet chooses now, and of the choices."""
        seed = seed_of(self.seed, 5, self.epoch)
        self.relaxation.choose(self.network, torch.Generator().manual_seed(seed))
        own = batch_statistics(self.model) if self.own_statistics else nullcontext()
        with torch.no_grad(), own:
            metrics = super().score()
        for each in self.extras:
            metrics |= each.metrics()
        return metrics

    def pack(self) -> checkpoint.Saved:
        """Weights, choices, and the state of both optimizers: one checkpoint."""
        saved = super().pack()
        tensors, scalars = self._pack_choices()
        return checkpoint.Saved(
            saved.epoch, {**saved.tensors, **tensors}, saved.curve, {**saved.scalars, **scalars}
        )

    def _pack_choices(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors: dict[str, Tensor] = {}
        scalars: dict[str, Any] = {
            "relaxation": self.relaxation.remember(),
            "history": self.history,
        }
        if self.chooser is not None:
            mine, scalars["choices"] = checkpoint.pack(self.relaxation, self.chooser)
            tensors = {f"{CHOICES}{name}": tensor for name, tensor in mine.items()}
        states = {}
        for each in self.extras:
            theirs, states[each.name] = each.pack()
            tensors |= {f"{EXTRAS}{each.name}.{name}": t for name, t in theirs.items()}
        return tensors, {**scalars, "extras": states}

    def unpack(self, saved: checkpoint.Saved) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: it is of another supernet, or its choices are not numbers; then nothing
                was changed.
        """
        mine = {n: t for n, t in saved.tensors.items() if n.startswith((CHOICES, EXTRAS))}
        rest = {n: t for n, t in saved.tensors.items() if n not in mine}
        if not all(bool(torch.isfinite(t).all()) for n, t in mine.items() if n.startswith(CHOICES)):
            raise ValueError("its choices are not numbers")
        tensors, scalars = self._pack_choices()
        before = {name: tensor.detach().clone() for name, tensor in tensors.items()}, scalars
        try:
            self._unpack_choices(mine, saved.scalars)
            super().unpack(checkpoint.Saved(saved.epoch, rest, saved.curve, saved.scalars))
        except ValueError:
            self._unpack_choices(*before)
            raise
        self.history = list(saved.scalars.get("history", []))

    def _unpack_choices(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        if self.chooser is not None:
            theirs = {n.removeprefix(CHOICES): t for n, t in tensors.items()}
            optimizer = {"optimiser": scalars.get("choices", {})}
            wanted = checkpoint.Saved(0, theirs, [], optimizer)
            checkpoint.unpack(self.relaxation, self.chooser, wanted)
        self.relaxation.recall(scalars.get("relaxation"))
        states = scalars.get("extras", {})
        for each in self.extras:
            prefix = f"{EXTRAS}{each.name}."
            theirs = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            each.unpack(theirs, states.get(each.name))


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
