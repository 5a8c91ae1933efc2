"""Performance estimation: how to score a candidate cheaply."""

from kinase.estimation.base import Estimator, make_estimator

__all__ = ["Estimator", "make_estimator"]
