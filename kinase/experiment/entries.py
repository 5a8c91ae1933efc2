"""Entries of the journal."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kinase.api._base import Model
from kinase.api.fidelity import Grant
from kinase.api.inheritance import Inheritance, Inherited
from kinase.api.slice import Slice
from kinase.api.supernet import Derived, SupernetPlan
from kinase.api.trial import Architecture, Confusion, Cost, Folder, Kind, Outcome

Seconds = Annotated[float, Field(ge=0)]


class Asked(Model):
    """A trial was decided on. From here on it counts."""

    type: Literal["asked"] = "asked"
    trial: Annotated[int, Field(ge=0)]
    """Number of the trial."""
    kind: Kind
    """Why it is run."""
    architecture: Architecture
    """The genotype."""
    key: str
    """Canonical hash of the architecture."""
    grant: Grant
    """What it may train at first."""
    seed: int
    """Seed of the training."""
    resources: dict[str, float] = Field(default_factory=dict)
    """Parameters and multiply-adds of the network of full fidelity."""
    parents: tuple[int, ...] = ()
    """Trials that the architecture was made from; for a finalist, the trial that found it."""
    operation: str = ""
    """How it was made; for a baseline, its name."""
    inherit: Inheritance | None = None
    """Weights that it begins with."""
    learning_rate: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Factor on the learning rate."""
    measure: tuple[str, ...] = ()
    """Zero-cost proxies to measure."""
    plan: SupernetPlan | None = None
    """How a supernet is trained."""
    slice: Slice | None = None
    """The supernet whose weights it takes."""
    excluded: Annotated[int, Field(ge=0)] = 0
    """Proposals above a limit of the objective for which it stands; 0: its network is within them.
    Otherwise it is told infeasible at once, and no limit of the budget counts it."""
    elapsed: Seconds = 0.0
    """Seconds that the experiment has run."""

    @model_validator(mode="before")
    @classmethod
    def _in_full(cls, data: Any) -> Any:
        """Before there were grants, an entry had the fidelity of a whole training."""
        if isinstance(data, dict) and "fidelity" in data and "grant" not in data:
            rest = {name: value for name, value in data.items() if name != "fidelity"}
            return {**rest, "grant": {"fidelity": data["fidelity"]}}
        return data


class Attempt(Model):
    """A trial begins again after its process was lost."""

    type: Literal["attempt"] = "attempt"
    trial: Annotated[int, Field(ge=0)]
    """Number of the trial."""
    attempt: Annotated[int, Field(ge=2)]
    """Number of the attempt that follows."""
    begun: Annotated[int, Field(ge=0)]
    """Epochs begun by the attempts before, which are paid for."""
    done: Annotated[int, Field(ge=0)]
    """Epochs that a checkpoint holds, which need not be paid again."""
    crash: bool
    """Whether the loss counts against `maxRetries`."""
    message: str = ""
    """What happened."""
    elapsed: Seconds = 0.0
    """Seconds that the experiment has run."""


class Rested(Model):
    """A trial reached the end of its grant, or a look, and waits for a decision. Its checkpoint
    holds what it has trained."""

    type: Literal["rested"] = "rested"
    trial: Annotated[int, Field(ge=0)]
    """Number of the trial."""
    done: Annotated[int, Field(ge=0)]
    """Epochs done at this fidelity."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """What was measured."""
    cost: Cost = Cost()
    """What was spent, all attempts together."""
    curve: tuple[float | None, ...] = ()
    """The objective's metric after each epoch of this fidelity."""
    message: str = ""
    """What the trainer remarked."""
    inherited: Inherited | None = None
    """What the network began with, if it was to inherit."""
    kept_bytes: Annotated[int, Field(ge=0)] = 0
    """Size of what was kept of the network for its children."""
    kept_in: Folder = ""
    """Folder below the trial's prefix in which it was kept; empty: the prefix itself."""
    elapsed: Seconds = 0.0
    """Seconds that the experiment has run."""


class Granted(Model):
    """A resting trial is trained on."""

    type: Literal["granted"] = "granted"
    trial: Annotated[int, Field(ge=0)]
    """Number of the trial."""
    grant: Grant
    """What it may train now."""
    attempt: Annotated[int, Field(ge=1)]
    """Number of the attempt that trains it: a new one, or the present one if its process waits."""
    restart: bool = False
    """Whether it begins again from epoch 0, because the fidelity is another."""
    predicted: float | None = None
    """At a look: the metric that the rule expected at the end of the grant."""
    probability: Annotated[float, Field(ge=0, le=1)] | None = None
    """At a look: the probability that the trial does not reach `bar`."""
    bar: float | None = None
    """At a look: the metric that the trial had to reach at the end of the grant."""
    spared: bool = False
    """Whether the rule would have stopped the trial, and it is trained on to show what it
    becomes."""
    elapsed: Seconds = 0.0
    """Seconds that the experiment has run."""


class Told(Model):
    """A trial ended; there is exactly one such entry for each trial."""

    type: Literal["told"] = "told"
    trial: Annotated[int, Field(ge=0)]
    """Number of the trial."""
    outcome: Outcome
    """How it ended."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """What was measured."""
    cost: Cost = Cost()
    """What was spent, all attempts together."""
    curve: tuple[float | None, ...] = ()
    """The objective's metric after each epoch; empty: as at the last rest."""
    message: str = ""
    """What went wrong."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """What the trainer says of itself (finalists and supernets only)."""
    derived: tuple[Derived, ...] = ()
    """Of a supernet: the architectures that its choices have led to, best first."""
    inherited: Inherited | None = None
    """What the network began with, if it was to inherit."""
    kept_bytes: Annotated[int, Field(ge=0)] = 0
    """Size of what was kept of the network for its children."""
    kept_in: Folder = ""
    """Folder below the trial's prefix in which it was kept; empty: the prefix itself."""
    predicted: float | None = None
    """For a trial that was stopped: the metric that was expected at the end of its grant."""
    probability: Annotated[float, Field(ge=0, le=1)] | None = None
    """For a trial that was stopped: the probability on which the rule acted, that it would not
    have reached `bar`."""
    bar: float | None = None
    """For a trial that was stopped: the metric that it had to reach at the end of its grant."""
    elapsed: Seconds = 0.0
    """Seconds that the experiment has run."""


class Ended(Model):
    """The search is over; finalists follow."""

    type: Literal["ended"] = "ended"
    reason: str
    """Why, for a person."""
    limits: dict[str, float] = Field(default_factory=dict)
    """The budget's limits that were set, by name, durations in seconds, and the target: by these it
    is known later whether one was raised."""
    elapsed: Seconds = 0.0
    """Seconds that the experiment has run."""


class Finished(Model):
    """All is done, unless a limit is raised. A winner was tested once."""

    type: Literal["finished"] = "finished"
    winner: int | None
    """Number of the winning finalist's trial."""
    test: dict[str, float] = Field(default_factory=dict)
    """The winner's test metrics."""
    confusion: Confusion | None = None
    """See `TrialResult.confusion`."""
    message: str = ""
    """Why there is no winner."""
    elapsed: Seconds = 0.0
    """Seconds that the experiment has run."""


class Reopened(Model):
    """A search that was over continues, since a limit was raised. What it earned stays."""

    type: Literal["reopened"] = "reopened"
    limits: dict[str, float]
    """The limits that are set now, as `Ended` has them."""
    weights: tuple[int, ...] = ()
    """Trials of the search whose weights are still there for children to begin with."""
    elapsed: Seconds = 0.0
    """Seconds that the experiment has run."""


AnyEntry = Asked | Attempt | Rested | Granted | Told | Ended | Finished | Reopened
Entry = Annotated[AnyEntry, Field(discriminator="type")]
