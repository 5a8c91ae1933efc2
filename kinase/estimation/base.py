"""The interface of a performance estimator."""

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
    """How a child inherits its parent's weights; None if it does not."""

    noise: float = 0.0
    """Noise on copied units, relative to the tensor's standard deviation."""
    rule: Growth = "replicate"
    """How new units are initialized."""
    matching: bool = True
    """Whether a child that no morphisms produce takes the tensors of the same name and shape and is
    trained like any child. Otherwise it is trained from scratch."""
    learning_rate_factor: float = 1.0
    """Factor on a child's learning rate."""
    optimizer: bool = False
    """Whether a child also inherits the optimizer's state."""
    approximate: bool = False
    """Whether approximate morphisms can produce a child."""
    distil: int = 0
    """Epochs in which such a child is distilled from its parent, before the epochs of `child`."""


class Estimator(ABC):
    """Chooses the fidelity at which a candidate is scored. Finalists always get the full
    fidelity."""

    def __init__(self, options: Any) -> None:
        """`options` is the estimator's struct in the manifest."""
        self.options = options

    @abstractmethod
    def fidelity(self, full: Fidelity) -> Fidelity:
        """The fidelity of a candidate's training, given the search's full fidelity."""

    @property
    def inheritance(self) -> InheritanceRule | None:
        """How a child inherits its parent's weights, or None if children do not inherit."""
        return None

    def child(self, full: Fidelity) -> Fidelity:
        """The fidelity at which a child that inherits weights is trained. It can have fewer epochs
        than that of other candidates; the network's size and the data must be the same."""
        return self.fidelity(full)


def make_estimator(model: EstimationModel) -> Estimator:
    """The estimator that a manifest describes.

    Raises:
        UnknownMember: no package registers the entry point.
    """
    made: Estimator = registry.make(
        "kinase.estimators", model, Estimator, lambda cls, options: cls(options)
    )
    return made
