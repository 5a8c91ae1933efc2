"""What a report shows, gathered from an experiment: plain values, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kinase.api.trial import Architecture, Confusion, Cost, Kind, Outcome, Point
from kinase.report.rungs import ReportRung
from kinase.space import Sketch


@dataclass(frozen=True, slots=True)
class ReportTrial:
    """One trial of the experiment."""

    number: int
    kind: Kind
    outcome: Outcome | None
    """None while it runs."""
    architecture: Architecture
    key: str
    """Canonical hash."""
    metrics: dict[str, float]
    """What was measured, `params` and `macs` included."""
    cost: Cost
    fidelity: str
    """Short text: `10 epochs, 50 % of the data`."""
    parents: tuple[int, ...] = ()
    operation: str = ""
    learning_rate: float = 1.0
    """Factor on the learning rate."""
    inherited: str = ""
    """Short text of what the network began with: `from trial 7 by 2 morphisms`."""
    curve: tuple[Point, ...] = ()
    order: int | None = None
    """Position in the order in which trials ended; None while it runs."""
    message: str = ""
    label: str = ""
    """Name of a baseline."""
    morphisms: tuple[str, ...] = ()
    """Short texts of the network morphisms that made it from its first parent, where they did."""
    asked: float | None = None
    """Seconds that the experiment had run when it was decided on."""
    ended: float | None = None
    """The same when it ended; None while it runs."""
    rungs: tuple[ReportRung, ...] = ()
    """The rungs at whose end it paused, in order; none without a ladder."""


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
    """Test metrics; empty if they are still to come."""
    model_uri: str
    load_lines: tuple[str, ...]
    """Lines of Python that load the model."""
    confusion: Confusion | None = None
    """Samples of the test part by true (rows) and predicted class; None where there is none."""
    classes: tuple[str, ...] = ()
    """Names of the classes."""
    tests: int = 1
    """Networks that were scored on the test part: more than one where the search went on after its
    end and found another winner."""


@dataclass(frozen=True, slots=True)
class ProtocolItem:
    """One line of the best-practice checklist (Lindauer & Hutter 2020; Yang et al. 2020)."""

    question: str
    answer: str
    satisfied: bool | None
    """None where the answer is neither yes nor no."""


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything the report shows."""

    name: str
    namespace: str
    phase: str
    """Running, Suspended, Succeeded or Failed."""
    reason: str
    """Why it ended, for a person."""
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
    """Spent by kind of trial (search, control, finalists, baselines) and `lost` with killed
    attempts; their sum is what the budget was charged."""
    budget: tuple[tuple[str, str, str], ...]
    """(limit, spent, of) for each limit of the budget."""
    protocol: tuple[ProtocolItem, ...]
    spec: dict[str, Any] = field(default_factory=dict)
    """The manifest's spec as run, defaults filled in."""
    store_uri: str = ""
    main_metric: str | None = None
    """The task's main metric, where it is no objective; see `kinase.report.task.main_metric`."""
    checksum: str = ""
    """Of the data and its division, where the trainer reports one."""
    validation: int = 0
    """Samples of the validation part; 0 if that is not known."""
    elapsed: float = 0.0
    """Seconds that the experiment has run."""

    @property
    def tested(self) -> dict[str, float]:
        """What of the winner's test comes first: the objectives and the task's main metric, or else
        the first metric that is not the loss."""
        test = self.winner.test if self.winner is not None else {}
        wanted = [self.metric, *(metric for metric, _ in self.also), self.main_metric or ""]
        names = [f"test_{metric.removeprefix('val_')}" for metric in wanted]
        others = [name for name in test if not name.endswith("loss")]
        shown = [name for name in names if name in test] or others[:1]
        return {name: test[name] for name in shown}
