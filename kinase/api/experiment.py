"""`NASExperiment`: what a user writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from kinase.api._base import DNS_LABEL, DURATION, MAX_NAME, Model, Name, Rule
from kinase.api.spec import ExperimentSpec
from kinase.api.status import ExperimentStatus


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
        if info.default in ((), None):  # in a schema nothing stands for an empty list or null
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
