"""Candidates that one process scores in turn: a process takes longer to start than to score one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kinase.api.estimation import OneShotEstimation
from kinase.api.spec import ExperimentSpec
from kinase.api.supernet import BATCH, CANDIDATES, LEARNED
from kinase.api.trial import Candidate, Kind, TaskInfo, TrialJob
from kinase.experiment.trial_record import TrialRecord

MOST_CHARACTERS = 100_000
"""Length of further candidates in a job from which it takes no more. An API server stores a job of
at most twice the length."""


ROUNDS = 4
"""So many times at least a strategy that learns from results is asked for all slots."""


def batch_size(spec: ExperimentSpec, info: TaskInfo, most: int, slots: int) -> int:
    """How many candidates a process scores at most. Unless the strategy does not learn from
    results, there are so few that it has some before it proposes most of the candidates.

    Args:
        spec: of the experiment.
        info: what the trainer says of the task.
        most: what the engine takes (`Engine.batch`).
        slots: how many processes there are at once.
    """
    if most == 1 or "also" not in info.supports:
        return 1
    member = spec.estimation.member
    limits = [spec.budget.trials]
    if isinstance(member, OneShotEstimation):
        most = min(most, member.batch)
        limits.append(member.candidates or CANDIDATES)
    else:
        most = min(most, BATCH)
    candidates = min((limit for limit in limits if limit is not None), default=None)
    if candidates is None or spec.strategy.type in ("Random", *LEARNED):
        return most
    return max(1, min(most, candidates // (ROUNDS * slots)))


def is_scored(trial: TrialRecord) -> bool:
    """Whether a trial is scored with the weights of a supernet and not trained."""
    return trial.slice is not None and trial.stop == 0


def slots_for(trials: Sequence[TrialRecord], size: int) -> int:
    """How many slots trials take, with so many candidates in one."""
    scored = sum(map(is_scored, trials))
    return len(trials) - scored + -(-scored // size)


@dataclass(slots=True)
class Batch:
    """What one process does: a trial, or the scoring of several candidates."""

    trials: list[TrialRecord]
    jobs: list[TrialJob]
    most: int
    """How many candidates there may be."""
    again: bool = False
    """Whether its trials had begun earlier. No new one joins them: when it is asked would depend on
    what was lost."""
    _characters: int = field(default=0)

    @property
    def open(self) -> bool:
        """Whether another candidate can join."""
        few = len(self.jobs) < self.most and self._characters < MOST_CHARACTERS
        return few and bool(self.trials) and is_scored(self.trials[0])

    def takes(self, trial: TrialRecord, job: TrialJob, *, again: bool) -> bool:
        """Whether a trial can join, so that their jobs differ in nothing but the candidates."""
        fits = self.open and self.again is again and is_scored(trial)
        return fits and _common(job) == _common(self.jobs[0])

    def add(self, trial: TrialRecord, job: TrialJob) -> None:
        """Let a trial join."""
        self.trials.append(trial)
        self.jobs.append(job)
        self._characters += len(Candidate.of(job).model_dump_json())

    def drop(self, trial: TrialRecord) -> None:
        """Take a trial out, if it is here."""
        for place, each in enumerate(self.trials):
            if each is trial:
                del self.trials[place], self.jobs[place]
                return

    @property
    def job(self) -> TrialJob:
        """The job of all of them."""
        first, *others = self.jobs
        return first.with_also(others) if others else first


def _common(job: TrialJob) -> TrialJob:
    """What the jobs of all candidates of a batch have in common."""
    own = {"trial": 0, "attempt": 1, "kind": Kind.SEARCH, "architecture": {}, "seed": 0}
    return job.model_copy(update={**own, "prefix": ""})
