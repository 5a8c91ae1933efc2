"""The resources `NASExperiment` and `NASTrial` (`kinase.dev/v1alpha1`) as pydantic models.

They are the one source of the CLI's validation, the documentation and the CRDs.
"""

from kinase.api.experiment import API_VERSION, ExperimentSpec, NASExperiment
from kinase.api.trial import (
    Architecture,
    Cost,
    Fidelity,
    Kind,
    NASTrial,
    Outcome,
    Scale,
    TaskInfo,
    TrialJob,
    TrialResult,
)

__all__ = [
    "API_VERSION",
    "Architecture",
    "Cost",
    "ExperimentSpec",
    "Fidelity",
    "Kind",
    "NASExperiment",
    "NASTrial",
    "Outcome",
    "Scale",
    "TaskInfo",
    "TrialJob",
    "TrialResult",
]
