"""`spec.objective`: what the search optimises, and which way each metric is better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kinase.api._base import Keyed, Metric, Model, Rule

Goal = Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a metric before anything is measured."""

    goal: Goal
    """Which way is better."""
    low: float
    """Its least value."""
    high: float | None = None
    """Its greatest value; None where there is none."""

    @property
    def better(self) -> str:
        """Which way is better, in words."""
        return "more is better" if self.goal == "maximize" else "less is better"

    @property
    def text(self) -> str:
        """Its range, in words."""
        return f"{self.low:g} or more" if self.high is None else f"a share in {self._between}"

    @property
    def _between(self) -> str:
        return f"{self.low:g}..{self.high:g}"

    def reachable(self, value: float) -> bool:
        """Whether a search can reach a value, and not every network has it already."""
        above = value > self.low if self.goal == "maximize" else value >= self.low
        return above and (self.high is None or value <= self.high)

    def cel(self, value: str) -> str:
        """`reachable` in CEL."""
        above = ">" if self.goal == "maximize" else ">="
        most = "" if self.high is None else f" && {value} <= {self.high:.1f}"
        return f"({value} {above} {self.low:.1f}{most})"


RESOURCE_METRICS: dict[str, Known] = {
    "params": Known("minimize", 1),
    "macs": Known("minimize", 1),
}
"""What is known of an architecture before any training."""
_COUNTED = f"{' and '.join(RESOURCE_METRICS)} are counted"
TASK_METRICS: dict[str, dict[str, Known]] = {
    "Classification": {
        "val_accuracy": Known("maximize", 0, 1),
        "val_loss": Known("minimize", 0),
    },
}
"""What the validation part of each task of ours measures."""


def known_metrics(task: str) -> dict[str, Known]:
    """What is known of the metrics of a task: all of them where the task is ours, else those
    that are counted."""
    return {**TASK_METRICS.get(task, {}), **RESOURCE_METRICS}


@dataclass(frozen=True, slots=True)
class Aim:
    """One objective of a search, its direction settled."""

    metric: str
    goal: Goal
    enough: float | None = None
    """See `Measure.enough`."""


class Undirected(ValueError):
    """Nothing says which way a metric is better, or two say the opposite."""

    def __init__(self, field: str, message: str) -> None:
        """`field` is the field at fault, such as ``objective.goal``."""
        super().__init__(f"{field} {message}")
        self.field = field
        self.message = message


def _alike(metrics: Mapping[str, Known]) -> dict[Known, list[str]]:
    """Metrics of which the same is known."""
    found: dict[Known, list[str]] = {}
    for name, known in metrics.items():
        found.setdefault(known, []).append(name)
    return found


def _counted_rules(value: str) -> Iterator[Rule]:
    """What holds of a goal and of the field `value` where the metric is a counted one."""
    for known, names in _alike(RESOURCE_METRICS).items():
        other = f"!(self.metric in {names})"
        yield Rule(
            f"!has(self.goal) || {other} || self.goal == '{known.goal}'",
            f"goal {{self.goal}} contradicts metric {{self.metric}}, of which {known.better}: "
            f"leave goal out, or set it to {known.goal}",
            ".goal",
        )
        yield Rule(
            f"!has(self.{value}) || {other} || {known.cel(f'self.{value}')}",
            f"{value} {{self.{value}}} is out of reach: {{self.metric}} is {known.text}",
            f".{value}",
        )


class Measure(Model):
    """A metric and which way is better."""

    metric: Metric
    """Name of the metric: params, macs, or one that the task measures."""
    goal: Goal | None = None
    """Which way is better. Default: as the metric has it. Only for a metric of another package's
    task or of your own trainer it may have to be set."""
    enough: float | None = None
    """Value beyond which better is no better, such as a number of parameters that fits the
    device. Default: more is always better."""

    rules: ClassVar = tuple(_counted_rules("enough"))

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_known(self.metric, self.goal, self.enough, "enough", RESOURCE_METRICS)
        return self


class Objective(Model):
    """What the search optimises."""

    metric: Metric = "val_accuracy"
    """Metric of the validation part, or params or macs. Classification: val_accuracy (share in
    0..1), val_loss."""
    goal: Goal | None = None
    """Which way is better. Default: as the metric has it (val_accuracy: maximize; val_loss, params
    and macs: minimize). Only for a metric of another package's task or of your own trainer it may
    have to be set."""
    target: float | None = None
    """The search ends when a trial's value reaches this. Default: no target."""
    also: Annotated[tuple[Measure, ...], Field(max_length=4), Keyed("metric")] = ()
    """Further objectives: candidates are then ranked by Pareto dominance. `params` and `macs`
    (multiply-adds of one sample) are counted on the network of full fidelity."""

    rules: ClassVar = (
        Rule(
            "!has(self.also) || !self.also.exists(m, m.metric == self.metric)",
            "metric '{self.metric}' is named twice, here and in also",
            ".metric",
        ),
        *_counted_rules("target"),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(measure.metric == self.metric for measure in self.also):
            raise ValueError(f"metric {self.metric!r} is named twice, here and in also")
        _check_known(self.metric, self.goal, self.target, "target", RESOURCE_METRICS)
        return self


def _check_known(
    metric: str,
    goal: Goal | None,
    value: float | None,
    field: str,
    known: Mapping[str, Known],
    prefix: str = "",
) -> None:
    """Refuse a goal that contradicts the metric, and a value of `field` that it cannot reach."""
    facts = known.get(metric)
    if facts is None:
        return
    if goal is not None and goal != facts.goal:
        raise ValueError(
            f"{prefix}goal {goal} contradicts metric {metric}, of which {facts.better}: "
            f"leave goal out, or set it to {facts.goal}"
        )
    if value is not None and not facts.reachable(value):
        raise ValueError(f"{prefix}{field} {value} is out of reach: {metric} is {facts.text}")


def check_objective(objective: Objective, task: str) -> None:
    """Check an objective against what is known of the metrics of a task of ours.

    Raises:
        ValueError: a metric that the task does not measure, a goal that contradicts its metric, or
            a value that cannot be reached.
    """
    measured = TASK_METRICS.get(task)
    if measured is None:  # another package's task: the trainer knows its metrics
        return
    known = known_metrics(task)
    if objective.metric not in known:
        raise ValueError(
            f"objective.metric {objective.metric!r} is not measured by task.type {task}; "
            f"it measures {', '.join(measured)}, and {_COUNTED}"
        )
    for measure in objective.also:
        if measure.metric not in known:
            raise ValueError(
                f"objective.also metric {measure.metric!r} is neither measured by task.type "
                f"{task} ({', '.join(measured)}) nor one of {', '.join(RESOURCE_METRICS)}"
            )
    main, also = objective, objective.also
    _check_known(main.metric, main.goal, main.target, "target", measured, "objective.")
    for each in also:
        _check_known(each.metric, each.goal, each.enough, "enough", measured, "objective.also.")


def objective_rules() -> Iterator[Rule]:
    """The twins of `check_objective` for the whole spec."""
    for task, measured in TASK_METRICS.items():
        ours = f"self.task.type != '{task}'"
        yield Rule(
            f"{ours} || self.objective.metric in {[*measured, *RESOURCE_METRICS]}",
            f"objective.metric '{{self.objective.metric}}' is not measured by task.type "
            f"{task}; it measures {', '.join(measured)}, and {_COUNTED}",
            ".objective.metric",
        )
        yield Rule(
            f"{ours} || !has(self.objective.also) || "
            f"self.objective.also.all(m, m.metric in {[*measured, *RESOURCE_METRICS]})",
            "objective.also has a metric that is neither measured by task.type "
            f"{task} ({', '.join(measured)}) nor one of {', '.join(RESOURCE_METRICS)}: "
            "{self.objective.also.map(m, m.metric)}",
            ".objective.also",
        )
        for name, known in measured.items():
            yield Rule(
                f"{ours} || !has(self.objective.goal) || self.objective.metric != '{name}' || "
                f"self.objective.goal == '{known.goal}'",
                f"objective.goal {{self.objective.goal}} contradicts metric {name}, of which "
                f"{known.better}: leave goal out, or set it to {known.goal}",
                ".objective.goal",
            )
            yield Rule(
                f"{ours} || !has(self.objective.target) || self.objective.metric != '{name}' || "
                f"{known.cel('self.objective.target')}",
                f"objective.target {{self.objective.target}} is out of reach: "
                f"{name} is {known.text}",
                ".objective.target",
            )
            yield Rule(
                f"{ours} || !has(self.objective.also) || self.objective.also.all(m, "
                f"m.metric != '{name}' || !has(m.goal) || m.goal == '{known.goal}')",
                f"objective.also has a goal that contradicts metric {name}, of which "
                f"{known.better}: leave goal out, or set it to {known.goal}",
                ".objective.also",
            )
            yield Rule(
                f"{ours} || !has(self.objective.also) || self.objective.also.all(m, "
                f"m.metric != '{name}' || !has(m.enough) || {known.cel('m.enough')})",
                f"objective.also has an enough that is out of reach: {name} is {known.text}",
                ".objective.also",
            )


def goal_of(task: str, metric: str, told: Mapping[str, Goal] | None = None) -> Goal | None:
    """Which way a metric is better: as the task of ours has it, else as the trainer tells; None
    where neither says."""
    known = known_metrics(task).get(metric)
    return known.goal if known is not None else (told or {}).get(metric)


def aims(
    objective: Objective, task: str, told: Mapping[str, Goal] | None = None
) -> tuple[Aim, ...]:
    """The objectives of a search, each with its direction; the first is the main one.

    Args:
        objective: as the manifest has it.
        task: `spec.task.type`.
        told: what the trainer says of its metrics.

    Raises:
        Undirected: nothing says which way a metric is better, or the manifest contradicts what
            does.
    """
    settled = []
    named: tuple[Objective | Measure, ...] = (objective, *objective.also)
    for place, measure in enumerate(named):
        field = "objective.goal" if place == 0 else f"objective.also[{place - 1}].goal"
        metric, goal = measure.metric, goal_of(task, measure.metric, told)
        if goal is None and measure.goal is None:
            raise Undirected(
                field,
                f"is not set, and neither task.type {task} nor its trainer says which way "
                f"{metric} is better; set it to maximize or minimize",
            )
        if goal is not None and measure.goal not in (None, goal):
            raise Undirected(
                field,
                f"{measure.goal} contradicts the trainer, for which {metric} is to {goal}; "
                f"leave it out, or set it to {goal}",
            )
        enough = measure.enough if isinstance(measure, Measure) else None
        settled.append(Aim(metric, measure.goal or goal or "minimize", enough))
    return tuple(settled)
