"""The operator's Prometheus metrics. The number of label values does not grow with trials.

For each experiment the operator exports its status, which exists as long as the object: before the
controller has started, while it cannot run, and after the end. Metrics that only a running search
knows (histograms, the store) are exported by its controller, so every metric has one source.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from kinase import __version__
from kinase.api import names
from kinase.api.objective import goal_of
from kinase.api.status import ConditionType, Phase, TrialPhase, TrialReason
from kinase_operator.views import Experiment, Pod, Trial

KINDS = ("experiment", "trial")
OUTCOMES = ("ok", "conflict", "refused", "unavailable", "error")
"""Outcomes of a reconciliation; all except `ok` are retried."""
ENDED = ("succeeded", "stopped", "infeasible", "failed")
"""Fields of `status.trials` that count finished trials of the search."""
RUNG_STATES = ("reached", "paused", "promoted", "stopped")
"""Fields of a rung in `status.rungs` that are series."""
UNDER_WAY = (TrialPhase.PENDING, TrialPhase.RUNNING)
STANDS_STILL = (ConditionType.READY, ConditionType.PROGRESSING)
"""Conditions that explain why an experiment makes no progress; the others follow from its phase."""
_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a third more series without use


class Metrics:
    """Metrics of one operator, in their own registry."""

    def __init__(self) -> None:
        """Start with all counters at zero."""
        self.registry = CollectorRegistry()
        self._experiments = _Experiments()
        self.registry.register(self._experiments)
        ProcessCollector(registry=self.registry)
        Gauge(
            "kinase_build_info",
            "Always 1, with the running version as a label.",
            ("component", "version"),
            registry=self.registry,
        ).labels("operator", __version__).set(1)
        self._seconds = Histogram(
            "kinase_operator_reconcile_seconds",
            "Time of a reconciliation.",
            ("kind",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._outcomes = Counter(
            "kinase_operator_reconcile_total",
            "Reconciliations, by outcome: ok, conflict, refused, unavailable, error.",
            ("kind", "outcome"),
            registry=self.registry,
        )
        self._waited = Histogram(
            "kinase_operator_queue_seconds",
            "Time that an experiment or trial waited to be reconciled.",
            ("kind",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._writes = Counter(
            "kinase_operator_writes_total",
            "Objects written, by resource and verb.",
            ("resource", "verb"),
            registry=self.registry,
        )
        self.queue = Gauge(
            "kinase_operator_queue_length",
            "Experiments and trials that wait to be reconciled, or are being reconciled.",
            registry=self.registry,
        )
        self._attempts = Counter(
            "kinase_operator_attempts_total",
            "Finished attempts of trials, by reason.",
            ("reason",),
            registry=self.registry,
        )
        for reason in TrialReason:
            self._attempts.labels(reason)
        for kind in KINDS:  # a rate needs a zero before the first error
            self._seconds.labels(kind)
            self._waited.labels(kind)
            for outcome in OUTCOMES:
                self._outcomes.labels(kind, outcome)

    def reconciled(self, kind: str, outcome: str, seconds: float) -> None:
        """Count a reconciliation."""
        self._seconds.labels(kind).observe(seconds)
        self._outcomes.labels(kind, outcome).inc()

    def waited(self, kind: str, seconds: float) -> None:
        """Count a wait in the queue."""
        self._waited.labels(kind).observe(seconds)

    def wrote(self, resource: str, verb: str) -> None:
        """Count a write."""
        self._writes.labels(resource, verb).inc()

    def attempt_ended(self, reason: str) -> None:
        """Count a finished attempt."""
        self._attempts.labels(reason).inc()

    def see(
        self, experiments: Iterable[Experiment], trials: Iterable[Trial], pods: Iterable[Pod]
    ) -> None:
        """Store the current experiments for the next page."""
        self._experiments.see(experiments, trials, pods)

    def page(self) -> bytes:
        """The page for Prometheus; from any thread."""
        return generate_latest(self.registry)


class _Experiments(Collector):
    """Collects series at each scrape, so that deleted objects leave none."""

    def __init__(self) -> None:
        self._experiments: Sequence[Experiment] = ()
        self._trials: Counts[str] = Counts()
        self._under_way: Counts[tuple[str, str]] = Counts()

    def see(
        self, experiments: Iterable[Experiment], trials: Iterable[Trial], pods: Iterable[Pod]
    ) -> None:
        self._experiments = list(experiments)
        self._trials, self._under_way = Counts(), Counts()
        # the status does not report a pod that has just started, to save a write
        running = {
            (pod.labels.get(names.EXPERIMENT_UID), pod.labels.get(names.JOB_TRIAL))
            for pod in pods
            if pod.started is not None and not pod.ended
        }
        for trial in trials:
            phase = str(trial.status.get("phase"))
            if not trial.ended:
                runs = (trial.experiment_uid, trial.name) in running
                phase = TrialPhase.RUNNING if runs else TrialPhase.PENDING
            self._trials[phase] += 1
            self._under_way[trial.experiment_uid, phase] += 1

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        """All series, of the fleet and of each experiment."""
        phases = Counts(map(_phase, self._experiments))
        fleet = GaugeMetricFamily("kinase_experiments", "Experiments, by phase.", labels=["phase"])
        for phase in Phase:
            fleet.add_metric([phase], phases[phase])
        trials = GaugeMetricFamily(
            "kinase_trials", "Existing NASTrials, by phase.", labels=["phase"]
        )
        for which in TrialPhase:
            trials.add_metric([which], self._trials[which])
        families = _Families()
        for experiment in self._experiments:
            under_way = [self._under_way[experiment.uid, phase] for phase in UNDER_WAY]
            families.take(experiment, under_way)
        return [fleet, trials, *families.all]


class _Families:
    """The series of each experiment, from its status."""

    def __init__(self) -> None:
        who = ["namespace", "experiment"]

        def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"kinase_experiment_{name}", text, labels=[*who, *labels])

        def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
            return CounterMetricFamily(f"kinase_experiment_{name}", text, labels=[*who, *labels])

        self.info = gauge(
            "info",
            "Always 1, with the experiment's members as labels.",
            *("dataset", "space", "strategy", "estimation", "metric", "goal"),
        )
        self.phase = gauge("phase", "Always 1, with the experiment's phase as a label.", "phase")
        self.condition = gauge(
            "condition",
            "Whether the condition holds, with its reason; of experiments that are not finished.",
            *("condition", "reason"),
        )
        self.trials = gauge("trials", "Finished trials of the search.", "outcome")
        self.under_way = gauge(
            "trials_under_way",
            "NASTrials whose pod waits or runs; of experiments that are not finished.",
            "phase",
        )
        self.paused = gauge("trials_paused", "Trials that wait to be trained further.")
        self.rungs = gauge(
            "rung_trials",
            "Trials of the search by rung: that reached its end, are paused there, were promoted "
            "from it, or were stopped in it.",
            *("rung", "state"),
        )
        self.rung_epochs = counter("rung_epochs", "Training epochs spent in a rung.", "rung")
        self.best_rung = gauge("best_rung", "The rung at which the best trial has its value.")
        self.best = gauge("best_objective", "The search's best value of the objective.", "metric")
        self.control = gauge(
            "control_objective", "The random control's best value of the objective.", "metric"
        )
        self.left = gauge("budget_left_ratio", "Remaining share of a limit of the budget.", "limit")
        self.seconds = counter("device_seconds", "Device seconds spent by finished trials.")
        self.epochs = counter("epochs", "Training epochs started by finished trials.")
        self.start = gauge("start_timestamp_seconds", "When the search started.")
        self.completion = gauge("completion_timestamp_seconds", "When the experiment finished.")

    @property
    def all(self) -> list[GaugeMetricFamily | CounterMetricFamily]:
        return list(vars(self).values())

    def take(self, experiment: Experiment, under_way: Sequence[int]) -> None:
        """Add the series of an experiment. Fields missing in its status have none."""
        who, status, spec = (
            [experiment.namespace, experiment.name],
            experiment.status,
            _Spec(experiment),
        )
        self.info.add_metric([*who, *spec.info], 1)
        self.phase.add_metric([*who, _phase(experiment)], 1)
        if not experiment.finished:
            for kind in STANDS_STILL:
                if (condition := experiment.condition(kind)) is not None:
                    holds = float(condition.get("status") == "True")
                    self.condition.add_metric([*who, kind, condition.get("reason", "")], holds)
            for phase, count in zip(UNDER_WAY, under_way, strict=True):
                self.under_way.add_metric([*who, phase], count)
        if (counts := status.get("trials")) is not None:
            for outcome in ENDED:
                self.trials.add_metric([*who, outcome.capitalize()], counts.get(outcome, 0))
            if not experiment.finished:
                self.paused.add_metric(who, counts.get("paused", 0))
        for rung in status.get("rungs") or ():
            place = str(rung["rung"])
            for state in RUNG_STATES:
                self.rungs.add_metric([*who, place, state.capitalize()], rung.get(state, 0))
            self.rung_epochs.add_metric([*who, place], rung.get("epochs", 0))
        if (best_rung := (status.get("best") or {}).get("rung")) is not None:
            self.best_rung.add_metric(who, best_rung)
        for family, incumbent in (
            (self.best, status.get("best")),
            (self.control, status.get("control")),
        ):
            if incumbent is not None:
                family.add_metric([*who, spec.metric], incumbent["value"])
        for limit in status.get("budget") or ():
            share = limit["left"] / limit["total"] if limit["total"] else 0.0
            self.left.add_metric([*who, limit["name"]], share)
        if (cost := status.get("cost")) is not None:
            self.seconds.add_metric(who, cost.get("deviceSeconds", 0.0))
            self.epochs.add_metric(who, cost.get("epochs", 0))
        for family, field in ((self.start, "startTime"), (self.completion, "completionTime")):
            if text := status.get(field):
                family.add_metric(who, datetime.fromisoformat(text).timestamp())


class _Spec:
    """Fields of an experiment's spec that are labels."""

    def __init__(self, experiment: Experiment) -> None:
        spec = experiment.spec
        objective = spec.get("objective") or {}

        def kind(field: str) -> str:
            return _text((spec.get(field) or {}).get("type"))

        task = spec.get("task") or {}
        self.metric = _text(objective.get("metric"))
        goal = objective.get("goal") or goal_of(_text(task.get("type")), self.metric)
        self.info = (
            _text(task.get("dataset")),
            kind("space"),
            kind("strategy"),
            _text((experiment.status or {}).get("estimation")) or kind("estimation"),
            self.metric,
            _text(goal),
        )


def _text(value: Any) -> str:
    return str(value) if value is not None else ""


def _phase(experiment: Experiment) -> str:
    return str(experiment.status.get("phase") or Phase.PENDING)
