"""`NASExperiment`: what a user writes."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from kinase.api import changes
from kinase.api._base import DNS_LABEL, MAX_NAME, Model, Name, Rule
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
        *changes.rules(),
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
