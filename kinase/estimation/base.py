"""What a performance estimator is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from kinase import registry
from kinase.api.estimation import Estimation as EstimationModel
from kinase.api.trial import Fidelity
from kinase.morphism.widen import Growth


@dataclass(frozen=True, slots=True)
class InheritanceRule:
    """How trained weights pass from a parent to its child."""

    noise: float = 0.0
    """On copied units, relative to the tensor's deviation."""
    rule: Growth = "replicate"
    """Of new units."""
    matching: bool = True
    """Whether a child that no morphisms lead to takes the tensors of the same name and shape, and
    is trained as a child; else it is trained from scratch."""
    learning_rate_factor: float = 1.0
    """On a child's learning rate."""
    optimizer: bool = False
    """Whether the optimiser's slots pass, too."""
    approximate: bool = False
    """Whether approximate morphisms may lead to a child."""
    distil: int = 0
    """Epochs in which a child learns from its parent where they do, before those of `child`."""


class Estimator(ABC):
    """Says at which fidelity a candidate is scored. Finalists always get the full one."""

    def __init__(self, options: Any) -> None:
        """`options` is the estimator's struct of the manifest."""
        self.options = options

    @abstractmethod
    def fidelity(self, full: Fidelity) -> Fidelity:
        """The fidelity of a candidate's training, given the full one of the search."""

    @property
    def inheritance(self) -> InheritanceRule | None:
        """How weights pass from a parent to its child; None where they do not."""
        return None

    def child(self, full: Fidelity) -> Fidelity:
        """The fidelity of the training of a child that inherits weights: of fewer epochs, or as
        any other candidate's. The network's size and the data must be as any candidate's."""
        return self.fidelity(full)


def make_estimator(model: EstimationModel) -> Estimator:
    """The estimator that a manifest describes.

    Raises:
        UnknownMember: an entry point that no package registers.
    """
    made: Estimator = registry.make(
        "kinase.estimators", model, Estimator, lambda cls, options: cls(options)
    )
    return made
