"""Once-for-All: progressive shrinking (Cai et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kinase.api.supernet import OFA
from kinase.api.trial import Architecture
from kinase.morphism.order import sorted_channels
from kinase.space import InfeasibleError, Space
from kinase_trainer.network import Network
from kinase_trainer.supernet.elastic import ElasticNetwork, take
from kinase_trainer.supernet.extra import Extra
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.uniform import DRAWS, Uniform

if TYPE_CHECKING:
    from kinase_trainer.supernet.run import SupernetRun

ALL = 1_000_000
"""So many values of an axis are all that there are."""


@dataclass(frozen=True)
class Phase:
    """A part of the training."""

    name: str
    networks: int = 1
    """Networks of a step."""
    free: Mapping[str, int] = field(default_factory=dict)
    """Of each axis how many of the largest values are drawn; see `Space.nested`."""


def phases(options: OFA) -> list[tuple[float, Phase]]:
    """The phases in order, each with its relative length (Cai et al. 2020, section 3.3; the lengths
    are those of appendix B and the published code)."""
    kernel, depth, width = options.networks
    some, every = 2, ALL
    small = {"kernel": every}
    shallow = {**small, "depth": every}
    return [
        (options.largest, Phase("largest")),
        (options.kernel, Phase("kernel", kernel, small)),
        (options.depth[0], Phase("depth", depth, {**small, "depth": some})),
        (options.depth[1], Phase("depth", depth, shallow)),
        (options.width[0], Phase("width", width, {**shallow, "width": some})),
        (options.width[1], Phase("width", width, {**shallow, "width": every})),
    ]


def phase_of(options: OFA, epoch: int, epochs: int) -> Phase:
    """The phase of an epoch, from 0. The last one that has a length ends with the training, so that
    it is there even if epochs are few."""
    found = [(length, phase) for length, phase in phases(options) if length > 0]
    ends = list(accumulate(length for length, _ in found))
    for end, (_, phase) in zip(ends, found, strict=True):
        if epoch < int(epochs * end / ends[-1] + 1e-9):
            return phase
    return found[-1][1]


def begins(options: OFA, name: str, epoch: int, epochs: int) -> bool:
    """Whether the first of the phases of this name, or of what comes after them, begins with an
    epoch."""
    order = ["largest", "kernel", "depth", "width"]

    def reached(at: int) -> bool:
        return order.index(phase_of(options, at, epochs).name) >= order.index(name)

    return reached(epoch) and (epoch == 0 or not reached(epoch - 1))


class Ofa(Uniform):
    """Random slices of the largest network, from large to small ones."""

    def __init__(self, space: Space, options: OFA) -> None:
        """For a space of which one network contains all others.

        Raises:
            ValueError: it has none.
        """
        super().__init__(None, space)
        if space.largest is None:
            raise ValueError(
                f"sampling OFA shrinks a largest network, and {type(space).__name__} has none; "
                "use Uniform, or the space MobileNet"
            )
        self.options = options
        self.largest: Architecture = space.largest
        self._phase = phase_of(options, 0, 1)
        self._number = 0

    def begin(self, epoch: int, epochs: int) -> None:
        """Set the phase."""
        self._phase, self._number = phase_of(self.options, epoch, epochs), 0

    def paths_at(self, epoch: int, epochs: int) -> int:
        """Those of the phase; with the sandwich rule the largest and the smallest at least."""
        phase = phase_of(self.options, epoch, epochs)
        if not self.options.sandwich or phase.name == "largest":
            return phase.networks
        return max(phase.networks, 1 + (self._smallest(phase) is not None))

    def choose(self, network: Supernetwork | ElasticNetwork, generator: torch.Generator) -> None:
        """Follow the next network of a step.

        Raises:
            InfeasibleError: none of many draws exists at this input size.
        """
        assert isinstance(network, ElasticNetwork)
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        ends = [self.largest, self._smallest(self._phase)] if self.options.sandwich else []
        count = max(self._phase.networks, len(ends))
        place, self._number = self._number % count, self._number + 1
        if place < len(ends) and (end := ends[place]) is not None:
            network.follow(end)
            return
        for _ in range(DRAWS - 1):
            with suppress(InfeasibleError):
                network.follow(self.space.nested(rng, self._phase.free))
                return
        network.follow(self.space.nested(rng, self._phase.free))

    def _smallest(self, phase: Phase) -> Architecture | None:
        """The smallest network, once all is free."""
        everything = phase.free.get("width", 1) >= ALL
        return self.space.smallest if everything else None


class Shrinking(Extra):
    """What progressive shrinking does to the weights: they learn from the largest network as it was
    before (Cai et al. 2020, section 3.3; Hinton et al. 2015), and its channels are sorted once,
    before they become fewer."""

    name = "shrinking"

    def __init__(self, relaxation: Ofa) -> None:
        """For a run with this relaxation."""
        self._relaxation, self._options = relaxation, relaxation.options
        self._teacher: Network | None = None
        self._state: dict[str, Tensor] = {}
        self._wanted: tuple[Tensor, Tensor] | None = None

    def begin(self, run: SupernetRun) -> None:
        """Keep the largest network when others begin to be trained; sort before widths do."""
        network, epoch = run.model, run.epoch
        assert isinstance(network, ElasticNetwork)
        self._wanted = None
        if self._state and self._teacher is None:
            network.follow(self._relaxation.largest)
            self._teacher = _fixed(network)
            self._teacher.load_state_dict(self._state)
        if self._options.distillation and begins(self._options, "kernel", epoch, run.epochs):
            network.follow(self._relaxation.largest)
            self._teacher = _fixed(network)
        if self._options.sort and begins(self._options, "width", epoch, run.epochs):
            sort(network, run.optimizer, self._relaxation.largest)

    def teach(self, run: SupernetRun, output: Tensor | tuple[Tensor, ...], loss: Tensor) -> Tensor:
        """Add the distance to the teacher's output."""
        if self._teacher is None or not self._options.distillation:
            return loss
        wanted = self._answer(run.images)
        outputs = output if isinstance(output, tuple) else (output,)
        kind = run.task.distils
        distance = torch.stack([_distance(kind, each, wanted) for each in outputs]).mean()
        return loss + self._options.distillation * distance

    @torch.no_grad()
    def _answer(self, images: Tensor) -> Tensor:
        """The teacher's output, computed once for the networks of a step."""
        assert self._teacher is not None
        if self._wanted is None or self._wanted[0] is not images:
            self._wanted = images, self._teacher(images)
        return self._wanted[1]

    def pack(self) -> tuple[dict[str, Tensor], Any]:
        """The teacher."""
        return dict(self._teacher.state_dict()) if self._teacher is not None else self._state, None

    def unpack(self, tensors: dict[str, Tensor], state: Any) -> None:
        """Take the teacher up when the next epoch begins."""
        self._teacher, self._state = None, {name: t.clone() for name, t in tensors.items()}


def _fixed(network: ElasticNetwork) -> Network:
    """The network as it is set to run, which does not change any more. It answers in evaluation:
    the published code leaves it in training, where its answers depend on the batch."""
    return network.standing_alone().requires_grad_(False).eval()


def _distance(kind: str, output: Tensor, wanted: Tensor) -> Tensor:
    """The cross-entropy with the teacher's probabilities, or the squared difference."""
    if kind == "mse":
        return F.mse_loss(output, wanted)
    return F.cross_entropy(output, torch.softmax(wanted.float(), dim=1))


@torch.no_grad()
def sort(network: ElasticNetwork, optimizer: torch.optim.Optimizer, largest: Architecture) -> None:
    """Sort channels by the absolute weights with which they are read, the optimizer's numbers with
    them. The largest network computes what it did before.

    Args:
        network: the shared tensors.
        optimizer: of its parameters.
        largest: the architecture whose network has all of the tensors.
    """

    def norms(tensor: str, axis: int) -> Any:
        weight = network.get_parameter(f"nodes.{tensor}").abs().double()
        return weight.sum(dim=[a for a in range(weight.ndim) if a != axis]).cpu().numpy()

    state = network.state_dict()
    parameters = dict(network.named_parameters())
    graph = network.elastic.slice(largest).graph
    for name, cut in sorted_channels(graph, norms).items():
        key = f"nodes.{name}"
        state[key].copy_(take(state[key], cut).clone())
        for slot in optimizer.state.get(parameters[key], {}).values() if key in parameters else ():
            if isinstance(slot, Tensor) and slot.shape == state[key].shape:
                slot.copy_(take(slot, cut).clone())
