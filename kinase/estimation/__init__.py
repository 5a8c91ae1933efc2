"""Performance estimation: how to score a candidate cheaply."""

from kinase.estimation.base import Estimator, InheritanceRule, make_estimator

__all__ = ["Estimator", "InheritanceRule", "make_estimator"]
