"""Performance estimation: how to score a candidate cheaply."""

from kinase.estimation.base import Estimator, InheritanceRule, Setting
from kinase.estimation.decision import Decision, End, Left, Promote, Sample, Stop, Wait
from kinase.estimation.make import make_estimator

__all__ = [
    "Decision",
    "End",
    "Estimator",
    "InheritanceRule",
    "Left",
    "Promote",
    "Sample",
    "Setting",
    "Stop",
    "Wait",
    "make_estimator",
]
