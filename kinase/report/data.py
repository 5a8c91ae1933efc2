"""The contents of a report: plain values, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kinase.api.trial import Architecture, Confusion, Cost, Kind, Outcome, Point
from kinase.report.rungs import ReportLook, ReportRung, Step, Stopping, Stretch
from kinase.report.supernet import ReportSupernet
from kinase.space import Sketch


@dataclass(frozen=True, slots=True)
class ReportTrial:
    """A trial of the experiment."""

    number: int
    kind: Kind
    outcome: Outcome | None
    """None while it runs."""
    architecture: Architecture
    key: str
    """Canonical hash."""
    metrics: dict[str, float]
    """Metrics, including `params` and `macs`."""
    cost: Cost
    fidelity: str
    """Short text: `10 epochs, 50 % of the data`."""
    parents: tuple[int, ...] = ()
    operation: str = ""
    learning_rate: float = 1.0
    """Factor on the learning rate."""
    inherited: str = ""
    """Short text of the inheritance: `from trial 7 by 2 morphisms`."""
    curve: tuple[Point, ...] = ()
    order: int | None = None
    """Position in the order in which trials ended; None while it runs."""
    message: str = ""
    label: str = ""
    """Name of a baseline."""
    morphisms: tuple[str, ...] = ()
    """Short texts of the network morphisms from its first parent, if any."""
    asked: float | None = None
    """Seconds that the experiment had run when it was proposed."""
    ended: float | None = None
    """The same when it ended; None while it runs."""
    rungs: tuple[ReportRung, ...] = ()
    """The rungs whose end it has reached with a value, in order; none without a ladder."""
    first: int | None = None
    """The rung at which it began; None without a ladder, and for a child that inherits, whose
    ladder is another."""
    resting: bool = False
    """Whether it is paused, and waits for a decision."""
    excluded: bool = False
    """Whether its network is above a limit of the objective, so that it was never trained."""
    pauses: tuple[int, ...] = ()
    """Epochs of `curve` after which it paused."""
    stretches: tuple[Stretch, ...] = ()
    """When it trained, in order; the last one may be under way."""
    ruled: bool = False
    """Whether a rule stopped it by its learning curve."""
    spared: bool = False
    """Whether a rule would have stopped it, and it was trained on."""
    looks: tuple[ReportLook, ...] = ()
    """What a rule with probabilities expected of it, in order."""

    @property
    def rung(self) -> int:
        """The highest rung whose end it has reached; -1 for none, or without a ladder."""
        return self.rungs[-1].rung if self.rungs else -1


@dataclass(frozen=True, slots=True)
class Winner:
    """The final network."""

    trial: int
    """Number of the finalist's trial."""
    found_by: int
    """Number of the search's trial that found the architecture."""
    architecture: Architecture
    sketch: Sketch
    metrics: dict[str, float]
    """Validation metrics, `params` and `macs`."""
    test: dict[str, float]
    """Test metrics; empty if not measured yet."""
    model_uri: str
    load_lines: tuple[str, ...]
    """Lines of Python that load the model."""
    confusion: Confusion | None = None
    """Confusion matrix of the test split: samples by true (rows) and predicted class, or None."""
    classes: tuple[str, ...] = ()
    """Names of the classes."""
    tests: int = 1
    """Number of networks scored on the test split: more than one if the search was resumed after
    its end and found another winner."""


@dataclass(frozen=True, slots=True)
class ProtocolItem:
    """A line of the best-practice checklist (Lindauer & Hutter 2020; Yang et al. 2020)."""

    question: str
    answer: str
    satisfied: bool | None
    """None if the answer is not yes or no."""


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything the report shows."""

    name: str
    namespace: str
    phase: str
    """Running, Suspended, Succeeded or Failed."""
    reason: str
    """Why it ended, for people."""
    metric: str
    goal: str
    """maximize or minimize."""
    target: float | None
    also: tuple[tuple[str, str], ...]
    """(metric, goal) of the further objectives."""
    summary: tuple[tuple[str, str], ...]
    """(label, value) of the facts at the top: space, size, strategy, estimation, data set."""
    trials: tuple[ReportTrial, ...]
    winner: Winner | None
    cost: dict[str, Cost]
    """Cost by kind of trial (supernet, search, control, finalists, baselines), and `lost` with
    killed attempts. The sum is the charged cost."""
    budget: tuple[tuple[str, str, str], ...]
    """(limit, spent, of) for each limit of the budget."""
    protocol: tuple[ProtocolItem, ...]
    spec: dict[str, Any] = field(default_factory=dict)
    """The manifest's spec as run, with defaults."""
    store_uri: str = ""
    main_metric: str | None = None
    """The task's main metric, if it is not an objective; see `kinase.report.task.main_metric`."""
    checksum: str = ""
    """Checksum of the data and its split, if the trainer reports one."""
    validation: int = 0
    """Samples of the validation split; 0 if unknown."""
    elapsed: float = 0.0
    """Seconds that the experiment has run."""
    ladder: tuple[Step, ...] = ()
    """The rungs of the ladder, the full fidelity last; empty where trials are trained at once."""
    whole: Cost = Cost()
    """Epochs and sample passes of a training in full."""
    stopping: Stopping | None = None
    """How far the rule that stops trials by their curves can be trusted; None without a rule."""
    supernet: ReportSupernet | None = None
    """The supernet of a one-shot search; None without one."""

    @property
    def laddered(self) -> bool:
        """Whether trials are trained in several rungs."""
        return sum(step.rung >= 0 for step in self.ladder) > 1

    @property
    def tested(self) -> dict[str, float]:
        """The main test metrics of the winner: the objectives and the task's main metric, or
        otherwise the first metric that is not the loss."""
        test = self.winner.test if self.winner is not None else {}
        wanted = [self.metric, *(metric for metric, _ in self.also), self.main_metric or ""]
        names = [f"test_{metric.removeprefix('val_')}" for metric in wanted]
        others = [name for name in test if not name.endswith("loss")]
        shown = [name for name in names if name in test] or others[:1]
        return {name: test[name] for name in shown}
