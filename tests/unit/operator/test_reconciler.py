"""The reconciler on a cluster in memory, where the cluster or Kopf behaves in a certain way."""

from __future__ import annotations

import asyncio
from typing import Any

from kinase.api import names
from kinase_kube import client as kube
from kinase_kube.client import Object
from kinase_operator.reconciler import Reconciler
from tests.unit.kube.virtual import now
from tests.unit.operator.cluster import (
    KUBELET,
    FakeClient,
    attempt_over,
    condition,
    finished,
)
from tests.unit.operator.world import CALM, NS, World

EXPERIMENT = (kube.EXPERIMENT.plural, NS, "a")


def ready(world: World, name: str = "a") -> tuple[str, str]:
    """Reason and message of the condition `Ready`."""
    item = world.cluster.find(kube.EXPERIMENT, NS, name)
    assert item is not None
    [found] = [c for c in item["status"]["conditions"] if c["type"] == "Ready"]
    return found["reason"], found["message"]


def trial(world: World, name: str) -> Object:
    found = world.cluster.find(kube.TRIAL, NS, name)
    assert found is not None
    return found


def writes(world: World, verb: str, plural: str) -> list[str]:
    return [n for c in world.clients for _, v, p, n in c.writes if (v, p) == (verb, plural)]


# -- names ---------------------------------------------------------------------------------


def test_a_name_that_somebody_else_uses_is_told_and_taken_once_it_is_free() -> None:
    """The other's object has no label of ours: no informer sees it come or go."""

    async def story(world: World) -> None:
        world.strangers = True
        for resource, name in ((kube.SERVICE, "a-controller"), (kube.JOB, "b-00001-1")):
            other = {"metadata": {"name": name, "namespace": NS}, "spec": {"suspend": True}}
            world.cluster.create(resource, other)
        world.start(world.operator(CALM))
        world.make("a")
        world.make("b")
        await asyncio.sleep(60)
        assert ready(world)[0] == "NameConflict"
        assert "Service a-controller of another owner" in ready(world)[1]
        status = trial(world, "b-00001")["status"]
        assert "Job b-00001-1 of another owner" in status["message"]
        world.cluster.delete(("services", NS, "a-controller"))
        world.cluster.delete(("jobs", NS, "b-00001-1"))
        await world.settle()

    World(1).run(story)


def test_a_pod_that_is_left_of_an_earlier_experiment_says_nothing_of_this_one() -> None:
    async def story(world: World) -> None:
        labels = {
            names.MANAGED_BY: names.MANAGER,
            names.COMPONENT: "trial",
            names.EXPERIMENT: "a",
            names.EXPERIMENT_UID: "earlier",
            names.JOB_TRIAL: "a-00000",
            names.ATTEMPT: "1",
            "batch.kubernetes.io/job-name": "a-00000-1",
        }
        for name, phase in (("failed", "Failed"), ("stuck", "Running")):
            metadata = {"name": name, "namespace": NS, "labels": labels, "finalizers": ["other/x"]}
            owner = {"uid": "gone", "controller": True, "kind": "Job", "name": "a-00000-1"}
            body = {"metadata": {**metadata, "ownerReferences": [owner]}, "spec": {}}
            world.cluster.create(kube.POD, {**body, "status": {"phase": phase}})
        world.start(world.operator(CALM))
        world.make("a")
        await asyncio.sleep(60)
        assert trial(world, "a-00000")["status"]["phase"] == "Succeeded"
        for name in ("failed", "stuck"):
            pod = world.cluster.find(kube.POD, NS, name)
            assert pod is not None
            world.cluster.drop_finalizers(pod, "other/x", KUBELET)
        await world.settle()

    World(1).run(story)


def test_a_correction_does_not_reach_what_has_taken_the_name_meanwhile() -> None:
    async def story(world: World) -> None:
        world.strangers = True
        world.start(world.operator(CALM))
        world.make("a")
        key = ("roles", NS, "a-controller")
        while key not in world.cluster.objects:
            await asyncio.sleep(0.1)
        rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
        other = {"metadata": {"name": "a-controller", "namespace": NS}, "rules": rules}
        client: Any = world.clients[-1]
        merge, swapped = client.merge, []

        async def slow(resource: kube.Resource, *arguments: Any) -> Object:
            if resource == kube.ROLE and not swapped:
                world.cluster.delete(key)
                swapped.append(world.cluster.create(kube.ROLE, other))
            found: Object = await merge(resource, *arguments)
            return found

        client.merge = slow
        world.cluster.update(world.cluster.objects[key], lambda role: role.update(rules=[]))
        while not swapped:
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        assert world.cluster.objects[key]["rules"] == rules
        assert ready(world)[0] == "NameConflict"
        world.cluster.delete(key)
        await world.settle()

    World(1).run(story)


# -- refusals ------------------------------------------------------------------------------


def test_a_quota_on_jobs_is_told_and_the_trials_run_once_there_is_room() -> None:
    async def story(world: World) -> None:
        world.cluster.quota = "jobs"
        world.start(world.operator(CALM))
        world.make("a")
        await asyncio.sleep(60)
        for item in world.cluster.all(kube.TRIAL):
            assert item["status"]["phase"] == "Pending"
            assert "exceeded quota" in item["status"]["message"]
        told = writes(world, "merge", "nastrials")
        assert len(told) == len(set(told))
        world.cluster.quota = ""
        await world.settle()

    World(1).run(story)


def test_a_quota_on_pods_is_told_by_the_condition_until_there_is_room() -> None:
    async def story(world: World) -> None:
        world.cluster.quota = "pods"
        world.start(world.operator(CALM))
        world.make("a")
        await asyncio.sleep(60)
        assert ready(world)[0] == "QuotaExceeded"
        assert "exceeded quota: q" in ready(world)[1]
        assert len(writes(world, "apply", "nasexperiments")) == 2
        world.cluster.quota = ""
        await asyncio.sleep(15)
        assert ready(world)[0] in ("ControllerRunning", "Finished")
        await world.settle()

    World(1).run(story)


def test_a_quota_on_pods_is_told_by_the_trials_that_it_holds_back() -> None:
    async def story(world: World) -> None:
        world.start(world.operator(CALM))
        world.make("a")
        while not list(world.cluster.all(kube.TRIAL)):
            await asyncio.sleep(0.1)
        world.cluster.quota = "pods"
        await asyncio.sleep(120)
        held = [t for t in world.cluster.all(kube.TRIAL) if not attempt_over(t)]
        assert held
        for item in held:
            assert (item["status"]["phase"], item["status"]["reason"]) == ("Pending", "Refused")
            assert "exceeded quota: q" in item["status"]["message"]
        told = writes(world, "merge", "nastrials")
        assert all(told.count(item["metadata"]["name"]) == 1 for item in held)
        world.cluster.quota = ""
        await world.settle()

    World(1).run(story)


def test_in_a_namespace_that_goes_nothing_is_tried_again_and_again() -> None:
    async def story(world: World) -> None:
        world.start(world.operator(CALM))
        await asyncio.sleep(5)
        world.make("a")
        world.cluster.terminating = True
        await asyncio.sleep(50)
        assert "Ready" not in str(world.cluster.objects[EXPERIMENT]["status"])
        assert len(world.reconciler.queue) == 0
        world.cluster.terminating = False
        await world.settle()  # by the resync

    World(1).run(story)


# -- Kopf's watch --------------------------------------------------------------------------


class Deaf(World):
    """Kopf tells of no deletion, as after a watch that began anew."""

    async def kopf(self, client: FakeClient, reconciler: Reconciler) -> None:
        class Muffled:
            def experiment_changed(self, kind: str | None, item: Object) -> None:
                if kind != "DELETED":
                    reconciler.cache.experiment_changed(kind, item)

        await super().kopf(client, Muffled())  # type: ignore[arg-type]


def test_a_deletion_that_kopf_does_not_tell_is_found_out() -> None:
    async def story(world: World) -> None:
        world.start(world.operator(CALM))
        for name in ("a", "b"):
            world.make(name, suspend=name == "a")
        await asyncio.sleep(10)
        for name in ("a", "b"):
            world.cluster.delete((kube.EXPERIMENT.plural, NS, name))
        await world.settle()
        assert world.reconciler.cache.experiments == {}
        assert [key for key in world.cluster.objects if key[0] != "events"] == []
        world.make("a")
        await world.settle()

    Deaf(1).run(story)


class Late(World):
    """Kopf tells everything half a minute late."""

    async def kopf(self, client: FakeClient, reconciler: Reconciler) -> None:
        class Postponed:
            def experiment_changed(self, *event: Any) -> None:
                loop = asyncio.get_running_loop()
                loop.call_later(30, reconciler.cache.experiment_changed, *event)

        await super().kopf(client, Postponed())  # type: ignore[arg-type]


def test_a_controller_that_has_finished_is_not_made_anew_before_its_end_is_known() -> None:
    async def story(world: World) -> None:
        world.start(world.operator(CALM))
        world.make("a")
        await world.settle()
        assert writes(world, "delete", "jobs") == []
        assert writes(world, "create", "jobs").count("a-controller") == 1

    for seed in range(5):
        Late(seed).run(story)


def test_of_an_experiment_that_is_gone_nothing_is_made_however_late_kopf_tells() -> None:
    async def story(world: World) -> None:
        world.start(world.operator(CALM))
        world.make("a")
        await asyncio.sleep(world.rng.uniform(25, 50))
        world.cluster.delete(EXPERIMENT)
        began = now()
        await world.settle()
        made = [w for c in world.clients for w in c.writes if w[1] == "create" and w[0] > began + 1]
        assert made == []

    for seed in range(5):
        Late(seed).run(story)


# -- suspension ----------------------------------------------------------------------------


def test_a_suspension_is_told_in_two_writes_where_the_controller_could_not_start() -> None:
    async def story(world: World) -> None:
        world.start(world.operator(CALM))
        world.make("a")
        await asyncio.sleep(12)
        world.cluster.quota = "pods"
        for pod in list(world.cluster.all(kube.POD, **{names.COMPONENT: "controller"})):
            world.cluster.delete(("pods", NS, pod["metadata"]["name"]))
        await asyncio.sleep(30)
        before = len(writes(world, "apply", "nasexperiments"))
        world.cluster.merge(EXPERIMENT, {"spec": {"suspend": True}}, "")
        await asyncio.sleep(30)
        item = world.cluster.objects[EXPERIMENT]
        assert item["status"]["phase"] == "Suspended"
        assert condition(item, "Suspended")
        assert all(finished(job) for job in world.cluster.all(kube.JOB))
        assert len(writes(world, "apply", "nasexperiments")) - before <= 3
        world.cluster.quota = ""
        world.cluster.merge(EXPERIMENT, {"spec": {"suspend": False}}, "")
        await world.settle()

    World(2).run(story)
