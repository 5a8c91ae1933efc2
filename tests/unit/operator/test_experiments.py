"""What is planned for an experiment, from what is seen of it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kinase.api import NASExperiment, names
from kinase.api.pod import unrestricted
from kinase.api.storage import Storage
from kinase_kube.client import EXPERIMENT, JOB
from kinase_operator import drift, experiments, job_specs
from kinase_operator.actions import (
    Action,
    Again,
    Correct,
    Create,
    Delete,
    Emit,
    ExperimentStatus,
)
from kinase_operator.children import wanted_children
from kinase_operator.experiments import Observed, plan
from kinase_operator.views import Child, Experiment, Job, Pod
from tests.unit.operator import samples
from tests.unit.operator.samples import NOW, SETTINGS, at, kinds, owner

CONTROLLER = "toy-controller"


def view(status: dict[str, Any] | None = None, **changes: Any) -> Experiment:
    return samples.view(status, **changes)


def seen(this: Experiment, **more: Any) -> Observed:
    nothing: dict[str, Any] = {"children": {}, "job": None, "pods": [], "refusal": None}
    return Observed(
        experiment=this, manifest=experiments.parse(this), **{**nothing, "now": NOW, **more}
    )


def made(body: dict[str, Any], uid: str = "made") -> dict[str, Any]:
    times = {"resourceVersion": "50", "uid": uid, "creationTimestamp": at(0)}
    return {**body, "metadata": {**body["metadata"], **times}}


def after(before: Observed, actions: list[Action]) -> Observed:
    """What is seen once the actions took effect."""
    status, children, job = before.experiment.status, dict(before.children), before.job
    for action in actions:
        match action:
            case ExperimentStatus(fields):
                kept = {c["type"]: c for c in status.get("conditions", ())}
                kept |= {c["type"]: c for c in fields["conditions"]}
                status = {**status, **fields, "conditions": list(kept.values())}
            case Create(resource, body) if resource == JOB:
                job = Job.of(made(body))
            case Delete(resource, _, _) if resource == JOB:
                job = None
            case Delete(resource, name, _):
                del children[resource.kind, name]
            case Create(resource, body):
                children[resource.kind, action.name] = Child.of(made(body))
            case Correct(resource, name, _, _, patch):
                old = whole_of(before.experiment)[resource.kind]
                changed = made({**old, **children[resource.kind, name].content})
                content = children[resource.kind, name].content
                changed["metadata"]["annotations"] = content["annotations"]
                children[resource.kind, name] = Child.of(samples.merged(changed, patch))
    return replace(
        before, experiment=replace(before.experiment, status=status), children=children, job=job
    )


def whole_of(this: Experiment) -> dict[str, dict[str, Any]]:
    """The children that are wanted, by their kind."""
    found = wanted_children(this, samples.MANIFEST, SETTINGS)
    return {resource.kind: body for resource, body in found}


def settled(this: Experiment, **more: Any) -> Observed:
    """An experiment whose children and controller's Job are there."""
    before = seen(this)
    whole = after(before, plan(before, SETTINGS))
    return replace(whole, **more)


def pod(phase: str = "Running", **more: Any) -> Pod:
    name = more.pop("name", f"{CONTROLLER}-x")
    return samples.pod(
        phase, name=name, job=CONTROLLER, of="made", **{"policy": "OnFailure", **more}
    )


def ready(status: dict[str, Any]) -> tuple[str, str, str]:
    [found] = [c for c in status["conditions"] if c["type"] == "Ready"]
    return found["status"], found["reason"], found["message"]


def said(actions: list[Action]) -> tuple[str, str, str]:
    [status] = [a for a in actions if isinstance(a, ExperimentStatus)]
    return ready(status.fields)


def writes(actions: list[Action]) -> list[Action]:
    return [a for a in actions if not isinstance(a, Again)]


def test_a_fresh_experiment_gets_what_its_controller_needs_before_the_controller() -> None:
    before = seen(view())
    actions = plan(before, SETTINGS)
    assert [(type(a).__name__, a.resource.kind) for a in actions if isinstance(a, Create)] == [
        ("Create", "ServiceAccount"),
        ("Create", "Role"),
        ("Create", "RoleBinding"),
        ("Create", "Service"),
        ("Create", "NetworkPolicy"),
        ("Create", "Job"),
    ]
    assert kinds(actions)[6:] == ["ExperimentStatus"]
    told = after(before, actions)
    assert told.experiment.status == {
        "observedGeneration": 1,
        "phase": "Pending",
        "conditions": [
            {
                "type": "Ready",
                "status": "False",
                "reason": "ControllerStarting",
                "message": "the controller starts",
                "lastTransitionTime": at(0),
                "observedGeneration": 1,
            },
            {
                "type": "Suspended",
                "status": "False",
                "reason": "NotSuspended",
                "message": "",
                "lastTransitionTime": at(0),
                "observedGeneration": 1,
            },
        ],
    }
    assert writes(plan(told, SETTINGS)) == []


def test_what_is_missing_is_made_again_and_what_differs_is_changed() -> None:
    whole = settled(view())
    for key, child in whole.children.items():
        rest = {k: c for k, c in whole.children.items() if k != key}
        [action] = writes(plan(replace(whole, children=rest), SETTINGS))
        assert isinstance(action, Create)
        assert (action.resource.kind, action.name) == key
        other = child.content["annotations"] | {names.SPEC_HASH: "of an older operator"}
        older = replace(child, held=json.dumps({**child.content, "annotations": other}))
        old = {**whole.children, key: older}
        [action] = writes(plan(replace(whole, children=old), SETTINGS))
        assert isinstance(action, Correct)
        assert (action.resource.kind, action.name) == key
        assert writes(plan(after(replace(whole, children=old), [action]), SETTINGS)) == []
    assert kinds(writes(plan(replace(whole, job=None), SETTINGS))) == ["Create"]


PORTS: list[dict[str, Any]] = [{"port": 8080, "targetPort": 8080, "name": "http"}]
EDITS: list[tuple[str, str, dict[str, Any], str]] = [
    ("egress opened", "NetworkPolicy", {"spec": {"egress": [{}]}}, "spec"),
    ("ingress opened", "NetworkPolicy", {"spec": {"ingress": [{}]}}, "spec"),
    ("egress not meant", "NetworkPolicy", {"spec": {"policyTypes": ["Ingress"]}}, "spec"),
    ("another's pods", "NetworkPolicy", {"spec": {"podSelector": {"matchLabels": None}}}, "spec"),
    (
        "secrets added",
        "Role",
        {"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]},
        "rules",
    ),
    ("no rules", "Role", {"rules": None}, "rules"),
    ("port changed", "Service", {"spec": {"ports": [{**PORTS[0], "port": 81}]}}, "spec"),
    ("port added", "Service", {"spec": {"ports": [*PORTS, {"port": 81, "name": "b"}]}}, "spec"),
    ("other pods", "Service", {"spec": {"selector": {"app": "other"}}}, "spec"),
    ("opened to the world", "Service", {"spec": {"type": "LoadBalancer"}}, "spec"),
    ("an address", "Service", {"spec": {"externalIPs": ["192.0.2.1"]}}, "spec"),
    (
        "a subject added",
        "RoleBinding",
        {"subjects": [{"kind": "User", "name": "eve"}]},
        "subjects",
    ),
    (
        "a token mounted",
        "ServiceAccount",
        {"automountServiceAccountToken": True},
        "automountServiceAccountToken",
    ),
    (
        "a label removed",
        "Role",
        {"metadata": {"labels": {names.COMPONENT: None}}},
        "labels",
    ),
    (
        "the owner removed",
        "Service",
        {"metadata": {"ownerReferences": None}},
        "ownerReferences",
    ),
    (
        "the digest",
        "Role",
        {"metadata": {"annotations": None}},
        "",
    ),
]


@pytest.mark.parametrize(
    ("_", "kind", "edit", "fields"), EDITS, ids=[edit[0].replace(" ", "-") for edit in EDITS]
)
def test_what_somebody_changes_of_a_child_is_corrected_and_said(
    _: str, kind: str, edit: dict[str, Any], fields: str
) -> None:
    whole = settled(view(), pods=[pod(ready=True)])
    whole = after(whole, plan(whole, SETTINGS))
    body = whole_of(view())[kind]
    child = Child.of(samples.merged(made(body), edit))
    edited = replace(whole, children={**whole.children, (kind, child.name): child})
    actions = plan(edited, SETTINGS)
    assert isinstance(actions[0], Correct)
    assert (actions[0].resource.kind, actions[0].name) == (kind, body["metadata"]["name"])
    if fields:
        [emitted] = actions[1:]
        assert isinstance(emitted, Emit)
        assert (emitted.kind, emitted.reason) == ("Warning", "Corrected")
        assert f"changed {fields} of {kind} {child.name};" in emitted.message
    else:
        assert not actions[1:]  # as if another operator had made it
    now = samples.merged(samples.merged(made(body), edit), actions[0].patch)
    assert now["metadata"]["annotations"] == body["metadata"]["annotations"]
    assert drift.content(now) == drift.content(body)
    assert (actions[0].uid, actions[0].version) == (child.uid, child.version)


def test_a_controllers_job_without_its_owner_is_made_again() -> None:
    """With the owner's reference taken away, it would outlive the experiment."""
    whole = settled(view(), pods=[pod(ready=True)])
    assert whole.job is not None
    freed = replace(whole, job=replace(whole.job, owner=None))
    [gone, *_] = plan(freed, SETTINGS)
    assert gone == Delete(JOB, CONTROLLER, whole.job.uid)
    other = replace(whole.job, owner=None, labels={})
    assert said(plan(replace(whole, job=other), SETTINGS))[1] == "NameConflict"


def test_a_binding_to_another_role_is_deleted_and_made_again() -> None:
    whole = settled(view(), pods=[pod(ready=True)])
    whole = after(whole, plan(whole, SETTINGS))
    other = {"roleRef": {"kind": "ClusterRole", "name": "admin"}}
    child = Child.of(samples.merged(made(whole_of(view())["RoleBinding"]), other))
    edited = replace(whole, children={**whole.children, ("RoleBinding", child.name): child})
    gone = plan(edited, SETTINGS)
    assert kinds(gone) == ["Delete", "Emit"]
    assert kinds(plan(after(edited, gone), SETTINGS)) == ["Create"]


def test_what_others_may_add_to_a_child_stays() -> None:
    """What the API server fills in, other labels and annotations, a distribution's pull secrets."""
    whole = settled(view(), pods=[pod(ready=True)])
    whole = after(whole, plan(whole, SETTINGS))
    added: dict[str, dict[str, Any]] = {
        "Service": {
            "spec": {
                "clusterIP": "10.0.0.1",
                "ipFamilies": ["IPv4"],
                "sessionAffinity": "None",
                "type": "ClusterIP",
                "ports": [{**PORTS[0], "protocol": "TCP"}],
            }
        },
        "ServiceAccount": {"imagePullSecrets": [{"name": "x"}], "secrets": [{"name": "y"}]},
        "Role": {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}},
        "NetworkPolicy": {"status": {}},
        "RoleBinding": {},
    }
    children = {
        (kind, body["metadata"]["name"]): Child.of(samples.merged(made(body), added[kind]))
        for kind, body in whole_of(view()).items()
    }
    assert plan(replace(whole, children=children), SETTINGS) == []


# -- identity ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "namespace", "fine"),
    [
        ((), "ns", False),
        (("cloud",), "ns", True),
        (("ns/cloud",), "ns", True),
        (("other/cloud",), "ns", False),
        (("clou", "cloud2"), "ns", False),
    ],
)
@pytest.mark.parametrize("field", ["trialTemplate", "controller"])
def test_pods_run_only_as_accounts_that_the_administrator_allows(
    allowed: tuple[str, ...], namespace: str, fine: bool, field: str
) -> None:
    this = view(**{field: {"serviceAccountName": "cloud"}})
    settings = replace(SETTINGS, service_accounts=allowed)
    actions = plan(seen(this), settings)
    if fine:
        assert "Create" in kinds(actions)
        return
    assert "Create" not in kinds(actions)
    _, reason, message = said(actions)
    assert reason == "Forbidden"
    assert f"spec.{field}.serviceAccountName: pods may not run as 'cloud'" in message
    assert "KINASE_SERVICE_ACCOUNTS" in message


@pytest.mark.parametrize(
    ("field", "value", "setting"),
    [
        ("tokenAudience", "https://kubernetes.default.svc", "KINASE_STORE_AUDIENCE"),
        ("stsEndpoint", "http://thief.example", "KINASE_STORE_STS"),
    ],
)
def test_a_controllers_token_is_shown_only_to_whom_the_administrator_names(
    field: str, value: str, setting: str
) -> None:
    """Else a manifest could have the controller hand out a token of its own."""
    role = {"uri": "s3://b", "roleArn": "arn:aws:iam::1:role/nas"}
    own = Storage.model_validate({**role, field: value})
    other = Storage.model_validate({**role, field: f"{value}.org"})
    for store in (None, other, own):
        settings = replace(SETTINGS, store=store)
        actions = plan(seen(view(storage={**role, field: value})), settings)
        if store is own:
            assert "Create" in kinds(actions)
            continue
        assert "Create" not in kinds(actions)
        _, reason, message = said(actions)
        assert reason == "Forbidden"
        assert f"spec.storage.{field} {value!r} is not the administrator's" in message
        assert setting in message


def test_a_controller_whose_account_is_to_be_another_is_made_again() -> None:
    started = {"startTime": at(-100), "phase": "Searching"}
    whole = settled(view(started), pods=[pod(ready=True)])
    settings = replace(SETTINGS, controller_service_account="cloud")
    actions = plan(whole, settings)
    assert [a.resource.kind for a in actions if isinstance(a, Delete)] == ["Job"]
    [binding] = [a for a in actions if isinstance(a, Correct)]
    assert [s["name"] for s in binding.patch["subjects"]] == ["cloud"]
    assert "Emit" not in kinds(actions[:-2])


def test_the_controller_runs() -> None:
    whole = settled(view(), pods=[pod(ready=True)])
    actions = plan(whole, SETTINGS)
    assert said(actions) == ("True", "ControllerRunning", f"pod {CONTROLLER}-x runs the search")
    assert kinds(actions) == ["ExperimentStatus", "Emit"]
    told = after(whole, actions)
    assert plan(told, SETTINGS) == []
    # another pod takes over; the condition has been true all along
    later = replace(told, now=NOW + timedelta(seconds=90), pods=[pod(ready=True, name="other")])
    [status] = plan(later, SETTINGS)
    assert isinstance(status, ExperimentStatus)
    assert status.fields["conditions"][0]["lastTransitionTime"] == at(0)


def test_the_operator_leaves_to_the_controller_what_is_the_controllers() -> None:
    started = {"startTime": at(-100), "phase": "Searching"}
    [status, _] = plan(settled(view(started), pods=[pod(ready=True)]), SETTINGS)
    assert isinstance(status, ExperimentStatus)
    assert set(status.fields) == {"observedGeneration", "conditions"}
    assert [c["type"] for c in status.fields["conditions"]] == ["Ready"]


TOO_LITTLE = (
    "the controller was killed for using more memory than its limit (1Gi); pod toy-controller-x "
    "shows how often. The administrator can raise it (controller.resources in the chart, "
    "KINASE_CONTROLLER_RESOURCES)"
)
TROUBLES: list[tuple[str, Pod, str, str]] = [
    (
        "no image",
        pod("Pending", waiting=("ErrImagePull", "no such image")),
        "ImageNotFound",
        "ErrImagePull: no such image",
    ),
    (
        "no image, again",
        pod("Pending", waiting=("ImagePullBackOff", "back-off")),
        "ImageNotFound",
        "ImagePullBackOff: back-off",
    ),
    (
        "no secret",
        pod("Pending", waiting=("CreateContainerConfigError", 'secret "s" not found')),
        "ConfigMissing",
        'CreateContainerConfigError: secret "s" not found',
    ),
    (
        "cannot start",
        pod("Pending", waiting=("RunContainerError", "exec: no such file")),
        "CannotStart",
        "RunContainerError: exec: no such file",
    ),
    (
        "crashes, waits",
        pod(waiting=("CrashLoopBackOff", "back-off 10s"), restarts=2, last_words="no bucket"),
        "Crashing",
        "no bucket",
    ),
    (
        "crashes without a word",
        pod(waiting=("CrashLoopBackOff", "back-off 10s"), restarts=2),
        "Crashing",
        "CrashLoopBackOff: back-off 10s",
    ),
    ("crashes, tries", pod(restarts=2, last_words="no bucket"), "Crashing", "no bucket"),
    (
        "killed for memory, waits",
        pod(
            waiting=("CrashLoopBackOff", "back-off 10s"),
            restarts=6,
            last_words="POST /v1/trials/1/points",
            last_reason="OOMKilled",
        ),
        "OutOfMemory",
        TOO_LITTLE,
    ),
    (
        "killed for memory, tries",
        pod(restarts=6, last_words="told 12", last_reason="OOMKilled"),
        "OutOfMemory",
        TOO_LITTLE,
    ),
    (
        "killed for memory just now",
        pod(exit=137, reason="OOMKilled", said="told 12"),
        "OutOfMemory",
        TOO_LITTLE,
    ),
    (
        "no node",
        pod("Pending", started=None, unschedulable="0/3 nodes are available"),
        "Unschedulable",
        "0/3 nodes are available",
    ),
    (
        "being made",
        pod("Pending", waiting=("ContainerCreating", "")),
        "ControllerStarting",
        "the controller starts",
    ),
]


@pytest.mark.parametrize(
    ("_", "pod", "reason", "message"), TROUBLES, ids=[trouble[0] for trouble in TROUBLES]
)
def test_what_keeps_the_controller_from_running_is_said_once_until_it_runs(
    _: str, pod: Pod, reason: str, message: str
) -> None:
    whole = settled(view(), pods=[pod])
    actions = writes(plan(whole, SETTINGS))
    if reason != "ControllerStarting":  # which is said already
        assert said(actions) == ("False", reason, message)
        assert kinds(actions) == ["ExperimentStatus", "Emit"]
    told = after(whole, actions)
    assert plan(told, SETTINGS) == []
    better = replace(told, pods=[replace(pod, ready=True, waiting=None, phase="Running")])
    assert said(plan(better, SETTINGS))[1] == "ControllerRunning"


def test_a_controller_that_has_just_been_made_is_given_some_seconds() -> None:
    young = pod("Pending", waiting=("ErrImagePull", "no such image"), created=-1)
    assert plan(settled(view(), pods=[young]), SETTINGS) == [Again(2.1)]


@pytest.mark.parametrize("reason", ["QuotaExceeded", "PodRefused", "Refused", "Invalid"])
def test_a_refusal_is_said_until_it_holds_no_more(reason: str) -> None:
    before = seen(view(), refusal=(reason, "exceeded quota: q"))
    actions = plan(before, SETTINGS)
    assert said(actions) == ("False", reason, "exceeded quota: q")
    assert kinds(actions)[-2:] == ["ExperimentStatus", "Emit"]
    told = after(before, actions)
    assert writes(plan(told, SETTINGS)) == []
    assert said(plan(replace(told, refusal=None), SETTINGS))[1] == "ControllerStarting"
    running = replace(told, pods=[pod(ready=True)])  # it was refused something else once
    assert said(plan(running, SETTINGS))[1] == "ControllerRunning"


def test_a_controllers_job_that_ended_is_made_anew() -> None:
    whole = settled(view({"startTime": at(-500)}))
    ended = replace(whole, job=replace(whole.job, complete=True))  # type: ignore[type-var]
    actions = writes(plan(ended, SETTINGS))
    assert actions == [Delete(JOB, CONTROLLER, "made")]
    assert kinds(writes(plan(after(ended, actions), SETTINGS))) == ["Create"]
    going = replace(ended, job=replace(ended.job, deleting=True))  # type: ignore[type-var]
    assert writes(plan(going, SETTINGS)) == []


def test_a_manifest_that_is_corrected_before_the_search_begins_gets_a_new_controller() -> None:
    old = settled(view())
    new = view(retention={"pods": "1h"})
    delete = Delete(JOB, CONTROLLER, "made")
    assert delete in plan(replace(old, experiment=new, manifest=experiments.parse(new)), SETTINGS)
    started = replace(new, status={"startTime": at(-5)})
    running = replace(old, experiment=started, manifest=experiments.parse(started))
    assert delete not in plan(running, SETTINGS)


# -- suspension --------------------------------------------------------------------------


def test_one_that_is_suspended_from_the_start_gets_nothing() -> None:
    before = seen(view(suspend=True))
    actions = plan(before, SETTINGS)
    assert kinds(actions) == ["ExperimentStatus", "Emit"]
    told = after(before, actions)
    assert told.experiment.status["phase"] == "Suspended"
    assert {c["type"]: c["status"] for c in told.experiment.status["conditions"]} == {
        "Ready": "True",
        "Suspended": "True",
    }
    assert plan(told, SETTINGS) == []


def test_one_that_is_suspended_while_it_runs_waits_for_its_controller_to_end() -> None:
    whole = settled(view({"startTime": at(-90)}, suspend=True), children={})
    job = Job.of(made(job_specs.controller_job(view(), samples.MANIFEST, SETTINGS)))
    running = replace(whole, job=job, pods=[pod(ready=True)])
    told = after(running, plan(running, SETTINGS))
    assert ready(told.experiment.status)[:2] == ("True", "Suspending")
    assert told.job == job
    assert plan(told, SETTINGS) == []
    ended = replace(told, job=replace(job, complete=True), pods=[pod("Succeeded", exit=0)])
    actions = plan(ended, SETTINGS)
    assert Delete(JOB, CONTROLLER, "made") in actions
    assert ready(after(ended, actions).experiment.status)[1] == "Suspended"
    assert plan(after(ended, actions), SETTINGS) == []


def test_a_controller_that_has_not_begun_is_taken_away_by_a_suspension() -> None:
    job = Job.of(made(job_specs.controller_job(view(), samples.MANIFEST, SETTINGS)))
    for pods in ([], [pod("Pending", started=None)]):
        suspended = seen(view(suspend=True), job=job, pods=pods)
        assert Delete(JOB, CONTROLLER, "made") in plan(suspended, SETTINGS)
        assert plan(after(suspended, plan(suspended, SETTINGS)), SETTINGS) == []


def test_one_that_is_resumed_while_the_ended_job_is_there_gets_a_new_one() -> None:
    whole = settled(view({"startTime": at(-90)}))
    resumed = replace(whole, job=replace(whole.job, complete=True))  # type: ignore[type-var]
    gone = after(resumed, plan(resumed, SETTINGS))
    assert gone.job is None
    assert after(gone, plan(gone, SETTINGS)).job is not None


# -- a sidecar beside the controller ------------------------------------------------------


def test_a_controllers_end_does_not_wait_for_a_sidecar() -> None:
    done, crashed = (pod(exit=code, sidecar=samples.LIVES, ready=code == 0) for code in (0, 1))
    whole = settled(view({"startTime": at(-90)}))
    delete = Delete(JOB, CONTROLLER, "made")
    # resumed after a suspension that it has ended for; one that crashed is started by its node
    assert delete in plan(replace(whole, pods=[done]), SETTINGS)
    assert delete not in plan(replace(whole, pods=[crashed]), SETTINGS)
    # the pod of the Job before, which is still to be removed, says nothing of the next Job
    before = replace(done, owner="the Job before")
    assert delete not in plan(replace(whole, pods=[before]), SETTINGS)
    suspended = view({"startTime": at(-90)}, suspend=True)
    still = replace(whole, experiment=suspended, manifest=experiments.parse(suspended))
    assert delete in plan(replace(still, pods=[done]), SETTINGS)
    over = view({"startTime": at(-90), "completionTime": at(-60)})
    finished = replace(whole, experiment=over, pods=[done])
    actions = plan(finished, SETTINGS)
    assert delete in actions, "after a deadline the Job would make another pod"
    assert plan(after(finished, actions), SETTINGS) == []


# -- what cannot be ------------------------------------------------------------------------


def test_a_spec_that_cannot_be_is_told_and_nothing_is_made() -> None:
    before = seen(view(strategy={"type": "Evolution", "evolution": {"population": 1}}))
    actions = plan(before, SETTINGS)
    assert kinds(actions) == ["ExperimentStatus", "Emit"]
    assert said(actions)[:2] == ("False", "InvalidSpec")
    assert "population" in said(actions)[2]
    assert plan(after(before, actions), SETTINGS) == []


HOST: dict[str, Any] = {
    "volumes": [{"name": "host", "hostPath": {"path": "/data"}}],
    "volumeMounts": [{"name": "host", "mountPath": "/data"}],
}


@pytest.mark.parametrize(
    ("template", "field"),
    [
        (HOST, "volumes[0].hostPath"),
        ({"security": {"privileged": True}}, "security.privileged"),
        ({"security": {"runAsUser": 0}}, "security.runAsUser"),
    ],
)
def test_what_breaks_pod_security_needs_the_administrators_leave(
    template: dict[str, Any], field: str
) -> None:
    before = seen(view(trialTemplate=template))
    actions = plan(before, SETTINGS)
    assert kinds(actions) == ["ExperimentStatus", "Emit"]
    assert said(actions)[:2] == ("False", "Forbidden")
    assert f"spec.trialTemplate.{field}" in said(actions)[2]
    assert plan(after(before, actions), SETTINGS) == []
    allowed = plan(before, replace(SETTINGS, allow_unrestricted=True))
    assert kinds(allowed).count("Create") == 6
    assert isinstance(before.manifest, NASExperiment)
    assert unrestricted(before.manifest.spec.trial_template)


def test_a_folder_is_no_store_for_a_cluster() -> None:
    actions = plan(seen(view(storage={"uri": "file://runs"})), SETTINGS)
    assert kinds(actions) == ["ExperimentStatus", "Emit"]
    assert said(actions)[1] == "Forbidden"
    assert "s3://" in said(actions)[2]


def test_a_name_that_is_taken_is_waited_for() -> None:
    whole = settled(view())
    [key, child] = next(iter(whole.children.items()))
    others = [
        seen(view(), job=replace(whole.job, owner="another")),  # type: ignore[type-var]
        seen(view(), children={key: replace(child, owner="another")}),
        seen(view(), children={key: replace(child, owner=None, labels={})}),
    ]
    for before in others:
        actions = plan(before, SETTINGS)
        assert kinds(actions) == ["ExperimentStatus", "Emit", "Again"]
        assert said(actions)[1] == "NameConflict"
        told = after(before, actions)
        assert plan(told, SETTINGS) == [Again(1.0)]
        free = plan(replace(told, job=None, children={}), SETTINGS)
        assert kinds(free).count("Create") == 6


# -- the end -------------------------------------------------------------------------------


def test_a_finished_experiment_needs_nothing_any_more() -> None:
    before = seen(view({"startTime": at(-90), "completionTime": at(-60)}))
    actions = plan(before, SETTINGS)
    assert kinds(actions) == ["ExperimentStatus"]
    assert said(actions)[:2] == ("True", "Finished")
    assert plan(after(before, actions), SETTINGS) == []


def test_a_finished_experiment_goes_by_age_where_its_manifest_says_so() -> None:
    status = {"startTime": at(-90), "completionTime": at(-60)}
    before = seen(view(status, retention={"experiment": "90s"}))
    told = after(before, plan(before, SETTINGS))
    assert plan(told, SETTINGS) == [Again(30.0)]
    old = replace(told, now=NOW + timedelta(seconds=30))
    assert plan(old, SETTINGS) == [Delete(EXPERIMENT, "toy", "exp-uid")]


def test_one_that_is_being_deleted_is_left_alone() -> None:
    assert plan(seen(view(deleting=True)), SETTINGS) == []


# -- events --------------------------------------------------------------------------------


def test_an_event_is_recorded_where_the_reason_is_new_and_somebody_should_know() -> None:
    whole = settled(view(), pods=[pod(ready=True)])
    [_, event] = plan(whole, SETTINGS)
    assert event == Emit("Normal", "ControllerRunning", f"pod {CONTROLLER}-x runs the search")
    told = after(whole, plan(whole, SETTINGS))
    other = replace(told, pods=[pod(ready=True, name="other")])
    assert kinds(plan(other, SETTINGS)) == ["ExperimentStatus"]
    stuck = replace(told, pods=[pod("Pending", waiting=("ErrImagePull", "no such image"))])
    [_, event] = plan(stuck, SETTINGS)
    assert event == Emit("Warning", "ImageNotFound", "ErrImagePull: no such image")


def test_the_owner_that_counts_is_the_one_that_controls() -> None:
    item = made({"metadata": {"name": "a", "ownerReferences": [{"uid": "x"}, *owner("y")]}})
    assert Child.of(item).owner == "y"


LIMIT = {"name": "trials", "spent": 20, "left": 0, "total": 20}


@pytest.mark.parametrize(
    ("limits", "budget", "raised"),
    [
        ([LIMIT], {"trials": 20}, False),
        ([LIMIT], {"trials": 21}, True),
        ([LIMIT], {"epochs": 100}, True),
        ([{**LIMIT, "name": "duration", "total": 3600.0}], {"duration": "1h"}, False),
        ([{**LIMIT, "name": "duration", "total": 3600.0}], {"duration": "61m"}, True),
        ([{**LIMIT, "name": "deviceHours", "total": 2.0}], {"deviceHours": 2.5}, True),
        ([{**LIMIT, "name": "duration", "total": 3600.0}], {"duration": "nonsense"}, False),
        ([], {"trials": 500}, False),
    ],
)
def test_a_raised_limit_brings_the_controller_back(
    limits: list[dict[str, Any]], budget: dict[str, Any], raised: bool
) -> None:
    status = {"startTime": at(0), "completionTime": at(1), "budget": limits}
    this = view(status)
    this = replace(this, spec={**this.spec, "budget": budget})
    assert this.raised is raised
    assert this.finished is not raised
    if budget == {"duration": "nonsense"}:
        return
    made_jobs = [a for a in plan(seen(this), SETTINGS) if isinstance(a, Create)]
    assert any(a.resource == JOB for a in made_jobs) is raised
