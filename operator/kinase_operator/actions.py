"""What a plan may decide: each is one write that is safe to repeat."""

from __future__ import annotations

from dataclasses import dataclass

from kinase_kube.client import Object, Resource


@dataclass(frozen=True, slots=True)
class Create:
    """Make an object; if it exists with the same owner, that is success."""

    resource: Resource
    body: Object

    @property
    def name(self) -> str:
        """Name of the object."""
        return str(self.body["metadata"]["name"])


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the object of this UID."""

    resource: Resource
    name: str
    uid: str
    policy: str = "Background"
    """`Foreground` keeps it until what it owns is gone."""


@dataclass(frozen=True, slots=True)
class Correct:
    """Change the object of this UID to what is wanted, by a merge patch. It was decided from this
    version; after another change it is decided again."""

    resource: Resource
    name: str
    uid: str
    version: int
    patch: Object


@dataclass(frozen=True, slots=True)
class Shorten:
    """Have a pod's node end it so many seconds after it took it on."""

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
    """Whether this is said in the controller's place: under a field manager of its own, which
    never takes a field back, so that the controller does when it is there again."""


@dataclass(frozen=True, slots=True)
class Emit:
    """Record an Event about the experiment or the trial; the same one twice is one."""

    kind: str
    """Normal or Warning."""
    reason: str
    message: str
    about: str = ""
    """What tells two Events apart that say the same."""


@dataclass(frozen=True, slots=True)
class Again:
    """Look again in so many seconds, for something happens by the clock alone."""

    seconds: float


Action = Create | Delete | Correct | Shorten | TrialStatus | ExperimentStatus | Emit | Again
