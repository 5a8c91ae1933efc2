"""`kinase logs`: the log of a trial's or a controller's pod, found by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from kinase.api import names
from kinase.cli_options import KINDS, Target
from kinase_kube.client import Object
from kinase_kubectl.cluster import Cluster, pause, plain_name
from kinase_kubectl.problem import USAGE, Problem
from kinase_kubectl.views import Experiment, Trial

TRIAL_KINDS = ("nastrials", "nastrial", "nast")
LOOK = 0.5
"""Seconds between two checks for a pod that has not started."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which log to print, and how much of it."""

    target: Target
    name: str
    attempt: int | None = None
    follow: bool = False
    tail: int | None = None
    previous: bool = False
    timestamps: bool = False

    def params(self) -> dict[str, Any]:
        """The API's parameters."""
        found: dict[str, Any] = {"container": names.CONTAINER}
        for name in ("follow", "previous", "timestamps"):
            if getattr(self, name):
                found[name] = "true"
        if self.tail is not None:
            found["tailLines"] = self.tail
        return found


async def logs(wanted: Wanted, out: BinaryIO, say: Callable[[str], Any]) -> None:
    """Copy the log to `out`."""
    kind = wanted.name.partition("/")[0].partition(".")[0]
    name = plain_name(wanted.name, (*KINDS, *TRIAL_KINDS))
    async with Cluster.open(wanted.target) as cluster:
        trial = await cluster.trial(name) if kind not in KINDS else None
        if trial is not None:
            pod = await _trial_pod(cluster, trial, wanted, say)
        elif kind in TRIAL_KINDS:
            raise Problem(await cluster.missing(names.TRIALS, name))
        else:
            if wanted.attempt is not None:
                raise Problem(f"--attempt is for a trial, which {name} is not", USAGE)
            pod = await _controller_pod(cluster, await _experiment(cluster, name), wanted, say)
        async for chunk in cluster.log(pod, **wanted.params()):
            out.write(chunk)
            out.flush()


async def _experiment(cluster: Cluster, name: str) -> Experiment:
    try:
        return await cluster.experiment(name)
    except Problem as problem:
        said = str(problem).replace(names.EXPERIMENTS, "trial or experiment", 1)
        raise Problem(said.replace("there are: ", "experiments there are: ", 1)) from None


async def _trial_pod(
    cluster: Cluster, trial: Trial, wanted: Wanted, say: Callable[[str], Any]
) -> str:
    """The pod of the attempt, of several workers the first one's; with `follow`, wait until it has
    started."""
    attempt = wanted.attempt or trial.attempt
    if attempt > trial.attempt:
        raise Problem(f"{trial.name} has no attempt {attempt}; the latest is {trial.attempt}")
    selector = f"{names.JOB_TRIAL}={trial.name},{names.ATTEMPT}={attempt}"
    waited = False
    while True:
        pods = [pod for pod in await cluster.pods(selector) if _leads(pod)]
        if pods and _begun(pods[-1]):
            return _name(pods[-1])
        seen = await cluster.trial(trial.name)
        if seen is None:
            raise Problem(f"{trial.name} is gone")
        if attempt < seen.attempt or seen.ended:
            said = ": ".join(filter(None, (seen.phase, seen.reason, seen.status.message or "")))
            raise Problem(
                f"the pod of {trial.name}, attempt {attempt}, is gone; spec.retention.pods says "
                f"how long it stays after its end. What is known: {said}"
            )
        why = ": ".join(filter(None, (seen.reason, seen.status.message))) or _waits(pods)
        text = f"the pod of {trial.name}, attempt {attempt}, has not started{why and ': ' + why}"
        if not wanted.follow:
            raise Problem(f"{text}; -f waits for it")
        if not waited:
            say(f"{text}; waiting for it")
        waited = True
        await pause(LOOK)


async def _controller_pod(
    cluster: Cluster, experiment: Experiment, wanted: Wanted, say: Callable[[str], Any]
) -> str:
    """The latest pod of the controller; with `follow`, wait until it has started."""
    waited = False
    while True:
        pods = await cluster.controller_pods(experiment)
        if pods and _begun(pods[-1]):
            return _name(pods[-1])
        why = ""
        for condition in experiment.status.conditions:
            if condition.type == "Ready":
                why = ": ".join(filter(None, (condition.reason, condition.message)))
        why = why or _waits(pods)
        text = f"no controller of {experiment.name} runs{why and ': ' + why}"
        if not wanted.follow or experiment.finished:
            raise Problem(text)
        if not waited:
            say(f"{text}; waiting for it")
        waited = True
        await pause(LOOK)
        experiment = await cluster.experiment(experiment.name)


def _leads(pod: Object) -> bool:
    """Whether it is the pod of the first worker, or of the only one."""
    labels: Object = pod["metadata"].get("labels") or {}
    return str(labels.get(names.INDEX, 0)) == "0"


def _name(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def _statuses(pod: Object) -> list[Object]:
    """Container statuses: first the main container, then the init containers."""
    status = pod.get("status", {})
    ours = [c for c in status.get("containerStatuses") or () if c["name"] == names.CONTAINER]
    return [*ours, *(status.get("initContainerStatuses") or ())]


def _begun(pod: Object) -> bool:
    """Whether the main container has started, regardless of sidecars."""
    return any(
        {"running", "terminated"} & (status.get("state") or {}).keys()
        or (status.get("lastState") or {}).get("terminated")
        for status in _statuses(pod)
        if status["name"] == names.CONTAINER
    )


def _waits(pods: list[Object]) -> str:
    """Why the latest pod waits, in the words of its node or the scheduler."""
    for pod in pods[-1:]:
        for status in _statuses(pod):
            waiting = (status.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") and waiting["reason"] != "PodInitializing":
                return ": ".join(
                    filter(None, (waiting.get("reason", ""), waiting.get("message", "")))
                )
        for condition in pod.get("status", {}).get("conditions") or ():
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return str(condition.get("message", ""))
    return ""
