"""What a performance estimator is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from kinase import registry
from kinase.api.estimation import Estimation as EstimationModel
from kinase.api.trial import Fidelity


class Estimator(ABC):
    """Says at which fidelity a candidate is scored. Finalists always get the full one."""

    def __init__(self, options: Any) -> None:
        """`options` is the estimator's struct of the manifest."""
        self.options = options

    @abstractmethod
    def fidelity(self, full: Fidelity) -> Fidelity:
        """The fidelity of a candidate's training, given the full one of the search."""


def make_estimator(model: EstimationModel) -> Estimator:
    """The estimator that a manifest describes.

    Raises:
        UnknownMember: an entry point that no package registers.
    """
    cls, options = registry.resolve("kinase.estimators", model)
    estimator = cls(options)
    if not isinstance(estimator, Estimator):
        raise TypeError(f"{cls!r} is no kinase.estimation.Estimator")
    return estimator
