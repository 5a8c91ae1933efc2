"""Performance estimation: how to score a candidate cheaply."""

from kinase.api.fidelity import Fidelity, Grant
from kinase.estimation.base import Estimator, InheritanceRule, Setting
from kinase.estimation.decision import Decision, End, Left, Promote, Sample, Stop, Train, Wait
from kinase.estimation.make import make_estimator
from kinase.history import History, Trial

__all__ = [
    "Decision",
    "End",
    "Estimator",
    "Fidelity",
    "Grant",
    "History",
    "InheritanceRule",
    "Left",
    "Promote",
    "Sample",
    "Setting",
    "Stop",
    "Train",
    "Trial",
    "Wait",
    "make_estimator",
]
