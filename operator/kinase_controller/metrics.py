"""The controller's Prometheus metrics: those that only a running search knows.

The number of label values does not grow with the number of trials. The operator exports the
experiment's status, before, during and after the search, so every metric has one source.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from kinase import __version__
from kinase.api.trial import Outcome
from kinase.experiment.loop import Loop
from kinase.experiment.trial_record import TrialRecord
from kinase.store import Conflict, NotFound, Store, StoreUnavailable, TooLarge
from kinase_controller.trials import KINDS

_TRIAL = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600)
_QUEUE = (1, 2, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600)
_STORE = (0.005, 0.02, 0.05, 0.1, 0.25, 1, 5, 30)
OPERATIONS = ("get", "put", "list", "delete")

T = TypeVar("T")

disable_created_metrics()  # type: ignore[no-untyped-call]  # a third more series without use


class Metrics:
    """Metrics of one experiment's search, in their own registry."""

    def __init__(self, namespace: str, experiment: str) -> None:
        """Start with all counters at zero."""
        self.registry = CollectorRegistry()
        names, self._values = ("namespace", "experiment"), (namespace, experiment)
        self._replaying = threading.Lock()
        ProcessCollector(registry=self.registry)
        Gauge(
            "kinase_build_info",
            "Always 1, with the running version as a label.",
            ("component", "version"),
            registry=self.registry,
        ).labels("controller", __version__).set(1)
        self._trials = Counter(
            "kinase_trials_total",
            "Trials that have ended, by kind and outcome.",
            (*names, "kind", "outcome"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "kinase_trial_seconds",
            "Device seconds of a finished trial, all attempts together.",
            names,
            buckets=_TRIAL,
            registry=self.registry,
        )
        self._queued = Histogram(
            "kinase_trial_queue_seconds",
            "Time from the request of an attempt to the start of its pod.",
            names,
            buckets=_QUEUE,
            registry=self.registry,
        )
        self._improved = Gauge(
            "kinase_last_improvement_timestamp_seconds",
            "When the best trial had its value (or the search began, if none has one yet), "
            "without the time the search was paused.",
            names,
            registry=self.registry,
        )
        self._journal = Gauge(
            "kinase_journal_entries",
            "Entries of the journal: turns of the loop that made a decision.",
            names,
            registry=self.registry,
        )
        self._operations = Counter(
            "kinase_store_operations_total",
            "Operations on the store, by outcome: ok, unavailable, error.",
            (*names, "operation", "outcome"),
            registry=self.registry,
        )
        self._store = Histogram(
            "kinase_store_operation_seconds",
            "Time of an operation on the store.",
            (*names, "operation"),
            buckets=_STORE,
            registry=self.registry,
        )
        for operation in OPERATIONS:  # a rate needs a zero before the first error
            self._store.labels(*self._values, operation)
            for outcome in ("ok", "unavailable", "error"):
                self._operations.labels(*self._values, operation, outcome)

    def replayed(self, told: Iterable[TrialRecord]) -> None:
        """Start from the trials in the journal, so that counters continue across restarts of the
        controller and a rate counts no trial twice."""
        with self._replaying:
            self._trials.clear()
            self._seconds.clear()
            for kind in KINDS:
                for outcome in Outcome:
                    self._trials.labels(*self._values, kind.value, outcome.value)
            self._seconds.labels(*self._values)
            self._queued.labels(*self._values)
            for trial in told:
                self.told(trial)

    def told(self, trial: TrialRecord) -> None:
        """Count a finished trial."""
        outcome = trial.outcome.value if trial.outcome else ""
        self._trials.labels(*self._values, trial.kind.value, outcome).inc()
        self._seconds.labels(*self._values).observe(trial.cost.device_seconds)

    def queued(self, seconds: float) -> None:
        """Count an attempt whose pod has started."""
        self._queued.labels(*self._values).observe(seconds)

    def stored(self, operation: str, outcome: str, seconds: float) -> None:
        """Count an operation on the store."""
        self._operations.labels(*self._values, operation, outcome).inc()
        self._store.labels(*self._values, operation).observe(seconds)

    def measure(self, loop: Loop) -> None:
        """Update the gauges."""
        improved = loop.best.measured if loop.best is not None else None
        since = loop.elapsed - (improved or 0.0)
        self._improved.labels(*self._values).set(time.time() - since)
        self._journal.labels(*self._values).set(loop.journal.length)

    def page(self) -> bytes:
        """The page for Prometheus; from any thread."""
        with self._replaying:
            return generate_latest(self.registry)


class MeteredStore(Store):
    """A store whose operations are counted."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        """Wrap `store`."""
        self.uri = store.uri
        self._store, self._metrics = store, metrics

    def _measured(self, operation: str, work: Callable[[], T]) -> T:
        began, outcome = time.perf_counter(), "error"
        try:
            answer = work()
            outcome = "ok"
        except (NotFound, Conflict, TooLarge):
            outcome = "ok"  # the store has answered
            raise
        except StoreUnavailable:
            outcome = "unavailable"
            raise
        finally:
            self._metrics.stored(operation, outcome, time.perf_counter() - began)
        return answer

    def get(self, key: str, limit: int | None = None) -> bytes:
        """Read an object."""
        return self._measured("get", lambda: self._store.get(key, limit))

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Read a part of an object."""
        return self._measured("get", lambda: self._store.get_range(key, start, end))

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Write an object."""
        self._measured("put", lambda: self._store.put(key, data, if_absent=if_absent))

    def copy(self, source: str, target: str) -> None:
        """Copy an object."""
        self._measured("put", lambda: self._store.copy(source, target))

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys, all read before the first one is returned, so that only the listing is timed."""
        return iter(self._measured("list", lambda: [*self._store.list(prefix)]))

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._measured("delete", lambda: self._store.delete(key))

    def sub(self, prefix: str) -> Store:
        """A view below a prefix, with the same counts."""
        return MeteredStore(self._store.sub(prefix), self._metrics)

    def exists(self, key: str) -> bool:
        """Whether an object with that key exists."""
        return self._measured("get", lambda: self._store.exists(key))
