"""The resources `NASExperiment` and `NASTrial` (`kinase.dev/v1alpha1`) as pydantic models.

They are the one source of the CLI's validation, the documentation and the CRDs.
"""

from kinase.api.experiment import NASExperiment
from kinase.api.fidelity import Fidelity, Scale
from kinase.api.names import API_VERSION
from kinase.api.nastrial import NASTrial, TrialSpec
from kinase.api.spec import ExperimentSpec
from kinase.api.status import ExperimentStatus, TrialPhase, TrialReason, TrialStatus
from kinase.api.trial import (
    Architecture,
    Cost,
    Kind,
    Outcome,
    TaskInfo,
    TaskJob,
    Termination,
    TrialJob,
    TrialResult,
)

__all__ = [
    "API_VERSION",
    "Architecture",
    "Cost",
    "ExperimentSpec",
    "ExperimentStatus",
    "Fidelity",
    "Kind",
    "NASExperiment",
    "NASTrial",
    "Outcome",
    "Scale",
    "TaskInfo",
    "TaskJob",
    "Termination",
    "TrialJob",
    "TrialPhase",
    "TrialReason",
    "TrialResult",
    "TrialSpec",
    "TrialStatus",
]
