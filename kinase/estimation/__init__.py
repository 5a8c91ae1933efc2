"""Performance estimation: how to score a candidate cheaply."""

from kinase.estimation.base import Estimator, Heritage, make_estimator

__all__ = ["Estimator", "Heritage", "make_estimator"]
