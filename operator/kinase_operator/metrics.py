"""The operator's Prometheus metrics. No label takes values that grow with trials."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """Counters and histograms of one operator, in a registry of their own."""

    def __init__(self) -> None:
        """All at zero."""
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "kinase_operator_reconcile_seconds",
            "Time of a reconciliation.",
            ("kind",),
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self._outcomes = Counter(
            "kinase_operator_reconcile_total",
            "Reconciliations, by outcome: ok, conflict, refused, unavailable, error.",
            ("kind", "outcome"),
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
            "Experiments and trials that wait to be reconciled.",
            registry=self.registry,
        )
        self.experiments = Gauge(
            "kinase_experiments",
            "Experiments, by phase.",
            ("phase",),
            registry=self.registry,
        )

    def reconciled(self, kind: str, outcome: str, seconds: float) -> None:
        """Count a reconciliation."""
        self._seconds.labels(kind).observe(seconds)
        self._outcomes.labels(kind, outcome).inc()

    def wrote(self, resource: str, verb: str) -> None:
        """Count a write."""
        self._writes.labels(resource, verb).inc()

    def page(self) -> bytes:
        """The page that Prometheus scrapes."""
        return generate_latest(self.registry)
