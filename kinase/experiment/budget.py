"""Whether the budget allows a trial. Pure functions of the manifest and the state.

Epochs are exact: a trial is started only if the epochs of every trial that is finished,
outstanding or still due (finalists, baselines, rank check) leave enough for it, and an epoch is
charged when it starts, even if its process is then killed. Device hours cannot be known
before a trial has run, so they are reserved by the slowest rate seen; when they are used up,
running trials are stopped at their next checkpoint.

A supernet is an exception, because a search without it has nothing: a lost one continues even if
its repeated epochs are above the limit, and once it is trained as many candidates as there are
finalists are scored, whatever is spent by then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from kinase.api import changes
from kinase.api.fidelity import Fidelity
from kinase.api.spec import ExperimentSpec
from kinase.api.trial import Kind
from kinase.experiment.older import ROUNDED
from kinase.experiment.state import State
from kinase.words import counted, was


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of the budget and how much of it is used."""

    name: str
    unit: str
    spent: float
    """Amount spent, or reserved for outstanding trials."""
    total: float

    @property
    def left(self) -> float:
        """Amount left, at least zero."""
        return max(0.0, self.total - self.spent)


def sample_passes(fidelity: Fidelity, train_size: int, epochs: int | None = None) -> int:
    """Training samples that a training at this fidelity goes through in so many epochs, by default
    in all of them."""
    epochs = fidelity.epochs if epochs is None else epochs
    return epochs * max(1, round(train_size * fidelity.data_fraction))


def final_networks(spec: ExperimentSpec, state: State) -> int:
    """Maximum number of finalists, baselines and networks of the rank check still to be trained. If
    a search resumes after its end, it can have other finalists, but the others are already
    trained."""
    finalists = spec.finalists.count - (state.finalists - state.finalists_before)
    baselines = len(spec.baselines) - state.counts[Kind.BASELINE]
    return max(0, finalists + baselines + max(0, spec.rank_check - state.checks))


def recorded(spec: ExperimentSpec) -> dict[str, float]:
    """The limits that are set, by name, in the journal's form: durations in seconds."""
    target = spec.objective.target
    return spec.budget.limits | ({} if target is None else {"target": target})


def raised(before: Mapping[str, float], spec: ExperimentSpec) -> list[str]:
    """The limits of an ended search that are now higher or removed.

    A target counts as raised if it is changed or removed.
    """
    names = changes.raised({n: v for n, v in before.items() if n != "target"}, recorded(spec))
    if "target" in before:
        now = spec.objective.target
        # six digits in older journals
        if now is None or not math.isclose(now, before["target"], rel_tol=ROUNDED):
            names.append("target")
    return names


def lowered(before: Mapping[str, float], spec: ExperimentSpec) -> list[str]:
    """The limits of an ended search that are now lower, without the target."""
    now = recorded(spec)
    return [
        name
        for name, value in before.items()
        if name != "target" and name in now and now[name] < value * (1 - 2 * ROUNDED)
    ]


def exceeded(spec: ExperimentSpec, state: State) -> list[str]:
    """Messages for limits that are below what is already spent, only for exact amounts."""
    pairs = (
        ("trials", spec.budget.trials, state.searched),
        ("epochs", spec.budget.epochs, state.committed_epochs),
    )
    return [
        f"budget.{name} is {total}, and {spent} are spent already"
        for name, total, spent in pairs
        if total is not None and spent > total
    ]


def limits(spec: ExperimentSpec, state: State, elapsed: float) -> list[Limit]:
    """The limits that are set, for people and for `exhausted`."""
    budget, found = spec.budget, []
    if budget.trials is not None:
        found.append(Limit("trials", "", state.searched, budget.trials))
    if budget.epochs is not None:
        found.append(Limit("epochs", "", state.committed_epochs, budget.epochs))
    if budget.device_hours is not None:
        hours = state.spent.device_seconds / 3600
        found.append(Limit("deviceHours", "h", hours, budget.device_hours))
    if budget.duration is not None:
        seconds = budget.duration.total_seconds()
        found.append(Limit("duration", "s", min(elapsed, seconds), seconds))
    return found


def epochs_left(spec: ExperimentSpec, state: State, final: Fidelity) -> int | None:
    """Epochs that the search may still commit, what the finalists take kept back; None without a
    limit."""
    if spec.budget.epochs is None:
        return None
    due = final_networks(spec, state) * final.epochs
    return spec.budget.epochs - state.committed_epochs - due


def refusal(
    spec: ExperimentSpec,
    state: State,
    fidelity: Fidelity,
    epochs: int,
    final: Fidelity,
    train_size: int,
    elapsed: float,
    running_seconds: float,
    *,
    new: bool = True,
) -> str | None:
    """Why a stretch of a trial of the search cannot be paid for, or None if it can.

    Args:
        fidelity: of the trial in question.
        epochs: of the stretch.
        final: fidelity of the finalists.
        train_size: samples of the training split.
        elapsed: seconds that the experiment has run.
        running_seconds: device seconds used by the attempts that run now.
        new: whether the trial is a new one.
    """
    budget = spec.budget
    if new and budget.trials is not None and state.searched >= budget.trials:
        return f"{counted(state.searched, 'trial')} {was(state.searched)} run"
    scored = epochs == 0 and state.counts[Kind.SUPERNET] > 0
    if scored and state.searched < spec.finalists.count:
        return None
    due = final_networks(spec, state)
    left = epochs_left(spec, state, final)
    if budget.epochs is not None and left is not None and not scored and left < epochs:
        total = counted(budget.epochs, "epoch")
        return f"the budget of {total} is spent, what the finalists take kept back"
    if budget.device_hours is not None:
        passes = (
            sample_passes(fidelity, train_size, epochs)
            + sum(sample_passes(t.fidelity, train_size, t.to_train) for t in state.running.values())
            + due * sample_passes(final, train_size)
        )
        needed = max(passes * state.slowest, running_seconds)
        free = budget.device_hours * 3600 - state.spent.device_seconds
        if free <= 0 or needed > free:
            hours = counted(budget.device_hours, "device hour", f"{budget.device_hours:g}")
            return f"the budget of {hours} is spent"
    if budget.duration is not None and elapsed >= budget.duration.total_seconds():
        return "the duration is over"
    return None


def overdrawn(spec: ExperimentSpec, state: State, elapsed: float, running_seconds: float) -> bool:
    """Whether running trials of the search must be stopped at their next checkpoint."""
    budget = spec.budget
    if budget.duration is not None and elapsed >= budget.duration.total_seconds():
        return True
    if budget.device_hours is not None:
        used = state.spent.device_seconds + running_seconds
        return used >= budget.device_hours * 3600
    return False
