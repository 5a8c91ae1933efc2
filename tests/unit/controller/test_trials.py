from __future__ import annotations

from typing import Any

import pytest

from kinase.api import TrialJob, TrialPhase, TrialReason
from kinase.api.fidelity import Fidelity
from kinase.api.nastrial import NASTrial
from kinase.api.spec import ExperimentSpec
from kinase.api.trial import Kind, TaskJob
from kinase_controller.trials import KINDS, Seen, Wanted, lost
from tests.unit.experiment.helpers import experiment


def job(**fields: Any) -> TrialJob:
    spec: ExperimentSpec = experiment().spec
    return TrialJob(
        **{
            "experiment": "toy",
            "trial": 7,
            "attempt": 2,
            "task": spec.task,
            "training": spec.training,
            "space": spec.space,
            "architecture": {"layers": [{"op": "conv", "width": 4, "kernel": 3, "stride": 1}]},
            "fidelity": Fidelity(epochs=2),
            "seed": 5,
            "prefix": "trials/00007",
            **fields,
        }
    )


def task() -> TaskJob:
    spec = experiment().spec
    return TaskJob(experiment="toy", task=spec.task, training=spec.training, key="trainer-x.json")


def item(**parts: Any) -> dict[str, Any]:
    body = Wanted.of("toy", job()).body("toy", "u-1", "ns", "t" * 32)
    body["metadata"] |= {"uid": "u-7", "resourceVersion": "12", **parts.get("metadata", {})}
    body["spec"] |= parts.get("spec", {})
    return body | ({"status": parts["status"]} if "status" in parts else {})


def test_a_trial_as_wanted_is_one_that_the_model_takes_and_owned_by_its_experiment() -> None:
    for wanted in (Wanted.of("toy", job()), Wanted.of("toy", task(), 3)):
        body = wanted.body("toy", "u-1", "ns", "t" * 32)
        trial = NASTrial.model_validate(body)
        assert trial.spec.attempt == wanted.attempt
        assert trial.status is None
        [owner] = body["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (
            "u-1",
            True,
            True,
        )
        kind = type(wanted.job)
        assert kind.model_validate_json(body["spec"]["job"]) == wanted.job, (
            "the job comes back whole"
        )


def test_names_kinds_and_results_tell_trial_test_and_task_apart() -> None:
    trial, test, question = (
        Wanted.of("toy", job(kind=Kind.FINAL)),
        Wanted.of("toy", job(kind=Kind.FINAL, test=True)),
        Wanted.of("toy", task()),
    )
    assert [w.name for w in (trial, test, question)] == ["toy-00007", "toy-00007-test", "toy-task"]
    assert [w.kind for w in (trial, test, question)] == ["Final", "Test", "Task"]
    assert [w.result for w in (trial, test, question)] == [
        "trials/00007/result.json",
        "trials/00007/test.json",
        "trainer-x.json",
    ]
    assert {Wanted.of("toy", job(kind=kind)).kind for kind in KINDS} == set(KINDS)


def test_a_trial_as_seen_has_what_the_controller_decides_by() -> None:
    status = {"attempt": 2, "phase": "Failed", "reason": "Crashed", "message": "exit code 1"}
    seen = Seen.of(item(status=status))
    assert (seen.name, seen.uid, seen.version) == ("toy-00007", "u-7", 12)
    assert (seen.number, seen.kind, seen.attempt, seen.stop) == (7, "Search", 2, False)
    assert (seen.reason, seen.message, seen.reported) == ("Crashed", "exit code 1", 2)
    assert seen.ended
    assert not seen.deleting
    bare = item(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    del bare["spec"]["attempt"]
    bare["spec"]["stop"] = True
    seen = Seen.of(bare)
    assert (seen.attempt, seen.stop, seen.deleting, seen.ended) == (1, True, True, False)


@pytest.mark.parametrize("phase", TrialPhase)
def test_an_attempt_has_ended_when_the_status_is_of_it_and_says_so(phase: TrialPhase) -> None:
    over = phase not in (TrialPhase.PENDING, TrialPhase.RUNNING)
    assert Seen.of(item(status={"attempt": 2, "phase": phase.value})).ended is over
    assert not Seen.of(item(status={"attempt": 1, "phase": phase.value})).ended
    assert not Seen.of(item(status={"phase": phase.value})).ended


def test_a_phase_of_a_later_version_is_no_end() -> None:
    assert not Seen.of(item(status={"attempt": 2, "phase": "Sleeping"})).ended


KNOWN = {
    TrialReason.COMPLETED: {"crash"},
    TrialReason.INFEASIBLE: {"crash", "permanent"},
    TrialReason.BAD_INPUT: {"crash"},
    TrialReason.TERMINATED: set(),
    TrialReason.UNAVAILABLE: set(),
    TrialReason.CHECKPOINT_GONE: {"checkpoint_gone"},
    TrialReason.CRASHED: {"crash"},
    TrialReason.OUT_OF_MEMORY: {"crash", "out_of_memory"},
    TrialReason.DEADLINE_EXCEEDED: {"crash", "permanent"},
    TrialReason.REJECTED: set(),
    TrialReason.DISRUPTED: set(),
    TrialReason.GIVEN_UP: {"given_up"},
}
"""What of a lost attempt holds."""


@pytest.mark.parametrize("reason", [*TrialReason, "OfALaterVersion", ""])
def test_what_a_reason_means_for_the_loop(reason: str) -> None:
    status = {"attempt": 2, "phase": "Failed", "reason": reason, "message": "it said so"}
    event = lost(Seen.of(item(status=status)))
    flags = ("crash", "out_of_memory", "permanent", "given_up", "checkpoint_gone")
    assert event.trial == 7
    assert {f for f in flags if getattr(event, f)} == KNOWN.get(reason, {"crash"})  # type: ignore[call-overload]
    if reason == TrialReason.COMPLETED:
        assert event.message == "the trainer ended well, but left no valid result of this trial"
    else:
        assert event.message == "it said so"
