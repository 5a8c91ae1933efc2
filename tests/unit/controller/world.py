"""A controller's I/O and engine over an API server in memory, and an operator played by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from kinase.api import Outcome, TaskInfo, TrialJob, TrialResult
from kinase.api.trial import Cost
from kinase.engine import Event, Progress
from kinase.store.memory import MemoryStore
from kinase_controller import cluster_io as module
from kinase_controller.cluster_io import ClusterIO, Identity
from kinase_controller.engine import KubernetesEngine
from kinase_kube import client as kube
from tests.unit.controller.fake_api import FakeApi
from tests.unit.experiment.helpers import INFO, experiment

T = TypeVar("T")


def wait_for(what: Callable[[], T], timeout: float = 10) -> T:
    """The first value that is true."""
    deadline = time.monotonic() + timeout
    while not (value := what()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)
    return value


class World:
    """The experiment `toy`, and what there is around its controller."""

    def __init__(self, patch: pytest.MonkeyPatch, **spec: Any) -> None:
        self.api = FakeApi()
        self.store = MemoryStore()
        self.spec = experiment(**spec).model_dump(
            mode="json", by_alias=True, exclude_none=True, exclude_defaults=True
        )["spec"]
        made = self.api.put(kube.EXPERIMENT, self._experiment())
        self.uid = made["metadata"]["uid"]

        async def connect(*_: Any) -> FakeApi:
            return self.api

        patch.setattr(module.Client, "connect", connect)

    def _experiment(self) -> dict[str, Any]:
        return {
            "apiVersion": "kinase.dev/v1alpha1",
            "kind": "NASExperiment",
            "metadata": {"name": "toy", "namespace": "ns"},
            "spec": self.spec,
        }

    def who(self, pod: str = "toy-controller-a") -> Identity:
        return Identity(namespace="ns", experiment="toy", uid=self.uid, pod=pod)

    @contextmanager
    def cluster(self, pod: str = "toy-controller-a") -> Iterator[ClusterIO]:
        cluster = ClusterIO(self.who(pod))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.close()

    @contextmanager
    def engine(self, pod: str = "toy-controller-a") -> Iterator[tuple[KubernetesEngine, ClusterIO]]:
        with self.cluster(pod) as cluster:
            yield KubernetesEngine(cluster, self.store), cluster

    # -- the operator and the trainer, by hand ------------------------------------------

    def trial(self, name: str) -> dict[str, Any]:
        """A trial as it is, once it is there."""
        return wait_for(lambda: self.api.see(kube.TRIAL, name))

    def attempt(self, name: str, number: int) -> dict[str, Any]:
        """A trial as it is, once that attempt is wanted."""

        def wanted() -> dict[str, Any] | None:
            found = self.api.see(kube.TRIAL, name)
            return found if found and found["spec"]["attempt"] == number else None

        return wait_for(wanted)

    def end(
        self, name: str, phase: str = "Succeeded", reason: str = "Completed", message: str = ""
    ) -> None:
        """The attempt that is wanted has ended."""
        attempt = self.trial(name)["spec"]["attempt"]
        status = {"phase": phase, "reason": reason, "message": message, "attempt": attempt}
        self.api.change(kube.TRIAL, name, status=status)

    def leave(self, job: TrialJob, outcome: Outcome = Outcome.SUCCEEDED, **fields: Any) -> None:
        """The trainer writes its result."""
        result = TrialResult(
            **{
                "trial": job.trial,
                "attempt": job.attempt,
                "outcome": outcome,
                "metrics": {"val_accuracy": 0.5},
                "cost": Cost(epochs=job.fidelity.epochs),
                **fields,
            }
        )
        name = "test" if job.test else "result"
        text = result.model_dump_json(by_alias=True).encode()
        self.store.put(f"{job.prefix}/{name}.json", text)

    def answer(self, name: str = "toy-task", info: TaskInfo = INFO) -> None:
        """The trainer describes the task, and its attempt ends well."""
        key = json.loads(self.trial(name)["spec"]["job"])["key"]
        self.store.put(key, info.model_dump_json(by_alias=True).encode())
        self.end(name)


def events(engine: KubernetesEngine, count: int = 1, timeout: float = 10) -> list[Event]:
    """So many events; what trials post apart."""
    found: list[Event] = []
    deadline = time.monotonic() + timeout
    while len(found) < count:
        found += [e for e in engine.poll(0.05) if not isinstance(e, Progress)]
        assert time.monotonic() < deadline, found
    return found
