"""How choices are made while a supernet trains, and what is left of them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kinase.space.supernet import Supernet
from kinase_trainer.supernet.network import Supernetwork


class Relaxation(nn.Module, ABC):
    """The choices of a supernet as something that is learned, or drawn.

    Its parameters and buffers are in the checkpoint, so that another process continues as this one
    would; what it draws comes from the generator of the step.
    """

    def __init__(self, supernet: Supernet) -> None:
        """For the choices of a supernet."""
        super().__init__()
        self.supernet = supernet

    together: int = 1
    """Paths whose gradients are summed in a step of the weights; `choose` is called for each."""

    def paths_at(self, epoch: int, epochs: int) -> int:
        """`together` in an epoch, of so many; by default the same in all."""
        return self.together

    def begin(self, epoch: int, epochs: int) -> None:
        """Told before every epoch how many are done, of how many: for schedules."""

    @abstractmethod
    def choose(self, network: Supernetwork, generator: torch.Generator) -> None:
        """Set what the network runs in the next step: `follow` or `mix`."""

    def explore(self, network: Supernetwork, generator: torch.Generator) -> None:
        """Set what the network runs in a step of the choices: as in one of the weights."""
        self.choose(network, generator)

    def mix(self, network: Supernetwork, weights: Mapping[str, Tensor]) -> None:
        """Run all options with these weights, (options,) of each group."""
        network.mix(weights)

    def probabilities(self) -> dict[str, Tensor]:
        """(options,) of each group, as numbers: by default all alike."""
        return {
            group: torch.full((len(options),), 1 / len(options))
            for group, options in self.supernet.groups.items()
        }

    def entropy(self) -> float:
        """Mean entropy of the choices, in nats: how undecided they are."""
        rows = [torch.special.entr(row).sum() for row in self.probabilities().values()]
        return float(torch.stack(rows).mean())

    def remember(self) -> Any:
        """What the checkpoint holds of it beyond its tensors, for JSON."""
        return None

    def recall(self, remembered: Any) -> None:
        """Take up what `remember` gave.

        Raises:
            ValueError: it is something else; then nothing was changed.
        """

    def read(self, network: Supernetwork) -> None:
        """Called with the trained weights before `candidates`: where the choices depend on them."""

    @abstractmethod
    def scores(self) -> Mapping[str, Tensor]:
        """How good each option of each group is held to be, (options,); a higher score is better.
        The derived architecture is the best path by them."""

    def derive(self) -> dict[str, int]:
        """The path that is left of the choices.

        Raises:
            ValueError: a score is not a number.
        """
        return self.supernet.best({group: row.tolist() for group, row in self.scores().items()})

    def candidates(self) -> list[tuple[dict[str, int], float]]:
        """The paths that are left of the choices, best first, each with how sure it is: by default
        one, and the mean score of its options.

        Raises:
            ValueError: a score is not a number.
        """
        path, scores = self.derive(), self.scores()
        taken = [float(scores[group][option]) for group, option in path.items()]
        return [(path, math.fsum(taken) / len(taken))]


class Learned(Relaxation):
    """Choices with a parameter for each option."""

    softmax: bool = True
    """Whether the softmax of the parameters are the probabilities of the options."""

    def __init__(
        self, supernet: Supernet, generator: torch.Generator, deviation: float = 1e-3
    ) -> None:
        """Begin near equal choices.

        Args:
            supernet: whose choices they are.
            generator: draws the first values.
            deviation: their standard deviation; the mean is 0.
        """
        super().__init__(supernet)
        self.alphas = nn.ParameterDict(
            {
                group: nn.Parameter(deviation * torch.randn(len(options), generator=generator))
                for group, options in supernet.groups.items()
            }
        )

    def weights(self) -> dict[str, Tensor]:
        """The probabilities of the options, (options,) of each group, with gradients."""
        return {group: torch.softmax(a, dim=0) for group, a in self.alphas.items()}

    def probabilities(self) -> dict[str, Tensor]:
        """The same, as numbers."""
        return {group: row.detach() for group, row in self.weights().items()}

    def scores(self) -> Mapping[str, Tensor]:
        """The probabilities of the options."""
        return self.probabilities()

    def learn(self, gradients: Sequence[Tensor], optimizer: torch.optim.Optimizer) -> None:
        """Step the parameters by their gradients, in the order of `parameters`."""
        for parameter, gradient in zip(self.parameters(), gradients, strict=True):
            parameter.grad = gradient.to(parameter.dtype)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
