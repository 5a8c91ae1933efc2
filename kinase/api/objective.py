"""`spec.objective`: what the search optimizes, and in which direction each metric is better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kinase.api._base import Keyed, Metric, Model, Rule
from kinase.api.within import Limit

Goal = Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known about a metric before anything is measured."""

    goal: Goal
    """Which way is better."""
    low: float | None
    """Its smallest possible value, or None if it is unbounded."""
    high: float | None = None
    """Its largest possible value, or None if it is unbounded."""

    @property
    def better(self) -> str:
        """Which way is better, in words."""
        return "more is better" if self.goal == "maximize" else "less is better"

    @property
    def share(self) -> bool:
        """Whether it is a share in 0..1."""
        return (self.low, self.high) == (0, 1)

    @property
    def text(self) -> str:
        """Its range, in words."""
        if self.low is None:
            return f"{self.high:g} or less"
        if self.high is None:
            return f"{self.low:g} or more"
        return f"a share in {self.low:g}..{self.high:g}"

    @property
    def advice(self) -> str:
        """Which values a search can stop at, in words after `text`; empty where that says it."""
        if self.low is None or self.goal == "minimize":
            return ""
        most = "" if self.high is None else f" and at most {self.high:g}"
        return f"; use a value above {self.low:g}{most}"

    def reachable(self, value: float) -> bool:
        """Whether a search can reach a value, and not every network reaches it trivially."""
        above = self.low is None or (
            value > self.low if self.goal == "maximize" else value >= self.low
        )
        return above and (self.high is None or value <= self.high)

    def cel(self, value: str) -> str:
        """`reachable` in CEL."""
        sign = ">" if self.goal == "maximize" else ">="
        bounds = [] if self.low is None else [f"{value} {sign} {self.low:.1f}"]
        bounds += [] if self.high is None else [f"{value} <= {self.high:.1f}"]
        return f"({' && '.join(bounds)})"


RESOURCE_METRICS: dict[str, Known] = {
    "params": Known("minimize", 1),
    "macs": Known("minimize", 1),
}
"""Metrics that are known for an architecture before training."""
_COUNTED = f"{' and '.join(RESOURCE_METRICS)} are counted"
_SHARE = Known("maximize", 0, 1)
_ERROR = Known("minimize", 0)
TASK_METRICS: dict[str, dict[str, Known]] = {
    "Classification": {
        "val_accuracy": _SHARE,
        "val_loss": _ERROR,
        "val_balanced_accuracy": _SHARE,
        "val_f1": _SHARE,
        "val_auc": _SHARE,
    },
    "MultiLabel": {"val_auc": _SHARE, "val_map": _SHARE, "val_f1": _SHARE, "val_loss": _ERROR},
    "Regression": {
        "val_rmse": _ERROR,
        "val_mae": _ERROR,
        "val_r2": Known("maximize", None, 1),
        "val_loss": _ERROR,
    },
}
"""Metrics of the validation split, for each built-in task."""


def known_metrics(task: str) -> dict[str, Known]:
    """The known metrics of a task: all of them if the task is built in, else only params and
    macs."""
    return {**TASK_METRICS.get(task, {}), **RESOURCE_METRICS}


@dataclass(frozen=True, slots=True)
class Aim:
    """One objective of a search with its direction."""

    metric: str
    goal: Goal
    enough: float | None = None
    """See `Measure.enough`."""


class Undirected(ValueError):
    """The direction of a metric is unknown or contradictory."""

    def __init__(self, field: str, message: str) -> None:
        """`field` is the field at fault, such as ``objective.goal``."""
        super().__init__(f"{field} {message}")
        self.field = field
        self.message = message


def _alike(metrics: Mapping[str, Known]) -> dict[Known, list[str]]:
    """Metrics grouped by what is known about them."""
    found: dict[Known, list[str]] = {}
    for name, known in metrics.items():
        found.setdefault(known, []).append(name)
    return found


def _counted_rules(value: str) -> Iterator[Rule]:
    """Rules for the goal and for the field `value` if the metric is params or macs."""
    for known, names in _alike(RESOURCE_METRICS).items():
        other = f"!(self.metric in {names})"
        yield Rule(
            f"!has(self.goal) || {other} || self.goal == '{known.goal}'",
            f"goal {{self.goal}} contradicts metric {{self.metric}} ({known.better}): "
            f"remove goal, or set it to {known.goal}",
            ".goal",
        )
        yield Rule(
            f"!has(self.{value}) || {other} || {known.cel(f'self.{value}')}",
            f"{value} {{self.{value}}} is out of range: {{self.metric}} is {known.text}"
            f"{known.advice}",
            f".{value}",
        )


class Measure(Model):
    """A metric and its direction."""

    metric: Metric
    """Name of the metric: params, macs, or a metric of the task."""
    goal: Goal | None = None
    """Direction of the metric. Default: the metric's own direction. It has to be set only for a
    metric of your own trainer or task whose direction is not declared."""
    enough: float | None = None
    """Value beyond which further improvement does not count, such as the number of parameters that
    fits the device. Default: none."""

    rules: ClassVar = tuple(_counted_rules("enough"))

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_known(self.metric, self.goal, self.enough, "enough", RESOURCE_METRICS)
        return self


class Objective(Model):
    """What the search optimizes."""

    metric: Metric = "val_accuracy"
    """Metric of the validation split, or params or macs. Classification measures val_accuracy,
    val_balanced_accuracy, val_f1, val_auc (all in 0..1) and val_loss; MultiLabel val_auc, val_map,
    val_f1 (all in 0..1) and val_loss; Regression val_rmse, val_mae, val_r2 and val_loss."""
    goal: Goal | None = None
    """Direction of the metric. Default: the metric's own direction (losses, errors, params and
    macs: minimize; all others: maximize). It has to be set only for a metric of your own trainer or
    task whose direction is not declared."""
    target: float | None = None
    """The search ends when a trial reaches this value. Default: no target."""
    also: Annotated[tuple[Measure, ...], Field(max_length=4), Keyed("metric")] = ()
    """Additional objectives. Candidates are then ranked by Pareto dominance. `params` and `macs`
    (multiply-adds for one sample) are counted on the network of full fidelity."""
    limits: (
        Annotated[tuple[Limit, ...], Field(min_length=1, max_length=2), Keyed("metric")] | None
    ) = None
    """Limits that every candidate must be within, and so the winner. A network above one is never
    trained: the strategy is asked for another one. Baselines need not be within them."""

    rules: ClassVar = (
        Rule(
            "!has(self.also) || !self.also.exists(m, m.metric == self.metric)",
            "metric '{self.metric}' is given twice: in metric and in also",
            ".metric",
        ),
        *_counted_rules("target"),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(measure.metric == self.metric for measure in self.also):
            raise ValueError(f"metric {self.metric!r} is given twice: in metric and in also")
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
    """Reject a goal that contradicts the metric, and a value of `field` that it cannot reach."""
    facts = known.get(metric)
    if facts is None:
        return
    if goal is not None and goal != facts.goal:
        raise ValueError(
            f"{prefix}goal {goal} contradicts metric {metric} ({facts.better}): "
            f"remove goal, or set it to {facts.goal}"
        )
    if value is not None and not facts.reachable(value):
        raise ValueError(
            f"{prefix}{field} {str(value).removesuffix('.0')} is out of range: {metric} is "
            f"{facts.text}{facts.advice}"
        )


def check_objective(objective: Objective, task: str) -> None:
    """Check an objective against the known metrics of a built-in task.

    Raises:
        ValueError: a metric that the task does not measure, a goal that contradicts its metric, or
            a value that cannot be reached.
    """
    measured = TASK_METRICS.get(task)
    if measured is None:  # another package's task: only the trainer knows its metrics
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
    """`check_objective` as CEL rules of the whole spec."""
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
        for known, names in _alike(measured).items():
            other = f"!(self.objective.metric in {names})"
            yield Rule(
                f"{ours} || !has(self.objective.goal) || {other} || "
                f"self.objective.goal == '{known.goal}'",
                "objective.goal {self.objective.goal} contradicts metric {self.objective.metric} "
                f"({known.better}): remove goal, or set it to {known.goal}",
                ".objective.goal",
            )
            yield Rule(
                f"{ours} || !has(self.objective.target) || {other} || "
                f"{known.cel('self.objective.target')}",
                "objective.target {self.objective.target} is out of range: "
                f"{{self.objective.metric}} is {known.text}{known.advice}",
                ".objective.target",
            )
            yield Rule(
                f"{ours} || !has(self.objective.also) || self.objective.also.all(m, "
                f"!(m.metric in {names}) || !has(m.goal) || m.goal == '{known.goal}')",
                f"objective.also has a goal that contradicts its metric ({', '.join(names)}: "
                f"{known.better}): remove goal, or set it to {known.goal}",
                ".objective.also",
            )
            yield Rule(
                f"{ours} || !has(self.objective.also) || self.objective.also.all(m, "
                f"!(m.metric in {names}) || !has(m.enough) || {known.cel('m.enough')})",
                "objective.also has a value of enough that is out of range: each of "
                f"{', '.join(names)} is {known.text}{known.advice}",
                ".objective.also",
            )


def goal_of(task: str, metric: str, reported: Mapping[str, Goal] | None = None) -> Goal | None:
    """Direction of a metric: that of the built-in task, else the one that the trainer reports, else
    None."""
    known = known_metrics(task).get(metric)
    return known.goal if known is not None else (reported or {}).get(metric)


def aims(
    objective: Objective, task: str, reported: Mapping[str, Goal] | None = None
) -> tuple[Aim, ...]:
    """The objectives of a search with their directions. The first is the main one.

    Args:
        objective: as the manifest has it.
        task: `spec.task.type`.
        reported: directions that the trainer reports for its metrics.

    Raises:
        Undirected: the direction of a metric is unknown, or the manifest contradicts the
            trainer.
    """
    settled = []
    named: tuple[Objective | Measure, ...] = (objective, *objective.also)
    for place, measure in enumerate(named):
        field = "objective.goal" if place == 0 else f"objective.also[{place - 1}].goal"
        metric, goal = measure.metric, goal_of(task, measure.metric, reported)
        if goal is None and measure.goal is None:
            raise Undirected(
                field,
                f"is missing: neither task.type {task} nor its trainer declares the direction of "
                f"{metric}; set it to maximize or minimize",
            )
        if goal is not None and measure.goal not in (None, goal):
            raise Undirected(
                field,
                f"{measure.goal} contradicts the trainer, which says {goal} for {metric}; "
                f"remove it, or set it to {goal}",
            )
        enough = measure.enough if isinstance(measure, Measure) else None
        settled.append(Aim(metric, measure.goal or goal or "minimize", enough))
    return tuple(settled)
