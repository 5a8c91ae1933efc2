"""What is planned for a trial, from what is seen of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kinase.api import TrialPhase, TrialReason
from kinase_kube.client import JOB, TRIAL
from kinase_operator.actions import Action, Again, Create, Delete, Emit, Shorten, TrialStatus
from kinase_operator.backoff import LOSSES
from kinase_operator.ends import classify
from kinase_operator.trials import plan, settled
from kinase_operator.views import Job, Object, Pod, Trial, _failed_init
from tests.unit.operator.samples import (
    COMPLETE,
    LIVES,
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
    trial_object,
)

EVICTED = "Eviction API: evicting"
LOST = "Failed Disrupted"
REJECTED = ("UnexpectedAdmissionError", "Pod was rejected: no healthy devices present")
OVERTIME = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
FAILED_INIT: Object = {"name": "wait", "state": {"terminated": {"exitCode": 3, "message": "no"}}}
POLICY = "PodFailurePolicy"


def exited(code: Any, rule: int = 1) -> str:
    """The Job controller's words (kubernetes/pkg/controller/job/pod_failure_policy.go)."""
    where = f"matching FailJob rule at index {rule}"
    return f"Container kinase for pod ns/toy-00007-1-x failed with exit code {code} {where}"


DISRUPTION = "Pod ns/toy-00007-1-x has condition DisruptionTarget matching FailJob rule at index 0"
BACKOFF = failed("BackoffLimitExceeded", "Job has reached the specified backoff limit")
DEADLINE = ("DeadlineExceeded", "Job was active longer than specified deadline")

ENDS: list[tuple[str, Job | None, list[Pod], str | None]] = [
    # the pod's own words
    ("exit 0", job(), [pod("Succeeded", exit=0)], "Succeeded Completed"),
    ("exit 42", job(), [pod("Failed", exit=42)], "Infeasible Infeasible"),
    ("exit 2", job(), [pod("Failed", exit=2)], "Failed BadInput"),
    ("exit 75", job(), [pod("Failed", exit=75)], "Failed Unavailable"),
    ("exit 76", job(), [pod("Failed", exit=76)], "Failed CheckpointGone"),
    ("exit 143", job(), [pod("Failed", exit=143)], "Failed Terminated"),
    *(
        (f"exit {code}", job(), [pod("Failed", exit=code)], "Failed Crashed")
        for code in (1, 3, 41, 43, 126, 127, 128, 134, 137, 139, 255)
    ),
    (
        "exit 0 in a pod that a sidecar let fail",
        job(failed("BackoffLimitExceeded")),
        [pod("Failed", exit=0, sidecar={"terminated": {"exitCode": 1}})],
        "Succeeded Completed",
    ),
    ("exit 0 as it was evicted", job(), [pod("Failed", exit=0, disrupted=EVICTED)], LOST),
    ("OOM", job(), [pod("Failed", exit=137, reason="OOMKilled")], "Failed OutOfMemory"),
    (
        "OOM while it is evicted",
        job(),
        [pod("Failed", exit=137, reason="OOMKilled", disrupted=EVICTED, deleting=True)],
        "Failed OutOfMemory",
    ),
    # disruption
    (
        "evicted, at a checkpoint",
        job(),
        [pod("Failed", exit=143, disrupted=EVICTED, deleting=True)],
        "Failed Disrupted",
    ),
    (
        "evicted, killed",
        job(),
        [pod("Failed", exit=137, disrupted=EVICTED)],
        "Failed Disrupted",
    ),
    (
        "evicted as it was done",
        job(),
        [pod("Succeeded", exit=0, disrupted=EVICTED, deleting=True)],
        "Succeeded Completed",
    ),
    (
        "evicted as it was found infeasible",
        job(),
        [pod("Failed", exit=42, disrupted=EVICTED, deleting=True)],
        "Infeasible Infeasible",
    ),
    (
        "its store was away, then it was evicted",
        job(),
        [pod("Failed", exit=75, disrupted=EVICTED)],
        "Failed Unavailable",
    ),
    ("deleted", job(), [pod("Failed", exit=143, deleting=True)], "Failed Disrupted"),
    ("deleted, killed", job(), [pod("Failed", exit=137, deleting=True)], "Failed Disrupted"),
    ("never began", job(), [pod("Failed", started=None)], "Failed Rejected"),
    (
        "rejected by its node",
        job(),
        [pod("Failed", started=None, node_says=REJECTED)],
        "Failed Rejected",
    ),
    (
        "preempted before it began",
        job(),
        [pod("Failed", started=None, disrupted=EVICTED)],
        "Failed Disrupted",
    ),
    (
        "an init container failed",
        job(),
        [pod("Failed", waiting=("PodInitializing", ""), inits=[FAILED_INIT])],
        "Failed Rejected",
    ),
    ("deleted, not ended", job(), [pod("Running", deleting=True)], None),
    ("evicted, not ended", job(), [pod("Running", disrupted=EVICTED)], None),
    # under way
    ("no pod yet", job(), [], None),
    ("pending", job(), [pod("Pending", started=None)], None),
    ("running", job(), [pod("Running")], None),
    ("suspended by a queue", job(suspended=True), [], None),
    ("no Job yet", None, [], None),
    # the pod is gone, or not seen: the Job's words
    ("complete", job(COMPLETE), [], "Succeeded Completed"),
    (
        "criteria met",
        job(("SuccessCriteriaMet", "CompletionsReached", "")),
        [],
        "Succeeded Completed",
    ),
    ("code 0 is none", job(failed(POLICY, exited("x"))), [], "Failed Disrupted"),
    *(
        (f"policy {code}", job(failed(POLICY, exited(code), kind)), [], wanted)
        for kind in ("Failed", "FailureTarget")
        for code, wanted in (
            (42, "Infeasible Infeasible"),
            (2, "Failed BadInput"),
            (75, "Failed Unavailable"),
            (76, "Failed CheckpointGone"),
            (143, "Failed Terminated"),
            (1, "Failed Crashed"),
            (137, "Failed Crashed"),
        )
    ),
    ("policy, disrupted", job(failed(POLICY, DISRUPTION)), [], "Failed Disrupted"),
    ("backoff", job(BACKOFF), [], "Failed Disrupted"),
    # the Job's condition comes about a second after the pod's end, which says more
    ("both", job(failed(POLICY, exited(1))), [pod("Failed", exit=42)], "Infeasible Infeasible"),
    ("both well", job(COMPLETE), [pod("Succeeded", exit=0)], "Succeeded Completed"),
    ("pod gone by force", None, [pod("Failed", exit=143, deleting=True)], "Failed Disrupted"),
    ("complete, the pod is seen late", job(COMPLETE), [pod("Running")], None),
    ("failed, the pod is seen late", job(failed(POLICY, exited(137))), [pod("Running")], None),
    # beside the trainer a sidecar lives on: the pod runs, and the trainer has ended
    *(
        (f"{wanted} beside a sidecar", job(), [pod("Running", exit=code, sidecar=LIVES)], wanted)
        for code, wanted in (
            (0, "Succeeded Completed"),
            (42, "Infeasible Infeasible"),
            (2, "Failed BadInput"),
            (75, "Failed Unavailable"),
            (76, "Failed CheckpointGone"),
            (143, "Failed Terminated"),
            (1, "Failed Crashed"),
        )
    ),
    (
        "OOM beside a sidecar",
        job(),
        [pod("Running", exit=137, reason="OOMKilled", sidecar=LIVES)],
        "Failed OutOfMemory",
    ),
    ("runs beside a sidecar", job(), [pod("Running", sidecar=LIVES)], None),
    (
        "waits beside a sidecar",
        job(),
        [pod("Pending", waiting=("ErrImagePull", ""), sidecar=LIVES)],
        None,
    ),
    (
        "a sidecar ended first",
        job(),
        [pod("Running", sidecar={"terminated": {"exitCode": 42}})],
        None,
    ),
    # time is up, by the pod's own deadline
    (
        "deadline of the pod",
        job(),
        [pod("Failed", exit=143, node_says=OVERTIME)],
        "Infeasible DeadlineExceeded",
    ),
    (
        "deadline of the pod, killed",
        job(),
        [pod("Failed", exit=137, node_says=OVERTIME)],
        "Infeasible DeadlineExceeded",
    ),
    (
        "crashed before a sidecar's time was up",
        job(),
        [pod("Failed", exit=1, finished=-30, node_says=OVERTIME, accepted=-60, deadline=60)],
        "Failed Crashed",
    ),
    (
        "ended as its time was up",
        job(),
        [pod("Failed", exit=1, finished=-1, node_says=OVERTIME, accepted=-60, deadline=60)],
        "Infeasible DeadlineExceeded",
    ),
    (
        "done as its time was up",
        job(),
        [pod("Failed", exit=0, node_says=OVERTIME)],
        "Succeeded Completed",
    ),
    # time is up
    ("deadline", job(failed(*DEADLINE)), [], "Infeasible DeadlineExceeded"),
    (
        "deadline, the pod goes",
        job(failed(*DEADLINE, "FailureTarget")),
        [pod("Running", deleting=True)],
        None,
    ),
    ("deadline, the pod's end is seen late", job(failed(*DEADLINE)), [pod("Running")], None),
    *(
        (
            f"exit {code} before the deadline",
            job(failed(*DEADLINE)),
            [pod("Failed" if code else "Succeeded", exit=code)],
            wanted,
        )
        for code, wanted in (
            (0, "Succeeded Completed"),
            (1, "Failed Crashed"),
            (2, "Failed BadInput"),
            (42, "Infeasible Infeasible"),
            (75, "Failed Unavailable"),
            (76, "Failed CheckpointGone"),
        )
    ),
    *(
        (
            f"exit {code} {title}, a sidecar lived on",
            job(failed(*DEADLINE), started=-60),
            [pod("Failed", exit=code, finished=finished, deleting=True)],
            wanted,
        )
        for title, finished, code, wanted in (
            ("before the deadline", -21, 1, "Failed Crashed"),
            ("as its time was up", -20, 1, "Infeasible DeadlineExceeded"),
            ("as its time was up", -20, 143, "Infeasible DeadlineExceeded"),
            ("as its time was up", -20, 42, "Infeasible Infeasible"),
        )
    ),
    (
        "out of memory before the deadline",
        job(failed(*DEADLINE)),
        [pod("Failed", exit=137, reason="OOMKilled", deleting=True)],
        "Failed OutOfMemory",
    ),
    (
        "deadline of a pod that never began",
        job(failed(*DEADLINE)),
        [pod("Failed", started=None, deleting=True)],
        "Failed Disrupted",
    ),
    (
        "deadline, the pod is gone",
        job(failed(*DEADLINE)),
        [pod("Failed", exit=143, finished=-19, deleting=True)],
        "Infeasible DeadlineExceeded",
    ),
]
"""Title, Job, pods, and phase and reason of the attempt's end."""
OF_40S = manifest(trialTemplate={"timeLimit": "40s"})


@pytest.mark.parametrize(("_", "job", "pods", "wanted"), ENDS, ids=[end[0] for end in ENDS])
def test_how_an_attempt_ended(_: str, job: Job, pods: list[Pod], wanted: str | None) -> None:
    end = classify(job, pods, OF_40S, NOW)
    assert (f"{end.phase} {end.reason}" if end else None) == wanted


def test_who_deleted_a_pod_that_has_a_deadline_is_the_jobs_to_say() -> None:
    """Of Jobs that another controller manages; the pods of all others have a deadline."""
    elsewhere = {"timeLimit": "60s", "managedBy": "queue.example/cluster"}
    limited = manifest(trialTemplate=elsewhere)

    def reason(job: Job | None, **more: Any) -> str | None:
        end = classify(
            job, [pod("Failed", **{"exit": 143, "deleting": True, **more})], limited, NOW
        )
        return end and end.reason

    assert reason(job()) is None
    late = job(failed(*DEADLINE, "FailureTarget"))
    assert reason(late, finished=0) == TrialReason.DEADLINE_EXCEEDED
    assert reason(late, finished=-1, exit=1) == TrialReason.CRASHED
    assert reason(job(failed(POLICY, exited(143)))) == TrialReason.DISRUPTED
    # nothing will come where the Job goes or is held back, and nothing is open in these
    assert reason(None) == TrialReason.DISRUPTED
    assert reason(job(deleting=True)) == TrialReason.DISRUPTED
    assert reason(job(suspended=True)) == TrialReason.DISRUPTED
    assert reason(job(), disrupted=EVICTED) == TrialReason.DISRUPTED
    assert reason(job(), exit=1, deleting=False) == TrialReason.CRASHED


def test_of_several_pods_one_that_ended_well_decides() -> None:
    """A Job has one pod, but a control plane that was restored may know two."""
    pods = [
        pod("Failed", exit=1, name="a", created=-90),
        pod("Succeeded", exit=0, name="b", created=-50),
    ]
    end = classify(job(), pods, manifest(), NOW)
    assert end
    assert end.phase == TrialPhase.SUCCEEDED


# -- what is done ------------------------------------------------------------------------


def after(this: Trial, actions: list[Action]) -> Trial:
    """The trial once the actions took effect."""
    status = this.status
    for action in actions:
        if isinstance(action, TrialStatus):
            status = merged(status, action.fields)
    return replace(this, status=status)


def status_of(actions: list[Action]) -> Object:
    [fields] = [a.fields for a in actions if isinstance(a, TrialStatus)]
    return fields


def test_a_new_trial_gets_its_job_and_nothing_else() -> None:
    [action] = plan(seen(trial()), SETTINGS)
    assert isinstance(action, Create)
    assert action.resource == JOB
    assert action.name == "toy-00007-1"
    assert action.body["metadata"]["ownerReferences"][0]["uid"] == "trial-uid"


@pytest.mark.parametrize(("_", "job", "pods", "wanted"), ENDS, ids=[end[0] for end in ENDS])
def test_an_end_is_written_once_and_nothing_runs_on(
    _: str, job: Job | None, pods: list[Pod], wanted: str | None
) -> None:
    this = trial()
    actions = plan(seen(this, job, pods, manifest=OF_40S), SETTINGS)
    if wanted is None:
        assert not any(isinstance(a, TrialStatus) and "completionTime" in a.fields for a in actions)
        return
    lost = wanted.split()[1] in LOSSES
    assert kinds(actions) == ["TrialStatus", *(["Emit"] if lost else [])]
    told = after(this, actions)
    assert told.ended
    assert f"{told.status['phase']} {told.status['reason']}" == wanted
    assert told.status.get("disruptions") == (1 if lost else None)
    left = [Shorten(p.name, p.uid, 1) for p in pods if p.lingers]
    assert plan(seen(told, job, pods), SETTINGS) == left
    ended = [replace(p, phase="Failed") for p in pods]
    assert plan(seen(told, job, ended), SETTINGS) == []


def test_an_end_says_where_when_and_what_the_trainer_said() -> None:
    said = '{"value": 0.91, "epochs": 5, "message": "fine"}'
    ended = pod("Succeeded", exit=0, said=said, started=-40, finished=-2)
    assert status_of(plan(seen(trial(), job(), ended), SETTINGS)) == {
        "phase": "Succeeded",
        "reason": "Completed",
        "message": "fine",
        "exitCode": 0,
        "node": "node-1",
        "pod": "toy-00007-1-abcde",
        "startTime": at(-40),
        "completionTime": at(-2),
        "value": 0.91,
        "epochs": 5,
        "attempt": 1,
        "observedGeneration": 1,
    }


def test_the_phase_of_a_trial_that_rests_is_not_that_of_one_that_has_ended() -> None:
    this = trial()
    for said, phase in (
        ('{"epochs": 1, "paused": true}', TrialPhase.PAUSED),
        ('{"epochs": 1, "paused": false}', TrialPhase.SUCCEEDED),
        ('{"epochs": 1}', TrialPhase.SUCCEEDED),
        ('{"epochs": 1, "paused": "perhaps"}', TrialPhase.SUCCEEDED),
    ):
        actions = plan(seen(this, job(), pod("Succeeded", exit=0, said=said)), SETTINGS)
        assert status_of(actions)["phase"] == phase
        assert status_of(actions)["reason"] == TrialReason.COMPLETED
        rests = after(this, actions)
        assert rests.ended, "its attempt"
        promoted = replace(rests, attempt=2)
        assert not promoted.ended
    crashed = pod("Failed", exit=1, said='{"epochs": 1, "paused": true}')
    assert status_of(plan(seen(this, job(), crashed), SETTINGS))["phase"] == TrialPhase.FAILED


@pytest.mark.parametrize(
    "said",
    [
        "Traceback: no such file",
        '{"value": NaN}',
        '{"value": 1e999}',
        '{"epochs": -1}',
        '{"epochs": 9223372036854775808}',
        '{"epochs": 1000000000000000000000000000000}',
        '{"message": 3}',
        "[1, 2]",
        '{"message": "' + "x" * 5000 + '"}',
        "x" * 5000,
        "\x00",
    ],
)
def test_a_message_that_honours_no_contract_is_text(said: str) -> None:
    fields = status_of(plan(seen(trial(), job(), pod("Failed", exit=1, said=said)), SETTINGS))
    assert fields["message"] == said[-1024:]
    assert fields["value"] is None
    assert fields["epochs"] is None


def test_an_end_without_words_still_says_something_where_a_person_needs_it() -> None:
    message = status_of(plan(seen(trial(), job(), pod("Failed", exit=139)), SETTINGS))["message"]
    assert message == "exit code 139"
    oom = pod("Failed", exit=137, reason="OOMKilled")
    assert "memory" in status_of(plan(seen(trial(), job(), oom), SETTINGS))["message"]
    words = status_of(plan(seen(trial(), job(failed(POLICY, exited(1)))), SETTINGS))["message"]
    assert words == exited(1)


def test_running_is_said_after_some_seconds_and_once() -> None:
    this, running = trial(), pod("Running", started=0)
    assert plan(seen(this, job(), running, later=2), SETTINGS) == [Again(3.0)]
    actions = plan(seen(this, job(), running, later=5), SETTINGS)
    assert kinds(actions) == ["TrialStatus"]
    told = after(this, actions)
    assert told.status == {
        "phase": "Running",
        "node": "node-1",
        "pod": "toy-00007-1-abcde",
        "startTime": at(0),
        "attempt": 1,
        "observedGeneration": 1,
    }
    assert plan(seen(told, job(), running, later=60), SETTINGS) == []


# -- waiting -----------------------------------------------------------------------------

WAITS: list[tuple[str, Job, list[Pod], str, str]] = [
    (
        "image",
        job(),
        [pod("Pending", waiting=("ErrImagePull", "no such image"))],
        "ErrImagePull",
        "no such image",
    ),
    (
        "image again",
        job(),
        [pod("Pending", waiting=("ImagePullBackOff", "back-off"))],
        "ImagePullBackOff",
        "back-off",
    ),
    (
        "config",
        job(),
        [pod("Pending", waiting=("CreateContainerConfigError", 'secret "s" not found'))],
        "CreateContainerConfigError",
        'secret "s" not found',
    ),
    (
        "no node",
        job(),
        [pod("Pending", started=None, unschedulable="0/3 nodes: Insufficient nvidia.com/gpu")],
        "Unschedulable",
        "0/3 nodes: Insufficient nvidia.com/gpu",
    ),
    ("queue", job(suspended=True, started=None), [], "Queued", "a queue"),
]


@pytest.mark.parametrize(
    ("_", "job", "pods", "reason", "message"), WAITS, ids=[wait[0] for wait in WAITS]
)
def test_what_a_trial_waits_for_is_said_after_some_seconds_and_once(
    _: str, job: Job, pods: list[Pod], reason: str, message: str
) -> None:
    this = trial()
    young = [replace(p, created=NOW - timedelta(seconds=1)) for p in pods]
    early = plan(seen(this, replace(job, created=NOW - timedelta(seconds=1)), young), SETTINGS)
    assert early == [Again(2.1)]
    actions = plan(seen(this, job, pods), SETTINGS)
    assert kinds(actions) == ["TrialStatus"]
    told = after(this, actions)
    assert (told.status["phase"], told.status["reason"]) == ("Pending", reason)
    assert message in told.status["message"]
    assert plan(seen(told, job, pods), SETTINGS) == []


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing", ""])
def test_a_container_that_is_being_made_is_no_trouble(reason: str) -> None:
    assert plan(seen(trial(), job(), pod("Pending", waiting=(reason, ""))), SETTINGS) == []


def test_what_a_trial_waited_for_is_taken_back_once_it_does_not() -> None:
    stuck = pod("Pending", waiting=("ErrImagePull", "no such image"))
    told = after(trial(), plan(seen(trial(), job(), stuck), SETTINGS))
    creating = pod("Pending", waiting=("ContainerCreating", ""))
    freed = after(told, plan(seen(told, job(), creating), SETTINGS))
    assert freed.status == {"phase": "Pending", "attempt": 1, "observedGeneration": 1}
    assert plan(seen(freed, job(), creating), SETTINGS) == []
    running = after(told, plan(seen(told, job(), pod("Running")), SETTINGS))
    assert "reason" not in running.status
    assert "message" not in running.status


def test_a_trial_that_a_queue_preempts_waits_in_it_again() -> None:
    running = after(trial(), plan(seen(trial(), job(), pod("Running")), SETTINGS))
    queued = after(running, plan(seen(running, job(suspended=True), []), SETTINGS))
    assert (queued.status["phase"], queued.status["reason"]) == ("Pending", "Queued")


def test_a_pod_that_a_queue_took_away_ends_the_attempt_and_its_job_never_begins_anew() -> None:
    this, held = trial(), job(suspended=True)
    gone = pod("Failed", exit=143, deleting=True)
    told = after(this, plan(seen(this, held, gone), SETTINGS))
    assert told.status["reason"] == "Disrupted"
    wanted = [Delete(JOB, "toy-00007-1", "job-uid", "Foreground")]
    assert plan(seen(told, held, gone), SETTINGS) == wanted
    assert plan(seen(told, held, []), SETTINGS) == wanted
    assert plan(seen(told, replace(held, deleting=True), []), SETTINGS) == []


# -- refusals ----------------------------------------------------------------------------


def test_a_refusal_is_said_once_and_the_job_is_tried_again() -> None:
    text = 'jobs.batch "toy-00007-1" is forbidden: exceeded quota: q'
    this = trial()
    actions = plan(seen(this, refusal=text), SETTINGS)
    assert kinds(actions) == ["TrialStatus", "Create"]
    told = after(this, actions)
    assert (told.status["phase"], told.status["reason"]) == ("Pending", "Refused")
    assert told.status["message"] == text
    assert kinds(plan(seen(told, refusal=text), SETTINGS)) == ["Create"]
    made = plan(seen(told, job(), pod("Pending", started=None)), SETTINGS)
    assert after(told, made).status.get("reason") is None


def test_a_pod_that_the_job_controller_cannot_make_is_said_once() -> None:
    this, text = trial(), 'Error creating: pods "x" is forbidden: exceeded quota: q'
    told = after(this, plan(seen(this, job(), refusal=text), SETTINGS))
    assert (told.status["phase"], told.status["reason"]) == ("Pending", "Refused")
    assert told.status["message"] == text
    assert plan(seen(told, job(), refusal=text), SETTINGS) == []
    freed = after(told, plan(seen(told, job(), pod("Pending", started=None)), SETTINGS))
    assert "reason" not in freed.status


def test_a_template_that_the_administrator_forbids_makes_no_job() -> None:
    """The search's controller is not the only one who can make a NASTrial."""
    host = manifest(
        trialTemplate={
            "volumes": [{"name": "host", "hostPath": {"path": "/"}}],
            "volumeMounts": [{"name": "host", "mountPath": "/host"}],
        }
    )
    this = trial()
    actions = plan(seen(this, manifest=host), SETTINGS)
    assert kinds(actions) == ["TrialStatus"]
    told = after(this, actions)
    assert (told.status["phase"], told.status["reason"]) == ("Pending", "Forbidden")
    assert "hostPath" in told.status["message"]
    assert plan(seen(told, manifest=host), SETTINGS) == []
    allowed = replace(SETTINGS, allow_unrestricted=True)
    assert kinds(plan(seen(this, manifest=host), allowed)) == ["Create"]
    # what runs already is followed to its end
    ended = plan(seen(this, job(), pod("Succeeded", exit=0), manifest=host), SETTINGS)
    assert status_of(ended)["phase"] == "Succeeded"


# -- stop and suspension -----------------------------------------------------------------


@pytest.mark.parametrize("how", [{"stop": True}, {}])
def test_a_stop_ends_the_job_and_waits_for_its_pod(how: dict[str, Any]) -> None:
    this, suspended = trial(**how), not how

    def planned(*what: Any) -> list[Action]:
        return plan(seen(this, *what, suspended=suspended), SETTINGS)

    running = pod("Running")
    assert planned(job(), running) == [Delete(JOB, "toy-00007-1", "job-uid", "Foreground")]
    assert planned(job(), []) == [Delete(JOB, "toy-00007-1", "job-uid", "Foreground")]
    assert planned(job(deleting=True), replace(running, deleting=True)) == []
    assert planned(None, replace(running, deleting=True)) == []
    stopped = {"phase": "Stopped", "reason": "Terminated"}
    for code in (143, 137):
        end = pod("Failed", exit=code, deleting=True)
        fields = status_of(planned(job(deleting=True), end))
        assert stopped.items() <= fields.items()
        assert fields["exitCode"] == code
    assert stopped.items() <= status_of(planned(None, [])).items()
    for code, phase in ((0, "Succeeded"), (42, "Infeasible"), (2, "Failed")):
        end = pod("Succeeded" if code == 0 else "Failed", exit=code, deleting=True)
        assert status_of(planned(job(deleting=True), end))["phase"] == phase


def test_a_job_that_is_seen_only_after_the_stop_is_ended() -> None:
    """Its creation's reply was lost, and the trial was told as stopped meanwhile."""
    this = trial(stop=True)
    told = after(this, plan(seen(this), SETTINGS))
    assert told.status["phase"] == "Stopped"
    wanted = [Delete(JOB, "toy-00007-1", "job-uid", "Foreground")]
    assert plan(seen(told, job(), []), SETTINGS) == wanted
    assert plan(seen(told, job(), pod("Running")), SETTINGS) == wanted
    assert plan(seen(told, job(deleting=True), pod("Running")), SETTINGS) == []


def test_after_its_end_a_job_is_left_to_its_time_to_live() -> None:
    """People read the logs of its pod."""
    this = trial()
    end = pod("Failed", exit=1)
    told = after(this, plan(seen(this, job(), end), SETTINGS))
    assert plan(seen(told, job(), end), SETTINGS) == []
    assert plan(seen(told, job(failed(POLICY, exited(1))), end), SETTINGS) == []
    assert plan(seen(told, job(failed(POLICY, exited(1))), []), SETTINGS) == []
    assert plan(seen(told, None, []), SETTINGS) == []


# -- attempts ----------------------------------------------------------------------------


def test_a_raised_attempt_gets_a_job_of_its_own_and_a_blank_status() -> None:
    first = trial()
    end = pod("Failed", exit=1, said='{"value": 0.5, "epochs": 3, "message": "boom"}')
    status = after(first, plan(seen(first, job(), end), SETTINGS)).status
    second = trial(status, attempt=2)
    [action] = plan(seen(second, [job()], [end]), SETTINGS)
    assert isinstance(action, Create)
    assert action.name == "toy-00007-2"
    running = pod("Running", job="toy-00007-2", of="second", name="toy-00007-2-x")
    jobs = [job(failed(POLICY, exited(1))), job(name="toy-00007-2", uid="second")]
    told = after(second, plan(seen(second, jobs, [end, running]), SETTINGS))
    assert told.status == {
        "phase": "Running",
        "node": "node-1",
        "pod": "toy-00007-2-x",
        "startTime": at(-40),
        "attempt": 2,
        "observedGeneration": 1,
        "lastAttempt": {
            "number": 1,
            "reason": "Crashed",
            "message": "boom",
            "exitCode": 1,
            "node": "node-1",
            "completionTime": at(-1),
        },
    }
    over = after(told, plan(seen(told, jobs, [end, replace(running, phase="Failed")]), SETTINGS))
    assert (over.status["attempt"], over.ended) == (2, True)


def test_an_attempt_that_is_raised_early_waits_until_the_one_before_has_ended() -> None:
    """Two pods of a trial would write to the same place."""
    second = trial({"phase": "Running", "attempt": 1}, attempt=2)
    running = pod("Running")
    ending = [Delete(JOB, "toy-00007-1", "job-uid", "Foreground")]
    assert plan(seen(second, job(), running), SETTINGS) == ending
    assert plan(seen(second, job(suspended=True), []), SETTINGS) == ending
    assert plan(seen(second, job(), []), SETTINGS) == ending
    assert plan(seen(second, job(deleting=True), running), SETTINGS) == []
    stopped = replace(second, stop=True)
    assert plan(seen(stopped, job(), running), SETTINGS) == ending
    assert plan(seen(stopped, job(deleting=True), running), SETTINGS) == []
    late = job(failed(*DEADLINE, "FailureTarget"))
    assert plan(seen(second, late, replace(running, deleting=True)), SETTINGS) == []
    assert kinds(plan(seen(second, late, pod("Failed", exit=143)), SETTINGS)) == ["Create"]


def test_a_pod_that_is_left_of_an_earlier_attempt_is_waited_for() -> None:
    left = pod("Running", deleting=True)
    assert plan(seen(trial(attempt=2), None, left), SETTINGS) == []
    assert plan(seen(trial(attempt=2, stop=True), None, left), SETTINGS) == []
    ended = replace(left, phase="Failed")
    assert kinds(plan(seen(trial(attempt=2), None, ended), SETTINGS)) == ["Create"]
    assert status_of(plan(seen(trial(attempt=2, stop=True), None, ended), SETTINGS))["attempt"] == 2


def test_a_job_of_an_earlier_attempt_that_is_seen_late_is_ended() -> None:
    second = trial(attempt=2)
    jobs = [job(), job(name="toy-00007-2", uid="second")]
    ending = Delete(JOB, "toy-00007-1", "job-uid", "Foreground")
    assert ending in plan(seen(second, jobs), SETTINGS)
    over = replace(second, status={"attempt": 2, "phase": "Failed", "completionTime": at(0)})
    assert ending in plan(seen(over, jobs), SETTINGS)


def test_a_job_of_a_later_attempt_than_is_known_is_left_alone() -> None:
    """Another operator made it: this one has yet to see that the attempt was raised."""
    later = job(name="toy-00007-2", uid="second")
    ended = trial({"attempt": 1, "phase": "Failed", "completionTime": at(0)})
    assert plan(seen(ended, [later], pod("Running", of="second")), SETTINGS) == []


def test_a_job_that_somebody_deleted_is_made_again_only_after_its_pod() -> None:
    this = trial({"phase": "Running", "attempt": 1})
    assert plan(seen(this, None, pod("Running", deleting=True)), SETTINGS) == []
    end = pod("Failed", exit=143, deleting=True)
    assert status_of(plan(seen(this, None, end), SETTINGS))["reason"] == "Disrupted"
    assert kinds(plan(seen(this, None, []), SETTINGS)) == ["Create"]


def test_a_pod_of_an_earlier_job_of_the_name_says_nothing_of_this_one() -> None:
    old = pod("Failed", exit=1, of="deleted-job", name="toy-00007-1-old")
    this = trial()
    assert plan(seen(this, job(), [old, pod("Running", started=0)], later=1), SETTINGS) == [
        Again(4.0)
    ]


# -- owners, removal -----------------------------------------------------------------------


def test_a_job_of_an_earlier_trial_of_the_name_is_waited_for() -> None:
    this, other = trial(), job(of="earlier-trial")
    actions = plan(seen(this, other), SETTINGS)
    assert kinds(actions) == ["TrialStatus", "Again"]
    assert status_of(actions)["reason"] == "NameConflict"
    told = after(this, actions)
    assert plan(seen(told, other), SETTINGS) == [Again(1.0)]
    assert kinds(plan(seen(told), SETTINGS)) == ["Create"]


def test_a_trial_whose_experiment_is_gone_goes_too() -> None:
    for what in (None, job()):
        actions = plan(seen(trial(), what, manifest=None), SETTINGS)
        assert actions == [Delete(TRIAL, "toy-00007", "trial-uid")]


def test_a_trial_that_is_being_deleted_is_left_alone() -> None:
    assert plan(seen(trial(deleting=True), job(), pod("Succeeded", exit=0)), SETTINGS) == []
    assert plan(seen(trial(deleting=True), manifest=None), SETTINGS) == []


def test_a_trial_goes_by_age_where_the_manifest_says_so() -> None:
    this = trial({"attempt": 1, "phase": "Succeeded", "completionTime": at(-60)})
    assert plan(seen(this), SETTINGS) == []
    aged = manifest(retention={"trials": "90s"})
    assert plan(seen(this, manifest=aged), SETTINGS) == [Again(30.0)]
    gone = [Delete(TRIAL, "toy-00007", "trial-uid")]
    assert plan(seen(this, manifest=aged, later=30), SETTINGS) == gone
    again = trial(this.status, attempt=2)
    assert kinds(plan(seen(again, manifest=aged, later=30), SETTINGS)) == ["Create"]


def test_what_a_trial_runs_is_dropped_once_it_has_ended_and_kept_for_another_attempt() -> None:
    ended = {"attempt": 1, "phase": "Failed", "completionTime": at(-60)}
    assert Trial.of(trial_object(ended)).body is None
    assert Trial.of(trial_object(ended, attempt=2)).body == {"token": None, "job": '{"seed":3}'}


def test_a_pod_that_never_ends_after_its_deletion_is_given_up_and_the_next_attempt_begins() -> None:
    lost = pod("Running", deleting=True, started=-300)
    assert lost.due == NOW
    assert settled(lost, NOW + timedelta(seconds=59)) == lost
    ended = settled(lost, NOW + timedelta(seconds=60))
    assert ended.ended
    later = {"now": NOW + timedelta(seconds=60)}
    fields = status_of(plan(replace(seen(trial(), job(), ended), **later), SETTINGS))
    assert (fields["phase"], fields["reason"]) == ("Failed", "Disrupted")
    assert fields["message"] == "the node node-1 does not answer"
    assert settled(pod("Running", started=-300), NOW + timedelta(days=1)).phase == "Running"


# -- the time limit ------------------------------------------------------------------------

LIMITED = manifest(trialTemplate={"timeLimit": "60s"})


def test_a_time_limit_counts_from_the_start_of_the_trainer() -> None:
    """Its node counts from when it took on the pod: here the image took it 100 s."""
    running = pod("Running", accepted=-140, started=-40, created=-5000)
    this = trial()
    cut = Shorten(running.name, running.uid, 100 + 60 + 1)
    actions = plan(seen(this, job(), running, manifest=LIMITED), SETTINGS)
    assert kinds(actions) == ["Shorten", "TrialStatus"]
    assert actions[0] == cut
    told = after(this, actions)
    assert plan(seen(told, job(), running, manifest=LIMITED), SETTINGS) == [cut]
    for there in (161, 30):  # a shorter one is somebody else's
        limited = replace(running, deadline=there)
        assert plan(seen(told, job(), limited, manifest=LIMITED), SETTINGS) == []
    longer = replace(running, deadline=1000)
    assert plan(seen(told, job(), longer, manifest=LIMITED), SETTINGS) == [cut]
    assert plan(seen(told, job(), running), SETTINGS) == [], "there is no limit"


def test_a_short_trial_is_spared_the_write_and_a_short_limit_is_not_missed() -> None:
    young = pod("Running", accepted=-3, started=-1)
    assert kinds(plan(seen(trial(), job(), young, manifest=LIMITED), SETTINGS)) == ["Again"]
    short = manifest(trialTemplate={"timeLimit": "2s"})
    actions = plan(seen(trial(), job(), young, manifest=short), SETTINGS)
    assert actions == [Shorten(young.name, young.uid, 2 + 2 + 1), Again(4.0)]


@pytest.mark.parametrize(
    "waits",
    [
        pod("Pending", started=None, unschedulable="0/1 nodes are available", created=-9000),
        pod("Pending", waiting=("ImagePullBackOff", "no such image"), created=-9000),
        pod("Pending", waiting=("PodInitializing", ""), created=-9000, accepted=-9000),
        None,  # a quota lets in no pod
    ],
    ids=["no node", "no image", "init containers", "quota"],
)
def test_what_never_began_is_pending_however_long_and_has_no_deadline(waits: Pod | None) -> None:
    pods = [] if waits is None else [waits]
    this = seen(trial(), job(created=-9000), pods, manifest=LIMITED, refusal="exceeded quota: q")
    actions = plan(this, SETTINGS)
    assert not any(isinstance(a, Shorten | Delete) for a in actions)
    assert all(a.fields["phase"] == "Pending" for a in actions if isinstance(a, TrialStatus))


def test_a_pod_past_its_deadline_tells_the_limit() -> None:
    over = pod("Failed", exit=143, node_says=OVERTIME, deadline=61)
    fields = status_of(plan(seen(trial(), job(), over, manifest=LIMITED), SETTINGS))
    assert fields["message"] == "it ran longer than trialTemplate.timeLimit, 0:01:00"
    assert (fields["exitCode"], fields["pod"]) == (143, over.name)


# -- sidecars ------------------------------------------------------------------------------


def test_the_trainer_is_found_by_its_name_wherever_it_stands() -> None:
    beside = pod("Running", exit=42, said="never", sidecar=LIVES)
    assert (beside.exit_code, beside.exit_message, beside.over) == (42, "never", True)
    assert (beside.ended, beside.lingers) == (True, True)
    alone = pod("Running", sidecar=LIVES, started=None)
    assert (alone.exit_code, alone.started, alone.ended) == (None, None, False)


def test_a_controllers_container_that_failed_is_run_again_and_has_not_ended() -> None:
    crashed = pod("Running", exit=1, policy="OnFailure", sidecar=LIVES)
    done = pod("Running", exit=0, policy="OnFailure", sidecar=LIVES)
    assert (crashed.ended, done.ended) == (False, True)


def test_a_trainer_that_runs_before_its_sidecar_does_is_running() -> None:
    """The phase of such a pod is Pending, but an epoch passes."""
    early = replace(pod("Running", started=-40), phase="Pending")
    assert status_of(plan(seen(trial(), job(), early), SETTINGS))["phase"] == "Running"


def test_a_sidecar_that_cannot_start_is_what_the_trial_waits_for() -> None:
    proxy = {"name": "proxy", "state": {"waiting": {"reason": "ErrImagePull", "message": "no"}}}
    waits = pod("Pending", waiting=("PodInitializing", ""), inits=[proxy])
    fields = status_of(plan(seen(trial(), job(), waits), SETTINGS))
    assert (fields["reason"], fields["message"]) == ("ErrImagePull", "container proxy: no")


def test_a_sidecar_lives_no_longer_than_the_end_of_its_trainer_is_untold() -> None:
    """A deadline would make of an exit code a time limit, so the status comes first."""
    this, left = trial(), pod("Running", exit=1, sidecar=LIVES)
    actions = plan(seen(this, job(), left), SETTINGS)
    assert kinds(actions) == ["TrialStatus"]
    told = after(this, actions)
    cut = Shorten(left.name, left.uid, 1)
    assert plan(seen(told, job(), left), SETTINGS) == [cut]
    assert plan(seen(told, job(), replace(left, deadline=1)), SETTINGS) == []
    assert plan(seen(told, job(), replace(left, deadline=900)), SETTINGS) == [cut]
    assert plan(seen(told, job(), replace(left, deleting=True)), SETTINGS) == []
    # the next attempt does not wait for it, and it is ended even where the status was not seen
    second = replace(told, attempt=2, body={"token": None, "job": "{}"})
    assert kinds(plan(seen(second, job(), left), SETTINGS)) == ["Shorten", "Create"]


# -- lost attempts -------------------------------------------------------------------------


def lose(this: Trial, what: Pod, *, later: float = 0.0, most: int = 100) -> tuple[Trial, list[str]]:
    """The trial once an attempt's end is told, and the Events of it."""
    limits = manifest(trialTemplate={"maxDisruptions": most})
    actions = plan(seen(this, job(), what, manifest=limits, later=later), SETTINGS)
    events = [f"{a.reason}: {a.message}" for a in actions if isinstance(a, Emit)]
    return after(this, actions), events


def test_a_rejected_attempt_keeps_its_reason_and_the_next_waits_for_its_time() -> None:
    rejected = pod("Failed", started=None, node_says=REJECTED)
    first, [event] = lose(trial(), rejected)
    words = "UnexpectedAdmissionError: Pod was rejected: no healthy devices present"
    assert first.status["reason"] == "Rejected"
    assert first.status["message"] == words
    assert "startTime" not in first.status, "it held no device"
    assert event.startswith(f"Rejected: attempt 1 on node-1: {words}; starts again in ")
    until = first.status["retryTime"]
    assert at(8) <= until <= at(10)
    second = replace(first, attempt=2, body={"token": None, "job": "{}"})
    actions = plan(seen(second, None, rejected), SETTINGS)
    assert kinds(actions) == ["TrialStatus", "Again"]
    told = after(second, actions)
    assert (told.status["phase"], told.status["reason"]) == ("Pending", "BackOff")
    assert told.status["message"] == (
        f"starts again at {until[11:19]} UTC: an attempt was lost: Rejected: {words}"
    )
    assert told.status["lastAttempt"]["message"] == words
    # a new operator knows no more than the status, and waits as long
    assert kinds(plan(seen(told, None, rejected, later=5), SETTINGS)) == ["Again"]
    assert kinds(plan(seen(told, None, rejected, later=10), SETTINGS)) == ["Create"]
    stopped = replace(told, stop=True)
    gone = after(stopped, plan(seen(stopped, None, rejected), SETTINGS))
    assert gone.status["phase"] == "Stopped"
    assert not {"retryTime", "disruptions"} & gone.status.keys(), "resumed, it begins at once"


def test_a_trial_that_is_lost_too_often_in_a_row_is_given_up() -> None:
    this, said = trial(), []
    for attempt in range(1, 5):
        number = job(name=f"toy-00007-{attempt}")
        rejected = pod("Failed", started=None, node_says=REJECTED, job=f"toy-00007-{attempt}")
        limits = manifest(trialTemplate={"maxDisruptions": 3})
        this = replace(this, attempt=attempt, body={"token": None, "job": "{}"})
        actions = plan(seen(this, number, rejected, manifest=limits), SETTINGS)
        this = after(this, actions)
        said += [a.reason for a in actions if isinstance(a, Emit)]
        assert this.status["disruptions"] == attempt
    assert said == ["Rejected", "Rejected", "Rejected", "GivenUp"]
    assert (this.status["phase"], this.status["reason"]) == ("Failed", "GivenUp")
    assert this.status["message"] == (
        "more than trialTemplate.maxDisruptions, 3: 4 attempts in a row were lost, the last: "
        "Rejected: UnexpectedAdmissionError: Pod was rejected: no healthy devices present"
    )
    assert "retryTime" not in this.status


def test_a_crash_or_a_long_run_begins_the_count_of_losses_again() -> None:
    often = trial({"attempt": 1, "disruptions": 7, "retryTime": at(-99)})
    crashed, events = lose(often, pod("Failed", exit=1))
    assert (crashed.status.get("disruptions"), events) == (None, [])
    short, _ = lose(often, pod("Failed", exit=137, disrupted=EVICTED, started=-590))
    assert short.status["disruptions"] == 8
    long, [event] = lose(often, pod("Failed", exit=137, disrupted=EVICTED, started=-602))
    assert long.status["disruptions"] == 1
    assert "retryTime" not in long.status
    assert event == f"Disrupted: attempt 1 on node-1: {EVICTED}"


def test_a_native_sidecar_that_is_stopped_is_no_init_container_that_failed() -> None:
    stopped = {"name": "proxy", "state": {"terminated": {"exitCode": 143}}}
    status = {"initContainerStatuses": [stopped]}
    sidecar = {"initContainers": [{"name": "proxy", "restartPolicy": "Always"}]}
    assert _failed_init(sidecar, status) == ""
    assert "exit code 143" in _failed_init({"initContainers": [{"name": "proxy"}]}, status)
