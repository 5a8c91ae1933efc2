"""The controller's Prometheus metrics: one experiment's search, without a label that grows."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from kinase.experiment.loop import Loop
from kinase.experiment.state import TrialRecord

_SECONDS = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600)


class Metrics:
    """Metrics of one experiment, in a registry of their own."""

    def __init__(self, namespace: str, experiment: str) -> None:
        """All at zero."""
        self.registry = CollectorRegistry()
        names, self._values = ("namespace", "experiment"), (namespace, experiment)
        self._trials = Counter(
            "kinase_trials_total",
            "Trials that have ended, by kind and outcome.",
            (*names, "kind", "outcome"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "kinase_trial_seconds",
            "Device seconds of a trial, all its attempts together.",
            names,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._device = Counter(
            "kinase_device_seconds_total",
            "Device seconds spent, killed attempts included.",
            names,
            registry=self.registry,
        )
        self._epochs = Counter(
            "kinase_epochs_total", "Training epochs begun.", names, registry=self.registry
        )
        self._running = Gauge(
            "kinase_trials_running", "Trials under way.", names, registry=self.registry
        )
        self._best = Gauge(
            "kinase_best_objective",
            "The best trial's value of the objective's metric.",
            (*names, "metric"),
            registry=self.registry,
        )
        self._left = Gauge(
            "kinase_budget_left_ratio",
            "What is left of a limit of the budget, as a share of it.",
            (*names, "limit"),
            registry=self.registry,
        )

    def told(self, trial: TrialRecord) -> None:
        """Count a trial that has ended."""
        outcome = trial.outcome.value if trial.outcome else ""
        self._trials.labels(*self._values, trial.kind.value, outcome).inc()
        self._seconds.labels(*self._values).observe(trial.cost.device_seconds)
        self._device.labels(*self._values).inc(trial.cost.device_seconds)
        self._epochs.labels(*self._values).inc(trial.cost.epochs)

    def measure(self, loop: Loop) -> None:
        """Bring the gauges up to date."""
        self._running.labels(*self._values).set(len(loop.engine.running()))
        metric = loop.spec.objective.metric
        if loop.best is not None and metric in loop.best.values:
            self._best.labels(*self._values, metric).set(loop.best.values[metric])
        for limit in loop.limits:
            share = limit.left / limit.total if limit.total else 0.0
            self._left.labels(*self._values, limit.name).set(share)

    def page(self) -> bytes:
        """The page that Prometheus scrapes."""
        return generate_latest(self.registry)
