"""Names and labels of everything that belongs to an experiment on a cluster.

Names of children are derived from their owner's, so creating a child twice is harmless.
"""

from __future__ import annotations

GROUP = "kinase.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
EXPERIMENTS = "nasexperiments"
TRIALS = "nastrials"

MANAGED_BY = "app.kubernetes.io/managed-by"
"""Label of every object that Kinase makes; its value is `MANAGER`."""
MANAGER = "kinase"
COMPONENT = "app.kubernetes.io/component"
"""Label: `controller` or `trial`."""
EXPERIMENT = f"{GROUP}/experiment"
"""Label: the experiment's name."""
EXPERIMENT_UID = f"{GROUP}/experiment-uid"
"""Label: the experiment's UID, to distinguish it from a later one of the same name."""
TRIAL = f"{GROUP}/trial"
"""Label: the trial's number."""
ATTEMPT = f"{GROUP}/attempt"
"""Label: the attempt's number."""
JOB_TRIAL = f"{GROUP}/trial-name"
"""Label of a trial's Job and pod: the name of the `NASTrial`."""
JOB = f"{GROUP}/job"
"""Annotation of a trial's pod: its `TrialJob` as JSON, which becomes the job file."""
SPEC_HASH = f"{GROUP}/spec-hash"
"""Annotation: digest of the desired object, to detect differences."""

CONTAINER = "kinase"
"""Name of a pod's main container. Admission may have added other containers."""
PORT = 8080
"""Port of the controller's HTTP endpoint."""
MEETING = 29500
"""Port at which the first worker of a trial waits for the others."""
INDEX = "batch.kubernetes.io/job-completion-index"
"""Label and annotation of a pod of an Indexed Job, by Kubernetes: the number of the worker."""


def trial_name(experiment: str, number: int, *, test: bool = False) -> str:
    """Name of a trial's resource; the test of a finalist is a separate resource."""
    return f"{experiment}-{number:05d}{'-test' if test else ''}"


def task_name(experiment: str) -> str:
    """Name of the resource that asks the trainer to describe the task, before any trial."""
    return f"{experiment}-task"


def attempt_name(trial: str, attempt: int) -> str:
    """Name of the Job of one attempt of a trial."""
    return f"{trial}-{attempt}"


def controller_name(experiment: str) -> str:
    """Name of the controller's Job, Service, ServiceAccount, Role, RoleBinding and Lease."""
    return f"{experiment}-controller"


def workers_name(experiment: str) -> str:
    """Name of the Service by which the workers of a trial find each other."""
    return f"{experiment}-workers"


def trials_policy_name(experiment: str) -> str:
    """Name of the NetworkPolicy of the trials' pods."""
    return f"{experiment}-trials"
