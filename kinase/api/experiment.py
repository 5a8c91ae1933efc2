"""`NASExperiment`: what a user writes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from kinase.api._base import (
    DNS_LABEL,
    DURATION,
    MAX_NAME,
    Duration,
    Keyed,
    Model,
    Name,
    Rule,
)
from kinase.api.estimation import Epochs, Estimation, Fraction
from kinase.api.names import API_VERSION
from kinase.api.objective import (
    RESOURCE_METRICS,
    TASK_METRICS,
    Measure,
    Objective,
    check_objective,
    objective_rules,
)
from kinase.api.pod import ControllerTemplate, TrialTemplate
from kinase.api.space import Space
from kinase.api.status import ExperimentStatus
from kinase.api.strategy import Strategy
from kinase.api.task import Task, Training


class Budget(Model):
    """What the experiment may spend. It ends at the first limit it reaches; at least one of
    trials, epochs, deviceHours and duration must be set."""

    trials: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Trials of the search and its control; finalists are not counted here."""
    epochs: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Training epochs in all, finalists and killed attempts included."""
    device_hours: Annotated[float, Field(gt=0, le=1e7)] | None = None
    """Hours of devices (or of local slots) in all, finalists and killed attempts included."""
    duration: Duration | None = None
    """Wall-clock time of the search, such as 30m or 6h; finalists are trained after it."""
    parallelism: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Trials that run at once."""

    rules: ClassVar = (
        Rule(
            "has(self.trials) || has(self.epochs) || has(self.deviceHours) || has(self.duration)",
            "no limit is set: set at least one of trials, epochs, deviceHours, duration",
            reason="Required",
        ),
        Rule(
            "!has(self.trials) || self.parallelism <= self.trials",
            "parallelism {self.parallelism} is above trials {self.trials}; "
            "it can be at most the number of trials",
            ".parallelism",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.trials, self.epochs, self.device_hours, self.duration) == (None,) * 4:
            raise ValueError(
                "no limit is set: set at least one of trials, epochs, deviceHours, duration"
            )
        if self.trials is not None and self.parallelism > self.trials:
            raise ValueError(
                f"parallelism {self.parallelism} is above trials {self.trials}; "
                "it can be at most the number of trials"
            )
        return self


class Control(Model):
    """The random-search control that the strategy is held against."""

    share: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    """Share of the search's trials that are drawn at random and hidden from the strategy;
    0 runs no control."""


class Finalists(Model):
    """The best candidates, trained anew at full fidelity; the winner among them is tested."""

    count: Annotated[int, Field(ge=1, le=100)] = 3
    """How many candidates are retrained."""
    epochs: Epochs | None = None
    """Epochs of a finalist's training. Default: those of `spec.training`."""


class Baseline(Model):
    """A network made by hand, trained as the finalists are, for the report to compare with."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    """What the report calls it."""
    architecture: dict[str, Any]
    """Its architecture, in the form of `spec.space`; of a `Cell` space also a published one by its
    name, such as `{named: DARTS_V2}` or, with the preset nasnet, `{named: NASNet-A}`."""


def is_shared(uri: str) -> bool:
    """Whether all pods of a cluster reach a place, and not one machine alone."""
    return uri.startswith("s3://")


class Storage(Model):
    """Where the journal, weights and results are kept. Credentials come from the environment
    (or a Secret), never from a manifest."""

    uri: Annotated[str, Field(pattern=r"^(file|s3)://.+", max_length=1024)] = "file://runs"
    """Prefix of everything the experiment writes: file://FOLDER or s3://BUCKET/PREFIX."""
    endpoint: Annotated[str, Field(pattern=r"^https?://.+", max_length=1024)] | None = None
    """URL of an S3-compatible server. Default: AWS's own."""
    region: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Region of the bucket. Default: the environment's."""
    credentials_secret: Name | None = None
    """Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (on a cluster)."""
    role_arn: Annotated[str, Field(pattern=r"^arn:\S+$", max_length=2048)] | None = None
    """Role that the pods take by a token of their ServiceAccount (AssumeRoleWithWebIdentity), in
    place of a Secret (on a cluster)."""
    token_audience: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """Audience of that token, where it is the one of the administrator's default store. Default:
    sts.amazonaws.com."""
    sts_endpoint: Annotated[str, Field(pattern=r"^https?://.+", max_length=1024)] | None = None
    """URL of the service that gives credentials for that token, where it is the one of the
    administrator's default store. Default: AWS's own."""
    ca_config_map: Name | None = None
    """ConfigMap whose key ca.crt holds the certificates of the authorities that signed the
    server's (on a cluster; a local run reads AWS_CA_BUNDLE)."""
    checkpoints: Literal["running", "all"] = "running"
    """Which checkpoints are kept: those of running trials, or all."""
    weights: Literal["needed", "all"] = "needed"
    """Which weights of the search's trials are kept where children inherit them (estimation type
    Morphism): those that an unfinished or future child may need, or all. A finalist's always are.
    """

    rules: ClassVar = (
        Rule(
            "!has(self.roleArn) || !has(self.credentialsSecret)",
            "roleArn and credentialsSecret are both set; the pods have one or the other",
            ".roleArn",
        ),
        *(
            Rule(
                f"!has(self.{name}) || has(self.roleArn)",
                f"{name} is for the token that roleArn is taken by; set roleArn, or remove it",
                f".{name}",
            )
            for name in ("tokenAudience", "stsEndpoint")
        ),
    )

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        if self.role_arn is not None and self.credentials_secret is not None:
            raise ValueError(
                "roleArn and credentialsSecret are both set; the pods have one or the other"
            )
        for name, given in (
            ("tokenAudience", self.token_audience),
            ("stsEndpoint", self.sts_endpoint),
        ):
            if given is not None and self.role_arn is None:
                raise ValueError(
                    f"{name} is for the token that roleArn is taken by; set roleArn, or remove it"
                )
        return self


class Retention(Model):
    """How long what has ended stays on the cluster. What lies in the storage stays."""

    pods: Duration = timedelta(minutes=10)
    """Time that the Job, the pod and the logs of an attempt stay after its end."""
    trials: Duration | None = None
    """Time that a trial's resource stays after its end, once its result is in the journal.
    Default: as long as the experiment."""
    experiment: Duration | None = None
    """Time that the experiment stays after its end. Default: until it is deleted."""


_LOWER = "self.estimation.?lowerFidelity"
_CHILD = "self.estimation.?morphism.?epochsPerChild"
_FINAL_EPOCHS = "self.finalists.?epochs.orValue(self.training.epochs)"
_SEARCH_EPOCHS = f"{_LOWER}.?epochs.orValue(self.training.epochs)"
_NETWORKS = "(self.finalists.count + (has(self.baselines) ? size(self.baselines) : 0))"
_LEAST_EPOCHS = f"{_SEARCH_EPOCHS} + {_NETWORKS} * {_FINAL_EPOCHS}"
"""CEL of what `final_epochs`, `search_epochs` and `_budget_pays_for_one_trial` compute."""
_LESS = [
    name
    for known in (*TASK_METRICS.values(), RESOURCE_METRICS)
    for name, facts in known.items()
    if facts.goal == "minimize"
]
"""Metrics of ours of which less is better."""
_ACCURACY = (
    f"(!(self.objective.metric in {_LESS}) && "
    "(!has(self.objective.goal) || self.objective.goal == 'maximize'))"
)
"""CEL of whether the objective may be an accuracy."""


class ExperimentSpec(Model):
    """What is searched, how, and at what cost."""

    task: Task = Task()
    """What is learnt, and on which data."""
    training: Training = Training()
    """How a network is trained at full fidelity."""
    objective: Objective = Objective()
    """What the search optimises."""
    space: Space
    """The search space: which architectures can be found."""
    strategy: Strategy
    """The search strategy: how to look."""
    estimation: Estimation = Estimation(type="Full")
    """Performance estimation: how to score a candidate cheaply."""
    budget: Budget
    """What the experiment may spend."""
    control: Control = Control()
    """The random-search control."""
    finalists: Finalists = Finalists()
    """The best candidates, trained anew at full fidelity."""
    baselines: Annotated[tuple[Baseline, ...], Field(max_length=8), Keyed("name")] = ()
    """Networks made by hand, trained as the finalists are and charged as they are."""
    storage: Storage = Storage()
    """Where everything is kept."""
    controller: ControllerTemplate = ControllerTemplate()
    """How the controller is run on a cluster."""
    trial_template: TrialTemplate = TrialTemplate()
    """How a trial is run."""
    retention: Retention = Retention()
    """How long what has ended stays on the cluster."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Seed of everything random in the search and the training."""
    suspend: bool = False
    """Whether the experiment stands still: nothing starts, running trials stop at a checkpoint."""

    rules: ClassVar = (
        Rule(
            f"{_LOWER}.?epochs.orValue(1) <= {_FINAL_EPOCHS}",
            f"estimation.lowerFidelity.epochs {{{_LOWER}.?epochs.orValue(1)}} is above the full "
            f"fidelity's {{{_FINAL_EPOCHS}}} (finalists.epochs or training.epochs)",
            ".estimation.lowerFidelity.epochs",
        ),
        Rule(
            f"!has(self.task.resolution) || "
            f"{_LOWER}.?resolution.orValue(1) <= self.task.resolution",
            f"estimation.lowerFidelity.resolution {{{_LOWER}.?resolution.orValue(1)}} is above "
            "the full fidelity's {self.task.resolution} (task.resolution)",
            ".estimation.lowerFidelity.resolution",
        ),
        Rule(
            f"self.space.type == 'Cell' || !{_LOWER}.?cells.hasValue()",
            "estimation.lowerFidelity.cells is for the space type Cell; "
            "space.type is {self.space.type}",
            ".estimation.lowerFidelity.cells",
            "Forbidden",
        ),
        Rule(
            f"self.space.type != 'Model' || {_LOWER}.?filterFraction.orValue(1.0) == 1.0",
            "estimation.lowerFidelity.filterFraction is not for the space type Model: a network "
            "that is there is not built narrower",
            ".estimation.lowerFidelity.filterFraction",
            "Forbidden",
        ),
        Rule(
            f"{_CHILD}.orValue(1) <= self.training.epochs",
            f"estimation.morphism.epochsPerChild {{{_CHILD}.orValue(1)}} is above training.epochs "
            "{self.training.epochs}: a child needs no more than a network that begins anew",
            ".estimation.morphism.epochsPerChild",
        ),
        *objective_rules(),
        Rule(
            "self.strategy.type != 'LEMONADE' || (has(self.objective.also) && "
            f"self.objective.also.exists(m, m.metric in {list(RESOURCE_METRICS)}))",
            "strategy.type is LEMONADE, which trades accuracy against what is known before the "
            f"training: objective.also must name one of {', '.join(RESOURCE_METRICS)}",
            ".objective.also",
            "Required",
        ),
        Rule(
            "self.strategy.type != 'LEMONADE' || "
            f"!(self.objective.metric in {list(RESOURCE_METRICS)})",
            "objective.metric '{self.objective.metric}' is known before the training, and "
            "strategy.type LEMONADE trades it against what is not: name it in objective.also",
            ".objective.metric",
        ),
        Rule(
            "self.strategy.type != 'EAS' || self.space.type in ['Chain', 'Custom']",
            "strategy.type EAS is for the space type Chain; space.type is {self.space.type}",
            ".strategy.type",
        ),
        Rule(
            "self.strategy.type != 'EAS' || "
            f"self.strategy.?eas.?reward.orValue('tan') != 'tan' || {_ACCURACY}",
            "strategy.eas.reward tan is for an accuracy, to maximize; for "
            "{self.objective.metric} use reward: identity",
            ".strategy.eas.reward",
        ),
        Rule(
            "self.strategy.type != 'PathLevel' || self.space.type in ['Tree', 'Custom']",
            "strategy.type PathLevel is for the space type Tree; space.type is {self.space.type}",
            ".strategy.type",
        ),
        Rule(
            "self.strategy.type != 'PathLevel' || "
            f"self.strategy.?pathLevel.?reward.orValue('tan') != 'tan' || {_ACCURACY}",
            "strategy.pathLevel.reward tan is for an accuracy, to maximize; for "
            "{self.objective.metric} use reward: identity",
            ".strategy.pathLevel.reward",
        ),
        Rule(
            f"!has(self.budget.epochs) || self.budget.epochs >= {_LEAST_EPOCHS}",
            f"budget.epochs {{self.budget.epochs}} is too small: one trial takes "
            f"{{{_SEARCH_EPOCHS}}} and finalists and baselines take {{{_NETWORKS}}} x "
            f"{{{_FINAL_EPOCHS}}}; it must be at least {{{_LEAST_EPOCHS}}}",
            ".budget.epochs",
        ),
    )

    @property
    def final_epochs(self) -> int:
        """Epochs of a finalist's training."""
        return self.finalists.epochs or self.training.epochs

    @property
    def search_epochs(self) -> int:
        """Epochs of one trial of the search."""
        lower = self.estimation.lower_fidelity
        return (lower.epochs if lower else None) or self.training.epochs

    @property
    def paid_trials(self) -> int | None:
        """About how many trials the budget pays for, the control's with them; None where it limits
        time alone."""
        found = [self.budget.trials] if self.budget.trials is not None else []
        if self.budget.epochs is not None:
            found.append((self.budget.epochs - self.epochs_for(0)) // self._epochs_each)
        return min(found) if found else None

    @property
    def search_trials(self) -> int | None:
        """The same, the control's left out."""
        paid = self.paid_trials
        return None if paid is None else round(paid * (1 - self.control.share))

    @property
    def _epochs_each(self) -> int:
        morphism = self.estimation.morphism
        return (morphism.epochs_per_child if morphism else None) or self.search_epochs

    def epochs_for(self, trials: int) -> int:
        """Epochs that pay for so many trials, and for the finalists and baselines after them."""
        networks = self.finalists.count + len(self.baselines)
        return networks * self.final_epochs + trials * self._epochs_each

    def sized(self) -> Self:
        """The same with the defaults filled in that follow from the budget. They are settled when
        an experiment begins: its record keeps them, so a larger budget changes none."""
        evolution = self.strategy.evolution
        if evolution is None:
            return self
        whole = evolution.sized(self.search_trials)
        return self.model_copy(
            update={"strategy": self.strategy.model_copy(update={"evolution": whole})}
        )

    @model_validator(mode="after")
    def _fidelity_below_full(self) -> Self:
        lower = self.estimation.lower_fidelity
        if lower is None:
            return self
        if lower.epochs is not None and lower.epochs > self.final_epochs:
            raise ValueError(
                f"estimation.lowerFidelity.epochs {lower.epochs} is above the full fidelity's "
                f"{self.final_epochs} (finalists.epochs or training.epochs)"
            )
        full = self.task.resolution
        if lower.resolution is not None and full is not None and lower.resolution > full:
            raise ValueError(
                f"estimation.lowerFidelity.resolution {lower.resolution} is above the full "
                f"fidelity's {full} (task.resolution)"
            )
        if lower.cells is not None and self.space.cell is None:
            raise ValueError(
                "estimation.lowerFidelity.cells is for the space type Cell; "
                f"space.type is {self.space.type}"
            )
        if lower.filter_fraction != 1 and self.space.model is not None:
            raise ValueError(
                "estimation.lowerFidelity.filterFraction is not for the space type Model: a "
                "network that is there is not built narrower"
            )
        return self

    @model_validator(mode="after")
    def _child_below_full(self) -> Self:
        morphism = self.estimation.morphism
        epochs = morphism.epochs_per_child if morphism else None
        if epochs is not None and epochs > self.training.epochs:
            raise ValueError(
                f"estimation.morphism.epochsPerChild {epochs} is above training.epochs "
                f"{self.training.epochs}: a child needs no more than a network that begins anew"
            )
        return self

    @model_validator(mode="after")
    def _metrics_of_the_task(self) -> Self:
        check_objective(self.objective, self.task.type)
        return self

    @model_validator(mode="after")
    def _something_cheap(self) -> Self:
        if self.strategy.type != "LEMONADE":
            return self
        if self.objective.metric in RESOURCE_METRICS:
            raise ValueError(
                f"objective.metric {self.objective.metric!r} is known before the training, and "
                "strategy.type LEMONADE trades it against what is not: name it in objective.also"
            )
        named = {measure.metric for measure in self.objective.also}
        if named.isdisjoint(RESOURCE_METRICS):
            raise ValueError(
                "strategy.type is LEMONADE, which trades accuracy against what is known before the "
                f"training: objective.also must name one of {', '.join(RESOURCE_METRICS)}"
            )
        return self

    @model_validator(mode="after")
    def _fits_a_policy(self) -> Self:
        strategy = self.strategy
        policy = strategy.eas or strategy.path_level
        if policy is None:
            return self
        space, field = ("Chain", "eas") if strategy.eas else ("Tree", "pathLevel")
        if self.space.type not in (space, "Custom"):
            raise ValueError(
                f"strategy.type {strategy.type} is for the space type {space}; "
                f"space.type is {self.space.type}"
            )
        metric, goal = self.objective.metric, self.objective.goal
        if policy.reward == "tan" and (goal == "minimize" or metric in _LESS):
            raise ValueError(
                f"strategy.{field}.reward tan is for an accuracy, to maximize; for {metric} "
                "use reward: identity"
            )
        return self

    @model_validator(mode="after")
    def _budget_pays_for_one_trial(self) -> Self:
        epochs = self.budget.epochs
        if epochs is None:
            return self
        networks = self.finalists.count + len(self.baselines)
        final = networks * self.final_epochs
        if epochs < self.search_epochs + final:
            raise ValueError(
                f"budget.epochs {epochs} is too small: one trial takes {self.search_epochs} and "
                f"finalists and baselines take {networks} x {self.final_epochs} = {final}; "
                f"it must be at least {self.search_epochs + final}"
            )
        return self


class Metadata(Model):
    """Name and place of the object; other Kubernetes metadata is accepted and left alone."""

    model_config = {**Model.model_config, "extra": "ignore"}

    name: Name
    """Name of the experiment, a DNS label of at most 46 characters."""
    namespace: Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)] = "default"
    """Namespace of the experiment."""
    uid: Annotated[str, Field(pattern=r"^[0-9a-zA-Z-]{1,64}$")] | None = None
    """Set by the API server; a local run has none."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations."""


CHANGEABLE = ("suspend", "budget", "retention")
"""Fields of the spec that can change once the experiment has started: of the budget the limits
only upward. When it has ended, `AFTER_END` can: a limit that is raised then has it go on."""
AFTER_END = ("budget", "retention")
LIMITS = ("trials", "epochs", "deviceHours", "duration")
"""The budget's limits, by their names in a manifest."""

_ENDED = "oldSelf.?status.?completionTime.hasValue()"
_STARTED = f"oldSelf.?status.?startTime.hasValue() || {_ENDED}"


def _change_rules() -> Iterator[Rule]:
    """What of a spec the API server lets a user change, and when."""
    for name, info in ExperimentSpec.model_fields.items():
        if name in AFTER_END:
            continue
        when, happened = _STARTED, "started"
        others = "suspend, budget.parallelism, retention and (upward) the budget's limits"
        if name in CHANGEABLE:
            when, happened = _ENDED, "ended"
            others = "retention, budget.parallelism and (upward) the budget's limits"
        field = f"spec.{info.alias}"
        same = f"self.{field} == oldSelf.{field}"
        if info.default == ():  # in a schema nothing stands for an empty list
            both = f"has(self.{field}) && has(oldSelf.{field})"
            neither = f"!has(self.{field}) && !has(oldSelf.{field})"
            same = f"({neither}) || ({both} && {same})"
        yield Rule(
            f"!({when}) || ({same})",
            f"{field} cannot change: the experiment has {happened}; only {others} can",
            f".{field}",
            "Forbidden",
        )
    for limit in LIMITS:
        new, old = f"self.spec.budget.{limit}", f"oldSelf.spec.budget.{limit}"
        most = f"{new} >= {old}"
        if limit == "duration":  # of another form it is refused by its pattern
            most = f"(!{new}.matches(r'{DURATION}') || duration({new}) >= duration({old}))"
        yield Rule(
            f"!({_STARTED}) || !has({new}) || (has({old}) && {most})",
            f"spec.budget.{limit} {{{new}}} is refused: the experiment has started, and a limit "
            f"can only be raised or removed; it was {{has({old}) ? dyn({old}) : dyn('not set')}}",
            f".spec.budget.{limit}",
            "Forbidden",
        )


class NASExperiment(Model):
    """One neural architecture search: a space, a strategy, an estimation, and a budget."""

    api_version: Literal["kinase.dev/v1alpha1"]
    """API group and version."""
    kind: Literal["NASExperiment"]
    """Kind of the object."""
    metadata: Metadata
    """Name and place of the object."""
    spec: ExperimentSpec
    """What is searched, how, and at what cost."""
    status: ExperimentStatus | None = None
    """Written by the operator and the controller; ignored in a manifest."""

    rules: ClassVar = (
        Rule(
            f"size(self.metadata.name) <= {MAX_NAME} && self.metadata.name.matches('{DNS_LABEL}')",
            "metadata.name '{self.metadata.name}' must be a DNS label (a-z, 0-9, -) of at most "
            f"{MAX_NAME} characters, since the names of the trials are made from it",
            ".metadata.name",
        ),
        *_change_rules(),
    )

    @field_validator("status", mode="before")
    @classmethod
    def _ignored(cls, status: Any) -> None:
        """A status is the cluster's word, and no reason to refuse a manifest."""

    @property
    def directory(self) -> str:
        """Where the experiment lies below the storage's URI: ``namespace/uid``, or
        ``namespace/name`` for a run that no API server gave a UID."""
        return f"{self.metadata.namespace}/{self.metadata.uid or self.metadata.name}"


__all__ = [
    "API_VERSION",
    "RESOURCE_METRICS",
    "TASK_METRICS",
    "Budget",
    "Control",
    "ControllerTemplate",
    "ExperimentSpec",
    "Finalists",
    "Fraction",
    "Measure",
    "Metadata",
    "NASExperiment",
    "Objective",
    "Retention",
    "Storage",
    "TrialTemplate",
]
