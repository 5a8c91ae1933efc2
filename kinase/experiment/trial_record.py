"""All that the journal says of one trial."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kinase.api.fidelity import Fidelity, Grant
from kinase.api.inheritance import Inheritance, Inherited
from kinase.api.slice import Slice
from kinase.api.supernet import Derived, SupernetPlan
from kinase.api.trial import Architecture, Cost, Kind, Outcome
from kinase.experiment import artifacts
from kinase.experiment.entries import Rested
from kinase.words import counted, was

RANK_CHECK = "rank check"
"""Operation of the trials that are trained as finalists to see how well a supernet ranks."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a rule expected of a trial that rested within its grant."""

    grant: Grant
    """The grant within which it rested."""
    done: int
    """Epochs that it had done."""
    probability: float
    """That it would not reach `bar` at the end of the grant."""
    bar: float
    """The value of the main metric that it had to reach."""
    predicted: float | None
    """The value that was expected."""
    stopped: bool
    """Whether it was stopped."""


@dataclass(slots=True)
class TrialRecord:
    """All that is known of one trial."""

    number: int
    kind: Kind
    architecture: Architecture
    key: str
    grant: Grant
    """What it may train, or trained last."""
    seed: int
    resources: dict[str, float]
    parents: tuple[int, ...]
    operation: str
    inherit: Inheritance | None = None
    """Weights that it begins with."""
    learning_rate: float = 1.0
    """Factor on the learning rate."""
    measure: tuple[str, ...] = ()
    """Zero-cost proxies to measure."""
    plan: SupernetPlan | None = None
    """How a supernet is trained; None for a trial of one architecture."""
    slice: Slice | None = None
    """The supernet whose weights it takes."""
    excluded: bool = False
    """Whether its network is above a limit of the objective, so that it is no trial of the
    budget."""
    derived: tuple[Derived, ...] = ()
    """Of a supernet: the architectures that its choices have led to, best first."""
    attempt: int = 1
    """The attempt that is under way, or was the last."""
    lost: int = 1
    """Attempts lost, and the one that is under way."""
    crashes: int = 0
    """Attempts lost that count against `maxRetries`."""
    begun: int = 0
    """Epochs begun at this fidelity by earlier attempts."""
    done: int = 0
    """Epochs of it that need not be run again."""
    stretch: int = 0
    """Epochs of it that were done at its last rest, where its stretch begins."""
    repeated: int = 0
    """Epochs that had to be trained again, because their checkpoint was gone."""
    resting: bool = False
    """Whether it waits for a decision, and holds no slot."""
    restarts: int = 0
    """How often it began again at another fidelity."""
    before: Cost = Cost()
    """What was spent at the fidelities before."""
    rung: int = -1
    """The highest rung in which it has a value."""
    rests: list[tuple[Grant, Rested]] = field(default_factory=list)
    """Its rests, in order, each with the grant under which it was."""
    resumed: list[float] = field(default_factory=list)
    """Seconds that the experiment had run when it was trained on, for each time."""
    outcome: Outcome | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    cost: Cost = Cost()
    curve: tuple[float | None, ...] = ()
    message: str = ""
    remark: str = ""
    """What its trainer remarked when it rested last."""
    facts: dict[str, Any] = field(default_factory=dict)
    inherited: Inherited | None = None
    """What it began with."""
    kept_bytes: int = 0
    """Size of what it kept last for its children."""
    kept_in: str = ""
    """Folder below its prefix in which that is; empty: the prefix itself."""
    kept: dict[str, int] = field(default_factory=dict)
    """All that it has kept for its children: paths below the experiment's store, in order, with
    their sizes in bytes."""
    predicted: float | None = None
    """What was expected of it when it was stopped."""
    probability: float | None = None
    """The probability on which the rule acted that stopped it."""
    looks: list[Look] = field(default_factory=list)
    """What a rule with probabilities found about it, in order."""
    ruled: bool = False
    """Whether it was stopped at a look, within its grant."""
    spared: bool = False
    """Whether a rule would have stopped it, and it continued to show what it becomes."""
    gone: bool = False
    """Whether that was deleted when the search was over, which continues since."""
    order: int | None = None
    """Position among the trials in the order in which they ended."""
    asked: float = 0.0
    """Seconds that the experiment had run when it was decided on."""
    ended: float | None = None
    """Seconds that the experiment had run when it ended."""

    @property
    def fidelity(self) -> Fidelity:
        """How much is spent on it, or was last."""
        return self.grant.fidelity

    @property
    def checks(self) -> bool:
        """Whether it is trained to see how well a supernet ranks."""
        return self.kind is Kind.FINAL and self.operation == RANK_CHECK

    @property
    def prefix(self) -> str:
        """Path below the experiment's store of what it leaves at this fidelity."""
        return artifacts.prefix(self.number, self.restarts)

    @property
    def weights(self) -> str:
        """Path below the experiment's store of the weights that it kept last, if it kept any."""
        return artifacts.folder(self.prefix, self.kept_in)

    def keep(self, size: int, folder: str) -> None:
        """It has kept so many bytes for its children, in a folder below its prefix."""
        self.kept_bytes, self.kept_in = size, folder
        if size:
            self.kept[self.weights] = size

    @property
    def paused(self) -> bool:
        """Whether it rests at the end of its grant, not at a look within it."""
        return self.resting and self.done >= self.grant.until

    @property
    def measured(self) -> float | None:
        """Seconds that the experiment had run when it had its latest value."""
        if self.rests and self.outcome is not Outcome.SUCCEEDED:
            return self.rests[-1][1].elapsed
        return self.ended

    @property
    def stop(self) -> int:
        """Epochs at which its stretch ends: the next look, or the end of its grant. It is the same
        for each attempt, however far the one before got."""
        return self.grant.stop_after(self.stretch)

    @property
    def to_train(self) -> int:
        """Epochs that its grant pays for and that are still to be trained."""
        return 0 if self.outcome is not None else max(0, self.grant.until - self.done)

    @property
    def committed(self) -> int:
        """Epochs that the budget is charged for: those spent, or for a trial that has not ended
        those begun and those that its grant still pays for."""
        if self.outcome is not None:
            return self.cost.epochs
        return self.before.epochs + self.begun + self.to_train

    @property
    def said(self) -> str:
        """What there is to say of it: its message, what its trainer remarked, and whether epochs
        were lost."""
        remark = "" if self.remark in self.message else self.remark
        said = "; ".join(filter(None, (self.message, remark)))
        if not self.repeated:
            return said
        epochs = f"{counted(self.repeated, 'epoch')} {was(self.repeated)}"
        lost = f"{epochs} trained and charged again, because the checkpoint was gone"
        return "; ".join(filter(None, (said, lost)))

    @property
    def values(self) -> dict[str, float]:
        """Everything measured or counted."""
        return {**self.resources, **self.metrics}
