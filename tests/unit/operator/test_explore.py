"""The operator explored as a state machine: the real reconciler, informers and queue on a cluster
in memory, with everything going wrong that may, one story a seed.

A failure prints its seed and its history; the same seed plays the same story again. `make test`
plays the first batch of seeds, `make soak` the others; to look further: KINASE_TEST_SEEDS=2000.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter

import pytest

from kinase_kube import client as kube
from tests.unit.operator.cluster import Faults, finished
from tests.unit.operator.world import CALM, NS, World

SEEDS = int(os.environ.get("KINASE_TEST_SEEDS", "80"))
BATCH = 20
"""Seeds of one test."""


def batches(start: int) -> pytest.MarkDecorator:
    """Seeds from `start` on, some of them at a time; all but the first lot are soak tests."""
    ranges = [range(start + n, start + min(n + BATCH, SEEDS)) for n in range(0, SEEDS, BATCH)]
    more = [pytest.param(each, id=str(each), marks=pytest.mark.soak) for each in ranges[1:]]
    return pytest.mark.parametrize("seeds", [pytest.param(ranges[0], id=str(ranges[0])), *more])


def rough(rng: random.Random, *, zombie: float = 0.0, crash: float = 0.1) -> Faults:
    """A cluster and an operator that are not well."""
    return Faults(
        latency=rng.choice([0.02, 0.5]),
        staleness=rng.choice([0.05, 1.0]),
        refuse=0.03,
        lose=0.05,
        zombie=zombie,
        crash=rng.choice([0, 0.02, crash]),
        cut=0.03,
        expire=0.02,
        repeat=0.1,
        stall=0.02,
    )


async def undisturbed(world: World) -> None:
    world.make("a")
    world.make("b")
    world.start(world.operator(CALM))
    await world.settle()


async def troubled(world: World, operators: int = 1) -> None:
    """The operator is not well, or dies again and again; nobody else does anything."""
    faults = rough(world.rng)
    world.make("a")
    world.make("b")
    for _ in range(operators):
        world.start(world.operator(faults))
    await asyncio.sleep(120)
    vars(faults).update(vars(CALM))
    await world.settle()


async def wild(world: World) -> None:
    """Users, administrators and nodes do what they may besides, to one operator or two."""
    rng, cluster = world.rng, world.cluster
    faults = rough(rng, zombie=0.03)
    world.make("a")
    world.make("b")
    world.start(world.operator(faults))
    if rng.random() < 0.3:
        world.start(world.operator(faults, "second"))
    for _ in range(rng.randrange(4, 25)):
        await asyncio.sleep(rng.expovariate(1 / 5))
        world.act(rng.choice("ab"))
    world.note("-- calm")
    vars(faults).update(vars(CALM))
    cluster.quota, world.troubles = "", False
    for job in list(cluster.all(kube.JOB)):
        if not finished(job):
            cluster.merge(("jobs", NS, job["metadata"]["name"]), {"spec": {"suspend": False}}, "")
    await asyncio.sleep(30)
    await world.settle()


@batches(0)
def test_an_operator_that_is_restarted_at_any_moment_comes_to_the_same_end(seeds: range) -> None:
    for seed in seeds:
        calm, world = World(seed, troubles=True), World(seed, troubles=True)
        calm.run(undisturbed)
        world.run(troubled)
        assert world.outcome() == calm.outcome(), (seed, world.history)
        assert set(world.jobs.values()) == {1}, (seed, world.jobs, world.history)
        assert (world.late, world.doubles) == ([], []), (seed, world.history)


@batches(10_000)
def test_two_operators_at_once_make_nothing_twice(seeds: range) -> None:
    for seed in seeds:
        world = World(seed, troubles=True)
        world.run(lambda world: troubled(world, operators=2))
        assert set(world.jobs.values()) == {1}, (seed, world.jobs, world.history)
        assert (world.late, world.doubles) == ([], []), (seed, world.history)


@batches(20_000)
def test_whatever_happens_everything_ends_and_nothing_is_left(seeds: range) -> None:
    for seed in seeds:
        rng = random.Random(seed)
        retention = {"pods": rng.choice(["5s", "30s", "10m"])}
        if rng.random() < 0.3:
            retention |= {"trials": rng.choice(["1s", "20s"]), "experiment": "90s"}
        World(seed, troubles=True, **retention).run(wild)


def test_an_undisturbed_trial_costs_two_writes_and_one_more_where_it_is_said_to_run() -> None:
    for seed in range(10):
        world = World(seed)
        world.run(undisturbed)
        [client] = world.clients
        writes = Counter(name for _, _, plural, name in client.writes if plural == "nastrials")
        for name, written in writes.items():
            [pod] = [
                item
                for _, kind, item in world.cluster.log["pods"]
                if kind == "ADDED" and item["metadata"]["name"].startswith(f"{name}-")
            ]
            assert written == 1 if world.fate(pod).seconds < 4 else 2
        jobs = Counter(name for _, _, plural, name in client.writes if plural == "jobs")
        assert set(jobs.values()) == {1}
        assert len(jobs) == 8  # two controllers and six trials
        others = Counter(f"{verb} {p}" for _, verb, p, _ in client.writes if p != "nastrials")
        assert others == {
            "create jobs": 8,
            "create serviceaccounts": 2,
            "create roles": 2,
            "create rolebindings": 2,
            "create services": 2,
            "create networkpolicies": 2,
            "create events": 2,
            "apply nasexperiments": 6,
        }


def test_the_deletion_of_an_experiment_takes_everything_with_it_whatever_the_way() -> None:
    async def story(world: World) -> None:
        world.start(world.operator(CALM))
        world.make("a")
        await asyncio.sleep(world.rng.uniform(0, 20))
        policy = world.rng.choice(["Background", "Foreground"])
        world.cluster.delete((kube.EXPERIMENT.plural, NS, "a"), policy=policy)
        await world.settle()
        left = [key for key in world.cluster.objects if key[0] != "events"]
        assert left == [], (world.seed, left)

    for seed in range(30):
        World(seed).run(story)


def test_an_experiment_that_is_made_anew_under_its_name_ends_as_if_it_were_the_first() -> None:
    async def story(world: World) -> None:
        world.start(world.operator(CALM))
        world.make("a")
        await asyncio.sleep(world.rng.uniform(0, 20))
        world.cluster.delete((kube.EXPERIMENT.plural, NS, "a"))
        await asyncio.sleep(world.rng.choice([0, 0, world.rng.uniform(0, 5)]))
        world.make("a")
        await world.settle()

    for seed in range(30):
        world, first = World(seed, troubles=True), World(seed, troubles=True)
        world.run(story)
        first.run(undisturbed)
        mine = {k: v for k, v in first.outcome().items() if k.startswith("a-")}
        assert world.outcome() == mine, (seed, world.history)


def test_a_suspended_experiment_stands_still_and_goes_on_when_it_is_resumed() -> None:
    async def story(world: World) -> None:
        world.start(world.operator(CALM))
        world.make("a")
        await asyncio.sleep(world.rng.uniform(0, 20))
        key = (kube.EXPERIMENT.plural, NS, "a")
        world.cluster.merge(key, {"spec": {"suspend": True}}, "")
        await asyncio.sleep(30)
        assert world.unsettled() is None, (world.seed, world.history)
        assert list(world.cluster.all(kube.JOB, **{"kinase.dev/experiment": "a"})) == [
            job for job in world.cluster.all(kube.JOB) if finished(job)
        ]
        await asyncio.sleep(60)
        world.cluster.merge(key, {"spec": {"suspend": False}}, "")
        await world.settle()
        item = world.cluster.objects[key]
        assert item["status"].get("completionTime")
        [ready] = [c for c in item["status"]["conditions"] if c["type"] == "Ready"]
        assert ready["reason"] == "Finished"

    for seed in range(30):
        World(seed).run(story)
