"""`NASTrial`: one trial on a cluster."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from kinase.api._base import Model, Name, Rule
from kinase.api.status import TrialStatus
from kinase.api.supernet import MOST_ALSO
from kinase.api.trial import Workers


class TrialSpec(Model):
    """Desired state of one trial."""

    experiment: Name
    """The experiment that owns the trial, in the same namespace."""
    number: Annotated[int, Field(ge=0, le=9_999_999)]
    """Number of the trial in its experiment."""
    kind: Literal["Task", "Search", "Control", "Supernet", "Final", "Baseline", "Test"]
    """Purpose of the trial. `Task` asks the trainer to describe the task; `Supernet` trains the
    network that holds all candidates; `Test` evaluates the winner on the test split."""
    attempt: Annotated[int, Field(ge=1, le=99_999)] = 1
    """Number of the desired attempt. A retry increases it."""
    workers: Workers = 1
    """Number of pods that train the trial together, those of the desired attempt."""
    candidates: Annotated[int, Field(ge=2, le=MOST_ALSO + 1)] | None = None
    """Number of candidates that the attempt scores in turn with the weights of a supernet. The
    trial is named after the first of them. By default it is one."""
    stop: bool = False
    """Whether to stop the attempt at its next checkpoint."""
    token: Annotated[str, Field(min_length=16, max_length=128)] | None = None
    """Token with which the trial posts metrics to the experiment's controller. It grants nothing
    else."""
    job: Annotated[str, Field(min_length=2, max_length=200_000)]
    """The job to run, as JSON text: a `TrialJob` or `TaskJob` of trial contract v1. It is text so
    that the trainer gets exactly what the controller wrote: in an object, the API server would
    change the order of keys and the spelling of numbers."""

    rules: ClassVar = (
        *(
            Rule(
                f"self.{name} == oldSelf.{name}",
                f"{name} is immutable",
                f".{name}",
                "Forbidden",
            )
            for name in ("experiment", "number", "kind")
        ),
        Rule(
            "self.attempt >= oldSelf.attempt",
            "attempt {self.attempt} is below {oldSelf.attempt}; it can only be raised",
            ".attempt",
        ),
        Rule(
            "self.workers == oldSelf.workers || self.attempt > oldSelf.attempt",
            "workers cannot change for attempt {self.attempt}; increase attempt instead",
            ".workers",
            "Forbidden",
        ),
        Rule(
            "self.stop || !oldSelf.stop || self.attempt > oldSelf.attempt",
            "stop cannot be reset for attempt {self.attempt}; increase attempt instead",
            ".stop",
            "Forbidden",
        ),
    )


class NASTrial(Model):
    """One trial of an experiment, created by the experiment's controller."""

    api_version: Literal["kinase.dev/v1alpha1"]
    """API group and version."""
    kind: Literal["NASTrial"]
    """Kind of the object."""
    metadata: dict[str, Any]
    """Kubernetes metadata."""
    spec: TrialSpec
    """Desired state."""
    status: TrialStatus | None = None
    """Observed state."""
