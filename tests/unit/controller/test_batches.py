"""Candidates that one pod scores: one `NASTrial`, an event for each, found after a restart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kinase.api import Outcome, TrialJob
from kinase.api.crd import crds
from kinase.api.nastrial import NASTrial
from kinase.api.trial import TrialResult
from kinase.engine import Event, Finished, Lost
from kinase_controller.status import pending
from kinase_controller.trials import Seen, Wanted, ends
from kinase_kube import client as kube
from tests.unit.controller.test_engine import settle
from tests.unit.controller.test_trials import item, job
from tests.unit.controller.world import World, events, wait_for


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def candidate(number: int, attempt: int = 1, **fields: Any) -> TrialJob:
    return job(
        trial=number, attempt=attempt, prefix=f"trials/{number:05d}", until=0,
        slice={"prefix": "trials/00000"}, **fields,
    )  # fmt: skip


ONE, TWO, THREE = map(candidate, (1, 2, 3))
BATCH = ONE.with_also([TWO, THREE])


def scored(world: World, *jobs: TrialJob) -> None:
    for each in jobs:
        world.leave(each, Outcome.STOPPED)


def said(found: list[Event]) -> list[tuple[str, int]]:
    return [(type(each).__name__, each.trial) for each in found]


def test_a_batch_is_one_trial_that_says_how_many_it_scores(world: World) -> None:
    with world.engine() as (engine, _):
        engine.launch(BATCH)
        spec = world.trial("toy-00001")["spec"]
        assert (spec["number"], spec["kind"], spec["candidates"]) == (1, "Search", 3)
        assert TrialJob.model_validate_json(spec["job"]) == BATCH
        settle(world)
        assert world.api.count("create", kube.TRIAL) == 1
        assert list(engine.running()) == [1, 2, 3]
        assert engine.busy == 1
        engine.launch(candidate(4))
        assert engine.busy == 2
        assert "candidates" not in world.trial("toy-00004")["spec"]


def test_the_schema_has_the_number_and_a_column_for_it() -> None:
    body = Wanted.of("toy", BATCH).body("toy", "u-1", "ns", "t" * 32)
    assert NASTrial.model_validate(body).spec.candidates == 3
    [version] = crds()["nastrials.kinase.dev.yaml"]["spec"]["versions"]
    columns = {c["name"]: c["jsonPath"] for c in version["additionalPrinterColumns"]}
    assert columns["Candidates"] == ".spec.candidates"


def test_each_candidates_result_is_an_event(world: World) -> None:
    with world.engine() as (engine, _):
        engine.launch(BATCH)
        world.trial("toy-00001")
        scored(world, ONE, THREE)
        world.leave(TWO, Outcome.INFEASIBLE)
        world.end("toy-00001")
        found = events(engine, 3)
        assert said(found) == [("Finished", 1), ("Finished", 2), ("Finished", 3)]
        assert isinstance(found[1], Finished)
        assert found[1].result.outcome is Outcome.INFEASIBLE
        assert engine.running() == {}
        assert engine.busy == 0


def test_those_without_a_result_are_lost_and_can_go_into_another_batch(world: World) -> None:
    with world.engine() as (engine, _):
        engine.launch(BATCH)
        world.trial("toy-00001")
        scored(world, TWO)
        world.end("toy-00001", "Failed", "Disrupted", "evicted")
        assert [(e.trial, getattr(e, "crash", None)) for e in events(engine, 3)] == [
            (1, False),
            (2, None),
            (3, False),
        ]
        again = candidate(1, 2).with_also([candidate(3, 2)])
        engine.launch(again)
        spec = world.attempt("toy-00001", 2)["spec"]
        assert spec["candidates"] == 2
        assert TrialJob.model_validate_json(spec["job"]) == again
        scored(world, candidate(1, 2))
        world.end("toy-00001", "Failed", "Crashed", "exit code 1")
        first, last = events(engine, 2)
        assert isinstance(first, Finished)
        assert last == Lost(3, "exit code 1")
        engine.launch(candidate(1, 3))
        assert "candidates" not in world.attempt("toy-00001", 3)["spec"]


def test_a_result_of_an_earlier_attempt_is_not_a_candidates(world: World) -> None:
    with world.engine() as (engine, _):
        engine.launch(candidate(1, 2).with_also([candidate(2, 3)]))
        world.trial("toy-00001")
        scored(world, candidate(1, 1), candidate(2, 3))
        world.end("toy-00001")
        assert said(events(engine, 2)) == [("Lost", 1), ("Finished", 2)]


def test_all_of_a_batch_are_stopped_at_once(world: World) -> None:
    with world.engine() as (engine, _):
        engine.launch(BATCH)
        world.trial("toy-00001")
        for number in engine.running():
            engine.stop(number)
        wait_for(lambda: world.trial("toy-00001")["spec"].get("stop"))
        settle(world)
        assert world.api.count("merge", kube.TRIAL) == 1
        scored(world, ONE)
        world.end("toy-00001", "Stopped", "Terminated", "stopped")
        found = events(engine, 3)
        assert said(found) == [("Finished", 1), ("Lost", 2), ("Lost", 3)]
        assert not any(isinstance(each, Lost) and each.crash for each in found)


@pytest.mark.parametrize("ended", [False, True])
def test_a_restarted_controller_finds_the_candidates_that_have_no_result(
    world: World, ended: bool
) -> None:
    """The first has one: the loop tells it, and asks for the others alone."""
    with world.engine() as (engine, _):
        engine.launch(BATCH)
        world.trial("toy-00001")
        settle(world)
    scored(world, ONE, TWO)
    if ended:
        world.end("toy-00001", "Failed", "OutOfMemory", "too large")
    with world.engine("toy-controller-b") as (engine, _):
        assert engine.adopt(TWO)
        assert engine.adopt(THREE)
        assert not engine.adopt(candidate(4))
        assert not engine.adopt(candidate(3, 2)), "another attempt"
        assert list(engine.running()) == [2, 3]
        assert engine.busy == 1
        if not ended:
            world.end("toy-00001", "Failed", "OutOfMemory", "too large")
        first, last = events(engine, 2)
        assert isinstance(first, Finished)
        assert last == Lost(3, "too large", out_of_memory=True)
        assert engine.running() == {}
        settle(world)
        assert world.api.count("create", kube.TRIAL) == 1


def test_the_seconds_of_a_pod_count_once_also_if_its_first_candidate_is_told(world: World) -> None:
    with world.engine() as (engine, _):
        engine.launch(BATCH)
        world.trial("toy-00001")
        settle(world)
    status = {"phase": "Running", "attempt": 1, "startTime": "2026-01-01T00:00:00Z"}
    world.api.change(kube.TRIAL, "toy-00001", status=status)
    with world.engine("toy-controller-b") as (engine, cluster):
        wait_for(lambda: (seen := cluster.find("toy-00001")) and seen.started)
        assert engine.adopt(TWO)
        assert engine.adopt(THREE)
        engine.poll(0)
        running = engine.running()
        assert running[2] > 0
        assert running[3] == 0


def test_a_batch_that_waits_counts_with_all_of_its_candidates(world: World) -> None:
    with world.engine() as (engine, _):
        engine.launch(BATCH)
        world.trial("toy-00001")
        status = {"phase": "Pending", "reason": "Unschedulable", "message": "no CPU", "attempt": 1}
        world.api.change(kube.TRIAL, "toy-00001", status=status)
        wait_for(engine.waiting)
        assert pending(len(engine.running()), engine.waiting()) == (
            "all 3 trials under way wait: toy-00001: Unschedulable: no CPU"
        )


# -- who is to blame -----------------------------------------------------------------------


def seen(reason: str, phase: str = "Failed", batch: TrialJob = BATCH) -> Seen:
    status = {"phase": phase, "reason": reason, "message": "why", "attempt": 1}
    body = Wanted.of("toy", batch).body("toy", "u-1", "ns", "t" * 32)
    body["metadata"] |= {"uid": "u-7", "resourceVersion": "12"}
    return Seen.of({**body, "status": status})


def result(member: TrialJob) -> TrialResult:
    return TrialResult(trial=member.trial, attempt=member.attempt, outcome=Outcome.STOPPED)


def ended(reason: str, *have: int, batch: TrialJob = BATCH) -> list[Event]:
    found = [(m, result(m) if m.trial in have else "") for m in BATCH.members]
    return ends(seen(reason, batch=batch), found)


@pytest.mark.parametrize("have", [(), (1,), (1, 2)])
@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        ("Crashed", {"crash": True}),
        ("OutOfMemory", {"crash": True, "out_of_memory": True}),
        ("Disrupted", {"crash": False}),
        ("Terminated", {"crash": False}),
    ],
)
def test_the_first_without_a_result_is_the_cause(
    have: tuple[int, ...], reason: str, fields: dict[str, bool]
) -> None:
    found = ended(reason, *have)
    count = len(have)
    assert said(found[:count]) == [("Finished", number) for number in have]
    assert found[count] == Lost(count + 1, "why", **fields)
    text = f"it was not scored, because toy-00001 ended with trial {count + 1}"
    assert found[count + 1 :] == [Lost(number, text, crash=False) for number in range(count + 2, 4)]


def test_time_that_ran_out_counts_against_the_one_that_had_all_of_it() -> None:
    assert ended("DeadlineExceeded")[0] == Lost(1, "why", permanent=True)
    assert ended("DeadlineExceeded", 1)[1] == Lost(2, "why", crash=False)


def test_one_that_the_trial_does_not_list_is_not_to_blame() -> None:
    """Another process has created the trial, with other candidates."""
    for batch, missing in ((ONE.with_also([TWO]), [3]), (ONE, [2, 3])):
        found = ended("Crashed", batch=batch)
        assert found[0] == Lost(1, "why")
        lost = [
            each for each in found if isinstance(each, Lost) and "does not score" in each.message
        ]
        assert [each.trial for each in lost] == missing
        assert not any(each.crash for each in lost)


def test_the_members_of_a_trial_are_read_from_its_job() -> None:
    assert seen("Crashed").members == ((1, 1), (2, 1), (3, 1))
    assert Seen.of(item()).members == ()
    damaged = {"job": json.dumps({"also": 5})}
    assert Seen.of(item(spec=damaged)).members == ()
