"""Which pod's log is meant, and what is said while there is none."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kinase.cli_options import Target
from kinase_kubectl import logs
from kinase_kubectl.logs import Wanted
from kinase_kubectl.problem import Problem
from kinase_kubectl.views import Experiment, Trial
from tests.unit.kubectl.samples import condition, experiment, trial

Pod = dict[str, Any]


def pod(name: str, state: Any = None, **more: Any) -> Pod:
    """A pod whose container is in a state; None: nobody has said."""
    statuses = [{"name": "kinase", "state": state}] if state else []
    return {
        "metadata": {"name": name, "creationTimestamp": "2026-05-01T12:00:00Z"},
        "status": {"containerStatuses": statuses, **more},
    }


RUNNING = {"running": {"startedAt": "2026-05-01T12:00:00Z"}}
PULLING = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}


class Cluster:
    """One that answers from lists: each look takes the next, the last one stays."""

    def __init__(
        self,
        pods: list[list[Pod]],
        trials: list[Trial] = [],  # noqa: B006
        experiments: list[Experiment] = [],  # noqa: B006
    ) -> None:
        self._pods, self._trials, self._experiments = list(pods), trials, experiments
        self.selectors: list[str] = []
        self.read: list[tuple[str, dict[str, Any]]] = []

    async def trial(self, name: str) -> Trial | None:
        return next((t for t in self._trials if t.name == name), None)

    async def experiment(self, name: str) -> Experiment:
        for each in self._experiments:
            if each.name == name:
                return each
        raise Problem(f"nasexperiments '{name}' not found in namespace 'nas'; there are: digits")

    async def missing(self, kind: str, name: str) -> str:
        return f"{kind} '{name}' not found"

    async def pods(self, selector: str) -> list[Pod]:
        self.selectors.append(selector)
        return self._pods.pop(0) if len(self._pods) > 1 else self._pods[0]

    async def controller_pods(self, each: Experiment) -> list[Pod]:
        return await self.pods(f"controller of {each.name}")

    async def log(self, name: str, **params: Any) -> AsyncIterator[bytes]:
        self.read.append((name, params))
        yield b"first\n"
        yield b"second\n"


def printed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, name: str, **options: Any
) -> tuple[str, list[str]]:
    """What is printed, and what is said beside it."""

    class Opens:
        @staticmethod
        @contextlib.asynccontextmanager
        async def open(target: Target) -> AsyncIterator[Cluster]:
            yield cluster

    async def at_once(seconds: float) -> None:
        pass

    monkeypatch.setattr(logs, "Cluster", Opens)
    monkeypatch.setattr(logs, "pause", at_once)
    out, said = io.BytesIO(), list[str]()
    asyncio.run(logs.logs(Wanted(Target(), name, **options), out, said.append))
    return out.getvalue().decode(), said


def test_the_latest_pod_of_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster([[pod("old", RUNNING), pod("new", RUNNING)]], [trial(3)])
    text, said = printed(
        cluster, monkeypatch, "digits-00003", tail=5, previous=True, timestamps=True, follow=True
    )
    assert (text, said) == ("first\nsecond\n", [])
    assert cluster.selectors == ["kinase.dev/trial-name=digits-00003,kinase.dev/attempt=1"]
    wanted = {"follow": "true", "previous": "true", "timestamps": "true", "tailLines": 5}
    assert cluster.read == [("new", {"container": "kinase", **wanted})]


def test_of_several_workers_the_first_has_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    pods = [pod("first", RUNNING), pod("second", RUNNING)]
    for number, each in enumerate(pods):
        each["metadata"]["labels"] = {"batch.kubernetes.io/job-completion-index": str(number)}
    cluster = Cluster([pods], [trial(3)])
    printed(cluster, monkeypatch, "digits-00003")
    assert [name for name, _ in cluster.read] == ["first"]


def test_a_pod_that_has_not_begun_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = [[], [pod("a")], [pod("a", PULLING)], [pod("a", RUNNING)]]
    cluster = Cluster(waits, [trial(3, "Pending")])
    text, said = printed(cluster, monkeypatch, "digits-00003", follow=True)
    assert text.startswith("first")
    assert said == ["the pod of digits-00003, attempt 1, has not started; waiting for it"]


@pytest.mark.parametrize(
    ("pods", "why"),
    [
        ([pod("a", PULLING)], "has not started: ImagePullBackOff: no such image; -f waits for it"),
        (
            [
                pod(
                    "a",
                    conditions=[
                        {"type": "PodScheduled", "status": "False", "message": "no GPU is free"}
                    ],
                )
            ],
            "has not started: no GPU is free; -f waits for it",
        ),
        ([], "attempt 1, has not started; -f waits for it"),
        (
            [
                pod(
                    "a",
                    {"waiting": {"reason": "PodInitializing"}},
                    containerStatuses=[
                        {"name": "istio-proxy", "state": RUNNING},
                        {"name": "kinase", "state": {"waiting": {"reason": "PodInitializing"}}},
                    ],
                    initContainerStatuses=[{"name": "proxy", "state": PULLING}],
                )
            ],
            "has not started: ImagePullBackOff: no such image; -f waits for it",
        ),
    ],
)
def test_why_a_pod_has_not_begun(
    pods: list[Pod], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Problem) as caught:
        printed(Cluster([pods], [trial(3, "Pending")]), monkeypatch, "digits-00003")
    assert str(caught.value).endswith(why)


def test_a_pod_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = trial(3, "Failed", reason="OutOfMemory", message="the kernel ended it")
    with pytest.raises(Problem) as caught:
        printed(Cluster([[]], [failed]), monkeypatch, "digits-00003", follow=True)
    assert str(caught.value) == (
        "the pod of digits-00003, attempt 1, is gone; spec.retention.pods says how long it stays "
        "after its end. What is known: Failed: OutOfMemory: the kernel ended it"
    )


def test_a_controller_that_crashed_has_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    back = pod("c", {"waiting": {"reason": "CrashLoopBackOff"}})
    back["status"]["containerStatuses"][0]["lastState"] = {"terminated": {"exitCode": 1}}
    cluster = Cluster([[back]], experiments=[experiment()])
    assert printed(cluster, monkeypatch, "digits")[0].startswith("first")


def test_why_no_controller_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = experiment(conditions=[condition("Ready", "False", "Unschedulable", "no node")])
    with pytest.raises(Problem, match="no controller of digits runs: Unschedulable: no node"):
        printed(Cluster([[]], experiments=[wrong]), monkeypatch, "digits")
    cluster = Cluster([[], [pod("c", RUNNING)]], experiments=[wrong])
    _, said = printed(cluster, monkeypatch, "nasx/digits", follow=True)
    assert said == [
        "no controller of digits runs: Unschedulable: no node; waiting for it",
    ]


def test_the_kind_decides_where_a_name_is_both(monkeypatch: pytest.MonkeyPatch) -> None:
    def cluster() -> Cluster:
        both = [experiment("digits-00003")]
        return Cluster([[pod("p", RUNNING)]], [trial(3)], both)

    for name, selector in (
        ("digits-00003", "kinase.dev/trial-name=digits-00003,kinase.dev/attempt=1"),
        ("nast/digits-00003", "kinase.dev/trial-name=digits-00003,kinase.dev/attempt=1"),
        ("nasx/digits-00003", "controller of digits-00003"),
    ):
        seen = cluster()
        printed(seen, monkeypatch, name)
        assert seen.selectors == [selector]


def test_what_is_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Problem) as caught:
        printed(Cluster([[]]), monkeypatch, "nothing")
    assert str(caught.value) == (
        "trial or experiment 'nothing' not found in namespace 'nas'; experiments there are: digits"
    )
