"""What fits any relaxation: repairs, a watch, a cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from kinase_trainer.supernet.run import SupernetRun


class Extra:
    """Takes part in a supernet's training. What it knows from one epoch to the next is in the
    checkpoint; what it draws comes from the run's generator."""

    name: str
    """Of its state in a checkpoint."""

    def passes(self, run: SupernetRun) -> int:
        """Samples that it passes through the network in the epoch that begins."""
        return 0

    def begin(self, run: SupernetRun) -> None:
        """Called before an epoch."""

    def freezes(self, run: SupernetRun) -> bool:
        """Whether the choices must not learn in the epoch that begins."""
        return False

    def rate(self, run: SupernetRun, rate: float) -> float:
        """The learning rate of a step, given that of the schedule."""
        return rate

    def perturb(self, run: SupernetRun, images: Tensor, targets: Tensor) -> None:
        """Called when the choices of a step of the weights are made, with its batch."""

    def teach(self, run: SupernetRun, output: Tensor | tuple[Tensor, ...], loss: Tensor) -> Tensor:
        """The loss of the weights, given the network's output and the loss of its labels."""
        return loss

    def penalize(self, run: SupernetRun, loss: Tensor) -> Tensor:
        """The loss of the choices, given that of the task."""
        return loss

    def rewarded(self, reward: float, path: Mapping[str, int]) -> float:
        """The reward of a path, given what it is worth on held-out samples."""
        return reward

    def after(self, run: SupernetRun) -> None:
        """Called after an epoch."""

    def metrics(self) -> dict[str, float]:
        """Of the last epoch."""
        return {}

    def derived(self, run: SupernetRun) -> list[tuple[dict[str, int], float]] | None:
        """Paths, best first, and how sure they are; None leaves it to the relaxation."""
        return None

    def pack(self) -> tuple[dict[str, Tensor], Any]:
        """Its state: tensors, and what JSON holds."""
        return {}, None

    def unpack(self, tensors: dict[str, Tensor], rest: Any) -> None:
        """Take up a state.

        Raises:
            ValueError: it is not one; then nothing was changed.
        """
