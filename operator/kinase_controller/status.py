"""The experiment's status: a pure function of the loop's state."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from kinase.api.status import (
    MAX_FRONT,
    MAX_RUNGS,
    Condition,
    ConditionType,
    CostStatus,
    ExperimentStatus,
    FrontPoint,
    Incumbent,
    LimitStatus,
    Phase,
    RungStatus,
    StoppingStatus,
    TrialCounts,
    WeightsStatus,
)
from kinase.api.trial import Kind, Outcome
from kinase.experiment import weights
from kinase.experiment.budget import Limit
from kinase.experiment.loop import Loop
from kinase.experiment.state import SEARCHING
from kinase.experiment.trial_record import TrialRecord
from kinase.store import StoreError
from kinase.strategy.pareto import pareto_front
from kinase_controller.trials import Seen
from kinase_kube.client import Object


def incumbent(trial: TrialRecord | None, metric: str, rung: int | None = None) -> Incumbent | None:
    """A trial in the form of the status, or None if it has no value. The model drops what is too
    large. `rung` is that of its value."""
    if trial is None or metric not in trial.values:
        return None
    return Incumbent(
        trial=trial.number,
        value=short(trial.values[metric]),
        metrics=_short(trial.values),
        rung=rung,
        architecture=trial.architecture,
    )


def short(value: float) -> float:
    """A number for people; the journal has it in full precision."""
    return float(f"{value:.6g}") if abs(value) < 1e6 else value


def _short(values: dict[str, float]) -> dict[str, float]:
    return {name: short(value) for name, value in sorted(values.items())}


def limit_text(limit: Limit) -> str:
    """Remainder of a limit, for a column."""
    match limit.name:
        case "duration":
            return str(timedelta(seconds=round(limit.left)))
        case "deviceHours":
            return f"{limit.left:.2f} device hours"
        case _:
            return f"{limit.left:.0f} {limit.name}"


class Summary:
    """Builds the status incrementally: each finished trial is processed once."""

    def __init__(self, loop: Loop) -> None:
        """For this loop. The trials in the journal are processed by the first call of `fields`."""
        self._loop = loop
        self._taken = 0
        self._outcomes: Counter[Outcome] = Counter()
        self._front: list[TrialRecord] = []

    def _take(self) -> None:
        loop = self._loop
        for trial in loop.state.told[self._taken :]:
            self._taken += 1
            if trial.kind not in SEARCHING or trial.excluded:
                continue
            if trial.outcome is not None:
                self._outcomes[trial.outcome] += 1
            losses = loop.losses(trial)
            if not all(math.isfinite(value) for value in losses):
                continue
            if len(losses) > 1:
                candidates = [*self._front, trial]
                kept = pareto_front([loop.losses(t) for t in candidates])
                self._front = [candidates[i] for i in kept]

    def fields(self, waiting: int = 0) -> ExperimentStatus:
        """All fields except conditions and times; `waiting` of the current trials do not run
        yet."""
        self._take()
        loop = self._loop
        state, spec = loop.state, loop.spec
        objectives = [aim.metric for aim in loop.aims]
        limits = loop.limits
        ended = sum(self._outcomes.values()) + state.resting
        total = f"/{spec.budget.trials}" if spec.budget.trials is not None else ""
        front = sorted(self._front, key=lambda t: (loop.losses(t), t.number))
        if len(front) > MAX_FRONT:  # evenly spaced along the main objective, including both ends
            step = (len(front) - 1) / (MAX_FRONT - 1)
            front = [front[round(i * step)] for i in range(MAX_FRONT)]
        finished = state.finished
        winner = None
        if finished is not None and finished.winner is not None:
            winner = state.trials[finished.winner]
        return ExperimentStatus(
            progress=f"{ended}{total}",
            trials=TrialCounts(
                total=state.searched,
                running=max(0, len(loop.engine.running()) - waiting),
                paused=state.resting,
                succeeded=self._outcomes[Outcome.SUCCEEDED],
                stopped=self._outcomes[Outcome.STOPPED],
                infeasible=self._outcomes[Outcome.INFEASIBLE],
                failed=self._outcomes[Outcome.FAILED],
                control=state.counts[Kind.CONTROL],
            ),
            estimation=spec.estimation.type,
            rungs=self._rungs(),
            stopping=self._stopping(),
            best=self._incumbent(loop.best),
            control=self._incumbent(loop.leaders.control),
            winner=incumbent(winner, spec.objective.metric),
            test=_short(finished.test) if finished is not None else {},
            front=tuple(
                FrontPoint(trial=t.number, values={m: short(t.values[m]) for m in objectives})
                for t in front
            ),
            budget=tuple(
                LimitStatus(name=li.name, spent=li.spent, left=li.left, total=li.total)
                for li in limits
            ),
            budget_left=", ".join(limit_text(limit) for limit in limits)[:128],
            cost=CostStatus(
                epochs=state.spent.epochs,
                samples=state.spent.samples,
                device_seconds=round(state.spent.device_seconds, 3),
            ),
            weights=self._weights(),
        )

    def _incumbent(self, trial: TrialRecord | None) -> Incumbent | None:
        rung = trial.rung if trial is not None and self._loop.laddered else None
        return incumbent(trial, self._loop.spec.objective.metric, rung)

    def _rungs(self) -> tuple[RungStatus, ...]:
        """The rungs that a trial has entered, if there are several."""
        if not self._loop.laddered:
            return ()
        counts = sorted(self._loop.state.rungs.values(), key=lambda count: count.rung)
        if len(counts) > MAX_RUNGS:
            counts = [counts[0], *counts[-MAX_RUNGS + 1 :]]
        return tuple(
            RungStatus(
                rung=count.rung,
                until=count.until,
                reached=count.reached,
                running=count.running,
                paused=count.paused,
                promoted=count.promoted,
                stopped=count.stopped,
                epochs=count.cost.epochs,
            )
            for count in counts
        )

    def _stopping(self) -> StoppingStatus | None:
        found = self._loop.leaders.calibration
        if found is None:
            return None
        return StoppingStatus(stopped=found.stopped, spared=found.spared, won=found.won)

    def _weights(self) -> WeightsStatus | None:
        if self._loop.inheritance is None:
            return None
        try:
            written, kept = weights.bytes_of(self._loop)
        except StoreError:  # after the end of the search, the storage is checked
            return None
        return WeightsStatus(written=written, kept=kept)


def pending(under_way: int, waiting: Sequence[Seen]) -> str | None:
    """If all current trials wait: the reason and message of the first one, from the scheduler or
    the kubelet."""
    if not waiting or len(waiting) < under_way:
        return None
    first = waiting[0]
    count = f"all {under_way} trials under way wait" if under_way > 1 else "the trial waits"
    return ": ".join(filter(None, (count, first.name, first.reason, first.message)))


def phase(loop: Loop) -> Phase:
    """Phase of the loop."""
    if loop.state.finished is not None:
        return Phase.FAILED if loop.state.finished.winner is None else Phase.SUCCEEDED
    return Phase.FINALISTS if loop.state.ended is not None else Phase.SEARCHING


def conditions(
    before: Object,
    generation: int,
    now: datetime,
    wanted: dict[ConditionType, tuple[bool, str, str]],
) -> tuple[Condition, ...]:
    """Conditions set by the controller, each with the time of its last change.

    Args:
        before: current status.
        generation: generation of the observed spec.
        now: time for changed conditions.
        wanted: for each type, its status, reason and message.
    """
    held = {c["type"]: c for c in before.get("conditions") or ()}
    found = []
    for kind, (true, reason, message) in wanted.items():
        status = "True" if true else "False"
        old = held.get(kind.value)
        since = now
        if old is not None and old.get("status") == status:
            since = datetime.fromisoformat(old["lastTransitionTime"])
        found.append(
            Condition(
                type=kind.value,
                status="True" if true else "False",
                reason=reason,
                message=message,
                last_transition_time=since,
                observed_generation=generation,
            )
        )
    return tuple(found)


def document(status: ExperimentStatus) -> Object:
    """A status in the API's form: times in whole seconds, without unset fields."""
    plain: Any = status.model_dump(mode="json", by_alias=True, exclude_none=True)

    def tidy(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: _time(v) if k.endswith("Time") else tidy(v) for k, v in value.items()}
        return [tidy(v) for v in value] if isinstance(value, list) else value

    found: Object = tidy(plain)
    return found


def _time(text: Any) -> Any:
    return datetime.fromisoformat(text).strftime("%Y-%m-%dT%H:%M:%SZ")
