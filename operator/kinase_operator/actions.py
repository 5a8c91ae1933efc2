"""Actions of a plan: each is one write that is safe to repeat."""

from __future__ import annotations

from dataclasses import dataclass

from kinase_kube.client import Object, Resource


@dataclass(frozen=True, slots=True)
class Create:
    """Create an object; it is a success if it already exists with the same owner."""

    resource: Resource
    body: Object

    @property
    def name(self) -> str:
        """Name of the object."""
        return str(self.body["metadata"]["name"])


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the object with this UID."""

    resource: Resource
    name: str
    uid: str
    policy: str = "Background"
    """`Foreground` keeps it until its dependents are deleted."""


@dataclass(frozen=True, slots=True)
class Correct:
    """Patch the object with this UID, by a merge patch. The patch is for this version; if the
    object changes, a new plan is made."""

    resource: Resource
    name: str
    uid: str
    version: int
    patch: Object


@dataclass(frozen=True, slots=True)
class Shorten:
    """Set the deadline of a pod in seconds, counted from when its node accepted it."""

    name: str
    uid: str
    seconds: int


@dataclass(frozen=True, slots=True)
class TrialStatus:
    """Write these fields of a trial's status."""

    name: str
    uid: str
    fields: Object


@dataclass(frozen=True, slots=True)
class ExperimentStatus:
    """Apply the operator's part of an experiment's status."""

    fields: Object
    for_controller: bool = False
    """Whether to write on behalf of the controller: under a separate field manager that never
    removes a field, so that the controller can take over later."""


@dataclass(frozen=True, slots=True)
class Emit:
    """Record an Event about the experiment or the trial. A repeated Event is recorded only once."""

    kind: str
    """Normal or Warning."""
    reason: str
    message: str
    about: str = ""
    """Distinguishes Events with the same text."""


@dataclass(frozen=True, slots=True)
class Again:
    """Reconcile again after some seconds, because something depends on the time."""

    seconds: float


Action = Create | Delete | Correct | Shorten | TrialStatus | ExperimentStatus | Emit | Again
