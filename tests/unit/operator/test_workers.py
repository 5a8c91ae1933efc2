"""Trials with several workers: their Job, their Service, and how an attempt of theirs ends."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from kubernetes.client import models

from kinase.api import TrialPhase, TrialReason, names
from kinase_kube import client as kube
from kinase_operator import job_specs
from kinase_operator.actions import Again, Delete, Shorten, TrialStatus
from kinase_operator.children import wanted_children
from kinase_operator.ends import SETTLE, classify
from kinase_operator.trials import TIDY, plan
from kinase_operator.views import Job, Object, Pod
from tests.unit.operator.samples import (
    COMPLETE,
    NOW,
    SETTINGS,
    at,
    failed,
    job,
    kinds,
    manifest,
    merged,
    pod,
    seen,
    trial,
    view,
)

THREE: dict[str, Any] = {"trialTemplate": {"workers": 3}}
TRIAL = trial(workers=3)
FAILED = failed(
    "PodFailurePolicy", "Container kinase for pod ns/x failed with exit code 1 matching"
)


def worker(number: int, phase: str = "Running", **how: Any) -> Pod:
    """A pod of a trial with several."""
    return pod(phase, name=f"toy-00007-1-{number}-abcde", worker=number, **how)


RUN = [worker(0), worker(1), worker(2)]


def spec_of(workers: int) -> Object:
    return job_specs.trial_job(trial(workers=workers), manifest(), SETTINGS)["spec"]


# -- objects ---------------------------------------------------------------------------


def test_each_worker_has_a_pod_that_knows_its_number_and_the_first_one() -> None:
    found = job_specs.trial_job(TRIAL, manifest(**THREE), SETTINGS)
    assert json.loads(models.V1Job.from_dict(found).to_json()) == json.loads(json.dumps(found))
    spec = found["spec"]
    assert spec["completionMode"] == "Indexed"
    assert (spec["completions"], spec["parallelism"], spec["backoffLimit"]) == (3, 3, 0)
    assert spec["successPolicy"] == {"rules": [{"succeededIndexes": "0"}]}
    assert spec["podFailurePolicy"] == spec_of(1)["podFailurePolicy"], "any that is lost ends it"
    pod_spec = spec["template"]["spec"]
    assert pod_spec["subdomain"] == "toy-workers"
    given = {e["name"]: e for e in pod_spec["containers"][0]["env"]}
    assert given["KINASE_WORLD"]["value"] == "3"
    assert given["KINASE_RENDEZVOUS"]["value"] == "toy-00007-1-0.toy-workers.ns.svc:29500"
    path = given["KINASE_RANK"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def test_one_worker_has_the_job_that_it_had() -> None:
    spec = spec_of(1)
    assert not {"completionMode", "completions", "parallelism", "successPolicy"} & set(spec)
    assert "subdomain" not in spec["template"]["spec"]
    assert "KINASE_RANK" not in json.dumps(spec)


def test_the_longest_names_are_still_names_of_a_host() -> None:
    first = f"{names.attempt_name(names.trial_name('x' * 46, 9_999_999), 99_999)}-63"
    assert len(first) <= 63
    assert len(names.workers_name("x" * 46)) <= 63


def test_workers_find_and_reach_each_other_and_nobody_else_can() -> None:
    wanted = {(r.kind, b["metadata"]["name"]): b for r, b in children(THREE)}
    service = wanted["Service", "toy-workers"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"]
    template = job_specs.trial_job(TRIAL, manifest(**THREE), SETTINGS)["spec"]["template"]
    selector = service["spec"]["selector"]
    assert selector.items() <= template["metadata"]["labels"].items()
    assert service["metadata"]["ownerReferences"][0]["uid"] == "exp-uid"
    policy = wanted["NetworkPolicy", "toy-trials"]["spec"]
    trials = {"podSelector": {"matchLabels": selector}}
    assert policy["ingress"] == [{"from": [trials]}]
    assert {"to": [trials]} in policy["egress"]
    alone = {(r.kind, b["metadata"]["name"]): b for r, b in children({})}
    assert ("Service", "toy-workers") not in alone
    assert "ingress" not in alone["NetworkPolicy", "toy-trials"]["spec"]


def children(spec: dict[str, Any]) -> list[tuple[kube.Resource, Object]]:
    return wanted_children(view(**spec), manifest(**spec), SETTINGS)


# -- how an attempt ends ---------------------------------------------------------------

DOWN: dict[str, Any] = {"exit": 77, "said": '{"message": "worker 0 lost its connection"}'}
ENDS: list[tuple[str, Job, list[Pod], str | None]] = [
    ("all run", job(), RUN, None),
    (
        "the first ends well, whatever the others do",
        job(),
        [worker(0, "Succeeded", exit=0), worker(1), worker(2, "Failed", **DOWN)],
        "Succeeded Completed 0",
    ),
    (
        "another ends well before the first has written the result",
        job(),
        [worker(0), worker(1, "Succeeded", exit=0), worker(2, "Succeeded", exit=0)],
        None,
    ),
    (
        "one crashed, the others lost it or were deleted by their Job",
        job(FAILED),
        [
            worker(0, "Failed", **DOWN, finished=-1),
            worker(1, "Failed", exit=143, deleting=True, finished=-2),
            worker(2, "Failed", exit=1, finished=-3),
        ],
        "Failed Crashed 2",
    ),
    (
        "the same, where clocks differ",
        job(FAILED),
        [worker(0, "Failed", **DOWN, finished=-9), worker(2, "Failed", exit=1, finished=-3)],
        "Failed Crashed 2",
    ),
    (
        "a node was drained: the others ended with it",
        job(),
        [
            worker(0, "Failed", exit=143, finished=-2),
            worker(1, "Failed", exit=143, deleting=True, disrupted="drained", finished=-1),
            worker(2),
        ],
        "Failed Disrupted 1",
    ),
    (
        "somebody deleted a pod",
        job(),
        [worker(0, "Failed", **DOWN), worker(1, "Failed", exit=143, deleting=True), worker(2)],
        "Failed Disrupted 1",
    ),
    (
        "one ran out of memory",
        job(),
        [worker(0, "Failed", **DOWN), worker(2, "Failed", exit=137, reason="OOMKilled")],
        "Failed OutOfMemory 2",
    ),
    (
        "the checkpoint is gone, which the first finds",
        job(),
        [worker(0, "Failed", exit=76), worker(1, "Failed", **DOWN), worker(2, "Failed", **DOWN)],
        "Failed CheckpointGone 0",
    ),
    (
        "one that never joined, as the first says",
        job(),
        [worker(0, "Failed", **DOWN), worker(2, "Failed", **DOWN)],
        "Failed Disrupted 0",
    ),
    (
        "one is gone without an end: its cause is not known yet",
        job(),
        [worker(0, "Failed", **DOWN, finished=-1), worker(1), worker(2)],
        None,
    ),
    (
        "nor after a while",
        job(),
        [worker(0, "Failed", **DOWN, finished=-SETTLE.seconds), worker(1), worker(2)],
        "Failed Disrupted 0",
    ),
    (
        "the first is deleted and forgotten after the Job's success",
        job(COMPLETE),
        [worker(1, "Succeeded", exit=0)],
        "Succeeded Completed None",
    ),
    (
        "over the limit of time",
        job(),
        [
            worker(0, "Failed", **DOWN, finished=-2),
            worker(1, "Failed", exit=143, node_says=("DeadlineExceeded", "")),
        ],
        "Infeasible DeadlineExceeded 1",
    ),
]


@pytest.mark.parametrize(("_", "job", "pods", "wanted"), ENDS, ids=[e[0] for e in ENDS])
def test_how_an_attempt_ended(_: str, job: Job, pods: list[Pod], wanted: str | None) -> None:
    for order in (pods, pods[::-1]):
        end = classify(job, order, manifest(**THREE), NOW, 3)
        index = end.pod.index if end is not None and end.pod is not None else None
        assert (end and f"{end.phase} {end.reason} {index}") == wanted


def test_a_lost_worker_ends_the_attempt_without_counting_as_a_crash() -> None:
    pods = [worker(0, "Failed", **DOWN), worker(1, "Failed", exit=143, deleting=True)]
    status, event = plan(seen(TRIAL, job(FAILED), pods), SETTINGS)
    assert isinstance(status, TrialStatus)
    assert status.fields["reason"] == TrialReason.DISRUPTED
    assert status.fields["phase"] == TrialPhase.FAILED
    assert status.fields["disruptions"] == 1
    assert kinds([event]) == ["Emit"]


def test_the_next_attempt_waits_until_all_pods_of_the_last_have_ended() -> None:
    second = trial(workers=3, attempt=2)
    left = [worker(0, "Failed", **DOWN), worker(1, deleting=True)]
    assert plan(seen(second, job(FAILED), left), SETTINGS) == []
    done = [worker(0, "Failed", **DOWN), worker(1, "Failed", exit=143, deleting=True)]
    assert kinds(plan(seen(second, job(FAILED), done), SETTINGS)) == ["Create"]


def test_after_the_end_the_job_deletes_the_other_pods_and_is_kept_with_the_log() -> None:
    pods = [worker(0, "Succeeded", exit=0), worker(1)]
    over: Object = {"attempt": 1, "phase": "Succeeded", "completionTime": at(-5)}
    ended = trial(over, workers=3)
    (again,) = plan(seen(ended, job(), pods), SETTINGS)
    assert isinstance(again, Again)
    late = seen(ended, job(), pods, later=TIDY.seconds)
    (delete,) = plan(late, SETTINGS)
    assert isinstance(delete, Delete), "no Job controller does it"
    assert plan(seen(ended, job(COMPLETE), pods), SETTINGS) == []


# -- what it waits for -----------------------------------------------------------------


def told(actions: list[Any]) -> list[Object]:
    return [action.fields for action in actions if isinstance(action, TrialStatus)]


def test_it_runs_once_all_workers_do() -> None:
    (fields,) = told(plan(seen(TRIAL, job(), RUN), SETTINGS))
    assert (fields["phase"], fields["pod"]) == (TrialPhase.RUNNING, "toy-00007-1-0-abcde")
    late = [worker(0, started=-40), worker(1, started=-2), worker(2, started=-40)]
    assert told(plan(seen(TRIAL, job(), late), SETTINGS)) == [], "not for long enough"
    assert told(plan(seen(TRIAL, job(), RUN[:2]), SETTINGS)) == []
    after = plan(seen(trial({"attempt": 1, **fields}, workers=3), job(), RUN), SETTINGS)
    assert after == []


@pytest.mark.parametrize(
    ("pods", "refusal", "reason", "message"),
    [
        (
            [
                worker(0),
                worker(1),
                worker(2, "Pending", started=None, unschedulable="0/2 nodes: Insufficient gpu"),
            ],
            None,
            "Unschedulable",
            "2 of 3 workers run: worker 2: 0/2 nodes: Insufficient gpu",
        ),
        (
            [worker(0), worker(1, "Pending", started=None, waiting=("ErrImagePull", "no image"))],
            None,
            "ErrImagePull",
            "1 of 3 workers run: worker 1: no image",
        ),
        ([worker(0)], "exceeded quota", "Refused", "1 of 3 workers run: exceeded quota"),
    ],
)
def test_it_says_which_worker_it_waits_for_and_why(
    pods: list[Pod], refusal: str | None, reason: str, message: str
) -> None:
    (fields,) = told(plan(seen(TRIAL, job(), pods, refusal=refusal), SETTINGS))
    assert fields["phase"] == TrialPhase.PENDING
    assert (fields["reason"], fields["message"]) == (reason, message)
    again = trial(merged({"attempt": 1}, fields), workers=3)
    assert told(plan(seen(again, job(), pods, refusal=refusal), SETTINGS)) == []


def test_a_queue_that_holds_back_the_job_is_named() -> None:
    (fields,) = told(plan(seen(TRIAL, job(suspended=True, started=None), []), SETTINGS))
    assert fields["reason"] == "Queued"


def test_the_limit_of_time_counts_from_the_start_of_the_last_worker() -> None:
    limited = manifest(trialTemplate={"workers": 2, "timeLimit": "60s"})
    pods = [worker(0, started=-40, accepted=-45), worker(1, started=-10, accepted=-12)]
    observed = replace(seen(trial(workers=2), job(), pods), manifest=limited)
    cuts = {a.name[12]: a.seconds for a in plan(observed, SETTINGS) if isinstance(a, Shorten)}
    assert cuts == {"0": 5 + 60 + 30 + 1, "1": 2 + 60 + 1}
    assert timedelta(seconds=60) == limited.spec.trial_template.time_limit
