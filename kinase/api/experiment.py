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
    """Limits on what the experiment spends. The search ends at the first limit it reaches. At least
    one of trials, epochs, deviceHours and duration must be set."""

    trials: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Maximum number of trials, including those of the control. Finalists are not counted."""
    epochs: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Maximum number of training epochs in total, including finalists and killed attempts."""
    device_hours: Annotated[float, Field(gt=0, le=1e7)] | None = None
    """Maximum device hours (locally, hours of slots) in total, including finalists and killed
    attempts."""
    duration: Duration | None = None
    """Maximum wall-clock time of the search, such as 30m or 6h. Finalists are trained
    afterwards."""
    parallelism: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Maximum number of trials that run at the same time."""

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
    """The random-search control that the strategy is compared with."""

    share: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    """Share of the trials that are sampled at random and hidden from the strategy. 0 disables the
    control."""


class Finalists(Model):
    """The best candidates, retrained from scratch at full fidelity. The winner among them is
    evaluated on the test data."""

    count: Annotated[int, Field(ge=1, le=100)] = 3
    """Number of candidates to retrain."""
    epochs: Epochs | None = None
    """Training epochs of a finalist. Default: `spec.training.epochs`."""


class Baseline(Model):
    """A hand-designed network, trained like the finalists, for comparison in the report."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    """Name shown in the report."""
    architecture: dict[str, Any]
    """Architecture in the format of `spec.space`. For a `Cell` space, a published architecture can
    be given by name, such as `{named: DARTS_V2}` or, with the preset nasnet, `{named:
    NASNet-A}`."""


def is_shared(uri: str) -> bool:
    """Whether a URI can be reached by every pod of a cluster, not only from one machine."""
    return uri.startswith("s3://")


class Storage(Model):
    """Where the journal, weights and results are stored. Credentials come from the environment or a
    Secret, never from a manifest."""

    uri: Annotated[str, Field(pattern=r"^(file|s3)://.+", max_length=1024)] = "file://runs"
    """Prefix of everything the experiment writes: file://FOLDER or s3://BUCKET/PREFIX."""
    endpoint: Annotated[str, Field(pattern=r"^https?://.+", max_length=1024)] | None = None
    """URL of an S3-compatible server. Default: AWS S3."""
    region: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Region of the bucket. Default: taken from the environment."""
    credentials_secret: Name | None = None
    """Secret that holds AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (cluster only)."""
    role_arn: Annotated[str, Field(pattern=r"^arn:\S+$", max_length=2048)] | None = None
    """IAM role that the pods assume with a token of their ServiceAccount
    (AssumeRoleWithWebIdentity), instead of a Secret (cluster only)."""
    token_audience: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """Audience of that token. It must match the administrator's default store. Default:
    sts.amazonaws.com."""
    sts_endpoint: Annotated[str, Field(pattern=r"^https?://.+", max_length=1024)] | None = None
    """URL of the service that exchanges the token for credentials. It must match the
    administrator's default store. Default: AWS STS."""
    ca_config_map: Name | None = None
    """ConfigMap whose key ca.crt holds the CA certificates for the server (cluster only; a local
    run reads AWS_CA_BUNDLE)."""
    checkpoints: Literal["running", "all"] = "running"
    """Which checkpoints to keep: those of running trials only, or all."""
    weights: Literal["needed", "all"] = "needed"
    """Which trained weights to keep when children inherit them (estimation type Morphism): those
    that an unfinished or future child may need, or all. Weights of finalists are always kept."""

    rules: ClassVar = (
        Rule(
            "!has(self.roleArn) || !has(self.credentialsSecret)",
            "roleArn and credentialsSecret are both set; set only one of them",
            ".roleArn",
        ),
        *(
            Rule(
                f"!has(self.{name}) || has(self.roleArn)",
                f"{name} only applies together with roleArn; set roleArn, or remove {name}",
                f".{name}",
            )
            for name in ("tokenAudience", "stsEndpoint")
        ),
    )

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        if self.role_arn is not None and self.credentials_secret is not None:
            raise ValueError("roleArn and credentialsSecret are both set; set only one of them")
        for name, given in (
            ("tokenAudience", self.token_audience),
            ("stsEndpoint", self.sts_endpoint),
        ):
            if given is not None and self.role_arn is None:
                raise ValueError(
                    f"{name} only applies together with roleArn; set roleArn, or remove {name}"
                )
        return self


class Retention(Model):
    """How long finished objects stay on the cluster. Nothing is removed from the storage."""

    pods: Duration = timedelta(minutes=10)
    """How long the Job, the pod and the logs of a finished attempt are kept."""
    trials: Duration | None = None
    """How long the NASTrial of a finished trial is kept once its result is in the journal. Default:
    as long as the experiment."""
    experiment: Duration | None = None
    """How long a finished experiment is kept. Default: until it is deleted."""


_LOWER = "self.estimation.?lowerFidelity"
_CHILD = "self.estimation.?morphism.?epochsPerChild"
_FINAL_EPOCHS = "self.finalists.?epochs.orValue(self.training.epochs)"
_SEARCH_EPOCHS = f"{_LOWER}.?epochs.orValue(self.training.epochs)"
_NETWORKS = "(self.finalists.count + (has(self.baselines) ? size(self.baselines) : 0))"
_LEAST_EPOCHS = f"{_SEARCH_EPOCHS} + {_NETWORKS} * {_FINAL_EPOCHS}"
"""CEL of what `final_epochs`, `search_epochs` and `_budget_pays_for_one_trial` compute."""
_NO_SHARES = [
    name
    for known in (*TASK_METRICS.values(), RESOURCE_METRICS)
    for name, facts in known.items()
    if not facts.share
]
"""Built-in metrics that are not shares in 0..1."""
_ACCURACY = (
    f"(!(self.objective.metric in {list(dict.fromkeys(_NO_SHARES))}) && "
    "(!has(self.objective.goal) || self.objective.goal == 'maximize'))"
)
"""CEL: the objective can be an accuracy."""


class ExperimentSpec(Model):
    """What to search, how, and at what cost."""

    task: Task = Task()
    """The learning task and its data."""
    training: Training = Training()
    """How to train a network at full fidelity."""
    objective: Objective = Objective()
    """What the search optimizes."""
    space: Space
    """The search space: the set of architectures that can be found."""
    strategy: Strategy
    """The search strategy: how to explore the space."""
    estimation: Estimation = Estimation(type="Full")
    """Performance estimation: how to score a candidate cheaply."""
    budget: Budget
    """Limits on what the experiment spends."""
    control: Control = Control()
    """The random-search control."""
    finalists: Finalists = Finalists()
    """The best candidates, retrained from scratch at full fidelity."""
    baselines: Annotated[tuple[Baseline, ...], Field(max_length=8), Keyed("name")] = ()
    """Hand-designed networks, trained like the finalists and charged to the budget."""
    storage: Storage = Storage()
    """Where the journal, weights and results are stored."""
    controller: ControllerTemplate = ControllerTemplate()
    """How to run the controller on a cluster."""
    trial_template: TrialTemplate = TrialTemplate()
    """How to run a trial."""
    retention: Retention = Retention()
    """How long finished objects stay on the cluster."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Seed of all random choices in the search and the training."""
    suspend: bool = False
    """Whether the experiment is paused: no trial starts, and running trials stop at a
    checkpoint."""

    rules: ClassVar = (
        Rule(
            f"{_LOWER}.?epochs.orValue(1) <= {_FINAL_EPOCHS}",
            f"estimation.lowerFidelity.epochs {{{_LOWER}.?epochs.orValue(1)}} is above the full "
            f"fidelity's {{{_FINAL_EPOCHS}}} (finalists.epochs or training.epochs)",
            ".estimation.lowerFidelity.epochs",
        ),
        Rule(
            "!has(self.task.resolution) || "
            f"{_LOWER}.?resolution.orValue(1) <= self.task.resolution",
            f"estimation.lowerFidelity.resolution {{{_LOWER}.?resolution.orValue(1)}} is above "
            "the full fidelity's {self.task.resolution} (task.resolution)",
            ".estimation.lowerFidelity.resolution",
        ),
        Rule(
            f"self.space.type == 'Cell' || !{_LOWER}.?cells.hasValue()",
            "estimation.lowerFidelity.cells requires the space type Cell; "
            "space.type is {self.space.type}",
            ".estimation.lowerFidelity.cells",
            "Forbidden",
        ),
        Rule(
            f"self.space.type != 'Model' || {_LOWER}.?filterFraction.orValue(1.0) == 1.0",
            "estimation.lowerFidelity.filterFraction is not supported by the space type Model: "
            "an existing network cannot be built narrower",
            ".estimation.lowerFidelity.filterFraction",
            "Forbidden",
        ),
        Rule(
            "self.task.type != 'Regression' || self.training.labelSmoothing == 0.0",
            "training.labelSmoothing is for classes and labels; task.type is Regression: remove it",
            ".training.labelSmoothing",
        ),
        Rule(
            f"{_CHILD}.orValue(1) <= self.training.epochs",
            f"estimation.morphism.epochsPerChild {{{_CHILD}.orValue(1)}} is above training.epochs "
            "{self.training.epochs}: a child needs no more epochs than a network trained from "
            "scratch",
            ".estimation.morphism.epochsPerChild",
        ),
        *objective_rules(),
        Rule(
            "self.strategy.type != 'LEMONADE' || (has(self.objective.also) && "
            f"self.objective.also.exists(m, m.metric in {list(RESOURCE_METRICS)}))",
            "strategy.type LEMONADE trades accuracy against a metric that is known before "
            f"training: objective.also must name one of {', '.join(RESOURCE_METRICS)}",
            ".objective.also",
            "Required",
        ),
        Rule(
            "self.strategy.type != 'LEMONADE' || "
            f"!(self.objective.metric in {list(RESOURCE_METRICS)})",
            "objective.metric '{self.objective.metric}' is known before training, but "
            "strategy.type LEMONADE needs a metric that training measures: move it to "
            "objective.also",
            ".objective.metric",
        ),
        Rule(
            "self.strategy.type != 'EAS' || self.space.type in ['Chain', 'Custom']",
            "strategy.type EAS requires the space type Chain; space.type is {self.space.type}",
            ".strategy.type",
        ),
        Rule(
            "self.strategy.type != 'EAS' || "
            f"self.strategy.?eas.?reward.orValue('tan') != 'tan' || {_ACCURACY}",
            "strategy.eas.reward tan requires an accuracy that is maximized; for "
            "{self.objective.metric} use reward: identity",
            ".strategy.eas.reward",
        ),
        Rule(
            "self.strategy.type != 'PathLevel' || self.space.type in ['Tree', 'Custom']",
            "strategy.type PathLevel requires the space type Tree; space.type is {self.space.type}",
            ".strategy.type",
        ),
        Rule(
            "self.strategy.type != 'PathLevel' || "
            f"self.strategy.?pathLevel.?reward.orValue('tan') != 'tan' || {_ACCURACY}",
            "strategy.pathLevel.reward tan requires an accuracy that is maximized; for "
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
        """Approximate number of trials that the budget pays for, including the control's. None if
        only time is limited."""
        found = [self.budget.trials] if self.budget.trials is not None else []
        if self.budget.epochs is not None:
            found.append((self.budget.epochs - self.epochs_for(0)) // self._epochs_each)
        return min(found) if found else None

    @property
    def search_trials(self) -> int | None:
        """The same without the control's trials."""
        paid = self.paid_trials
        return None if paid is None else round(paid * (1 - self.control.share))

    @property
    def _epochs_each(self) -> int:
        morphism = self.estimation.morphism
        return (morphism.epochs_per_child if morphism else None) or self.search_epochs

    def epochs_for(self, trials: int) -> int:
        """Epochs that a number of trials needs, plus those of the finalists and baselines."""
        networks = self.finalists.count + len(self.baselines)
        return networks * self.final_epochs + trials * self._epochs_each

    def sized(self) -> Self:
        """A copy with the defaults filled in that depend on the budget. They are fixed when an
        experiment starts: its record keeps them, so raising the budget does not change them."""
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
                "estimation.lowerFidelity.cells requires the space type Cell; "
                f"space.type is {self.space.type}"
            )
        if lower.filter_fraction != 1 and self.space.model is not None:
            raise ValueError(
                "estimation.lowerFidelity.filterFraction is not supported by the space type Model: "
                "an existing network cannot be built narrower"
            )
        return self

    @model_validator(mode="after")
    def _child_below_full(self) -> Self:
        morphism = self.estimation.morphism
        epochs = morphism.epochs_per_child if morphism else None
        if epochs is not None and epochs > self.training.epochs:
            raise ValueError(
                f"estimation.morphism.epochsPerChild {epochs} is above training.epochs "
                f"{self.training.epochs}: a child needs no more epochs than a network trained "
                "from scratch"
            )
        return self

    @model_validator(mode="after")
    def _smooth_labels(self) -> Self:
        if self.task.type == "Regression" and self.training.label_smoothing:
            raise ValueError(
                "training.labelSmoothing is for classes and labels; task.type is Regression: "
                "remove it"
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
                f"objective.metric {self.objective.metric!r} is known before training, but "
                "strategy.type LEMONADE needs a metric that training measures: move it to "
                "objective.also"
            )
        named = {measure.metric for measure in self.objective.also}
        if named.isdisjoint(RESOURCE_METRICS):
            raise ValueError(
                "strategy.type LEMONADE trades accuracy against a metric that is known before "
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
                f"strategy.type {strategy.type} requires the space type {space}; "
                f"space.type is {self.space.type}"
            )
        metric, goal = self.objective.metric, self.objective.goal
        if policy.reward == "tan" and (goal == "minimize" or metric in _NO_SHARES):
            raise ValueError(
                f"strategy.{field}.reward tan requires an accuracy that is maximized; for {metric} "
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
    """Name and namespace of the object. Other Kubernetes metadata is accepted and ignored."""

    model_config = {**Model.model_config, "extra": "ignore"}

    name: Name
    """Name of the experiment: a DNS label of at most 46 characters."""
    namespace: Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)] = "default"
    """Namespace of the experiment."""
    uid: Annotated[str, Field(pattern=r"^[0-9a-zA-Z-]{1,64}$")] | None = None
    """Set by the API server. Local runs have no UID."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations."""


CHANGEABLE = ("suspend", "budget", "retention")
"""Spec fields that can change after the experiment has started. Limits of the budget can only be
raised. After it has ended only `AFTER_END` can change; raising a limit then resumes the search."""
AFTER_END = ("budget", "retention")
LIMITS = ("trials", "epochs", "deviceHours", "duration")
"""The budget's limits, by their names in a manifest."""

_ENDED = "oldSelf.?status.?completionTime.hasValue()"
_STARTED = f"oldSelf.?status.?startTime.hasValue() || {_ENDED}"


def _change_rules() -> Iterator[Rule]:
    """The rules by which the API server decides what a user can change, and when."""
    for name, info in ExperimentSpec.model_fields.items():
        if name in AFTER_END:
            continue
        when, happened = _STARTED, "started"
        others = "suspend, budget.parallelism, retention and (upward) the limits of budget"
        if name in CHANGEABLE:
            when, happened = _ENDED, "ended"
            others = "retention, budget.parallelism and (upward) the limits of budget"
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
            f"spec.budget.{limit} {{{new}}} is invalid: the experiment has started, and a limit "
            f"can only be raised or removed; it was {{has({old}) ? dyn({old}) : dyn('not set')}}",
            f".spec.budget.{limit}",
            "Forbidden",
        )


class NASExperiment(Model):
    """A neural architecture search: a search space, a search strategy, a performance estimation,
    and a budget."""

    api_version: Literal["kinase.dev/v1alpha1"]
    """API group and version."""
    kind: Literal["NASExperiment"]
    """Kind of the object."""
    metadata: Metadata
    """Name and namespace of the object."""
    spec: ExperimentSpec
    """What to search, how, and at what cost."""
    status: ExperimentStatus | None = None
    """Written by the operator and the controller; ignored in a manifest."""

    rules: ClassVar = (
        Rule(
            f"size(self.metadata.name) <= {MAX_NAME} && self.metadata.name.matches('{DNS_LABEL}')",
            "metadata.name '{self.metadata.name}' must be a DNS label (a-z, 0-9, -) of at most "
            f"{MAX_NAME} characters, because trial names are derived from it",
            ".metadata.name",
        ),
        *_change_rules(),
    )

    @field_validator("status", mode="before")
    @classmethod
    def _ignored(cls, status: Any) -> None:
        """Ignore the status: the cluster writes it, so it never makes a manifest invalid."""

    @property
    def directory(self) -> str:
        """Path of the experiment below the storage's URI: ``namespace/uid``, or ``namespace/name``
        for a local run, which has no UID."""
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
