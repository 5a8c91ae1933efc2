"""Several workers a trial: which jobs get them, what they cost, and what refuses them."""

from __future__ import annotations

from typing import Any

import pytest

from kinase.api.load import ManifestError
from kinase.api.trial import TrialJob
from kinase.engine.tabular import TabularEngine
from kinase.experiment import identity
from kinase.experiment.dispatch import job_of
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import INFO, experiment, make_loop, score

FOUR: dict[str, Any] = {"trialTemplate": {"workers": 4}}


class Seen(TabularEngine):
    """Keeps the jobs that were launched."""

    def __init__(self) -> None:
        super().__init__(lambda job: score(job) | {f"proxy_{m}": 1.0 for m in job.measure}, INFO)
        self.jobs: list[TrialJob] = []

    def launch(self, job: TrialJob) -> None:
        self.jobs.append(job)
        super().launch(job)

    def running(self) -> dict[int, float]:
        return dict.fromkeys((job.trial for job in self._jobs), 2.0)


def test_what_trains_has_workers_and_what_only_measures_has_one() -> None:
    engine = Seen()
    estimation = {"type": "Full", "screen": {"pool": 2}}
    loop = make_loop(experiment(estimation=estimation, **FOUR), engine=engine)
    state = loop.run()
    measured = [job for job in engine.jobs if job.last_epoch == 0]
    trained = [job for job in engine.jobs if job.last_epoch > 0]
    assert {job.workers for job in measured} == {1}
    assert {job.workers for job in trained} == {4}
    assert state.finished is not None
    winner = state.trials[state.finished.winner or 0]
    assert job_of(loop, winner, test=True).workers == 1


def test_each_worker_holds_a_device() -> None:
    engine = Seen()
    loop = make_loop(experiment(**FOUR), engine=engine)
    engine.launch(TrialJob.model_validate(JOB))
    assert loop.running_seconds == 8.0
    assert make_loop(experiment(), engine=engine).running_seconds == 2.0


JOB: dict[str, Any] = {
    "experiment": "test",
    "trial": 7,
    "task": {},
    "training": {},
    "space": {"type": "Chain"},
    "architecture": {},
    "fidelity": {"epochs": 9},
    "seed": 1,
    "prefix": "trials/00007",
}


def test_a_trainer_of_one_process_is_refused_before_anything_starts() -> None:
    info = INFO.model_copy(update={"supports": ("until", "measure")})
    store = MemoryStore()
    with pytest.raises(ManifestError) as raised:
        make_loop(experiment(**FOUR), store, info=info).run()
    (problem,) = raised.value.problems
    assert problem.path == "spec.trialTemplate.workers"
    assert problem.message == (
        "4 requires a trainer that lists workers in supports (see the trial contract); this one "
        "trains a trial in one process, so use 1"
    )
    assert not list(store.list("journal/"))
    make_loop(experiment(), store, info=info).run()


def test_the_number_can_change_between_two_runs() -> None:
    store = MemoryStore()
    identity.claim(store, experiment(**FOUR))
    store.put("journal/00000000.jsonl", b"")
    assert identity.claim(store, experiment())


@pytest.mark.parametrize("workers", [0, 65, 1.5])
def test_a_number_out_of_range_is_refused(workers: float) -> None:
    with pytest.raises(ValueError, match="workers"):
        experiment(trialTemplate={"workers": workers})
