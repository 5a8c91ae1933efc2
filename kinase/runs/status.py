"""Progress of a run, from its journal alone, without its space, strategy or data."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import ValidationError

from kinase.api import limits
from kinase.api.objective import goal_of
from kinase.api.spec import ExperimentSpec
from kinase.api.trial import Outcome, TaskInfo
from kinase.experiment import budget, identity, lock
from kinase.experiment.journal import Journal
from kinase.experiment.local import last_spec
from kinase.experiment.state import SEARCHING, State
from kinase.experiment.trial_record import TrialRecord
from kinase.runs.damage import undamaged
from kinase.runs.index import Place
from kinase.store import NotFound, Store, StoreError, TooLarge
from kinase.words import counted


class Status(StrEnum):
    """State of a run."""

    RUNNING = "running"
    """A process on this machine runs it."""
    INTERRUPTED = "interrupted"
    """It has not ended, and no process runs it. Running it again resumes it."""
    FINISHED = "finished"
    """It has ended with a network."""
    FAILED = "failed"
    """It has ended without a network."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in one line."""

    place: Place
    status: Status
    done: int
    """Finished trials of the search and its control."""
    failed: int
    """Number of these without a value."""
    paused: int
    """Trials that have a value and wait to be trained further."""
    progress: str
    """How much of the limit that is used most: ``12/60 trials``, or ``12 trials, limit 10`` where
    it was lowered below what is spent."""
    metric: str
    best: float | None
    """Best value of the metric: the winner's, or the search's so far, of the highest rung."""
    rung: int | None
    """The rung of that value; None for a winner, and where there is no ladder."""
    elapsed: float
    """Seconds that the search has run."""
    age: float | None
    """Seconds since it last wrote; None where this machine does not know."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A run whose state could not be read."""

    place: Place
    why: str
    """What is known of the cause, for a person."""


PATIENCE = 10.0
"""Seconds that reading the runs in buckets may take, all of them together."""
REQUEST_TIMEOUT = 4.0
"""Seconds of each wait of a request to a bucket then: for the connection, and for more bytes."""
AT_ONCE = 8
"""Runs in buckets that are read at the same time."""


def status_of(store: Store, state: State) -> Status:
    """State of a run, from its journal and whether a process on this machine holds its lock."""
    if lock.holder(lock.scratch_place(store)) is not None:
        return Status.RUNNING
    if state.finished is None:
        return Status.INTERRUPTED
    return Status.FAILED if state.finished.winner is None else Status.FINISHED


def summaries(
    places: Sequence[Place], patience: float = PATIENCE, request_timeout: float = REQUEST_TIMEOUT
) -> list[Summary | Unread]:
    """Read the journals of runs, in their order. Those in buckets are read at the same time, and
    waited for no longer than `patience` seconds in all; each wait of a request to them ends after
    `request_timeout`.
    """
    deadline = time.monotonic() + patience
    todo: queue.SimpleQueue[Place] = queue.SimpleQueue()
    answers: queue.SimpleQueue[tuple[str, Summary | Unread]] = queue.SimpleQueue()
    remote = [place for place in places if place.folder is None]
    for place in remote:
        todo.put(place)

    def work() -> None:
        while True:
            try:
                place = todo.get_nowait()
            except queue.Empty:
                return
            answers.put((place.uri, _read(place, request_timeout)))

    for _ in remote[:AT_ONCE]:  # daemons: a store that does not answer must not keep the process
        threading.Thread(target=work, daemon=True).start()
    found = {place.uri: _read(place) for place in places if place.folder is not None}
    while len(found) < len({place.uri for place in places}):
        try:
            uri, answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        found[uri] = answer
    waiting = set()
    with contextlib.suppress(queue.Empty):  # no thread reads these any more
        while True:
            waiting.add(todo.get_nowait().uri)

    def late(place: Place) -> Unread:
        what = "was not read" if place.uri in waiting else "the store did not answer"
        return Unread(place, f"{place.uri}: {what} within {patience:g} s")

    return [found.get(place.uri) or late(place) for place in places]


def _read(place: Place, request_timeout: float | None = None) -> Summary | Unread:
    try:
        return summarize(place, request_timeout=request_timeout)
    except StoreError as error:
        return Unread(place, str(error))
    except Exception as error:  # a thread that ends would leave its other places unread
        text = " ".join(str(error).split())
        return Unread(place, f"{place.uri}: {type(error).__name__}: {text:.500}")


def summarize(
    place: Place, now: float | None = None, request_timeout: float | None = None
) -> Summary:
    """Read a run's journal.

    Args:
        place: where it is kept.
        now: seconds since the epoch.
        request_timeout: see `Place.store`.

    Raises:
        StoreError: the journal is missing, damaged, or of another version.
    """
    store = place.store(request_timeout)
    with undamaged(store.uri):
        return _summarized(place, store, time.time() if now is None else now)


def _summarized(place: Place, store: Store, now: float) -> Summary:
    try:
        spec = ExperimentSpec.model_validate(last_spec(store))
    except ValueError as error:
        raise StoreError(f"{store.uri} cannot be read by this version: {error}") from None
    state = State()
    for entry in Journal(store).replay():
        state.apply(entry)
    metric = spec.objective.metric
    best = _best(state, metric, _less_is_better(spec, store))
    laddered = any(rung > 0 for rung in state.rungs)
    searched = [trial for trial in state.told if trial.kind in SEARCHING]
    changed = place.changed()
    return Summary(
        place=place,
        status=status_of(store, state),
        done=len(searched),
        failed=sum(not trial.metrics for trial in searched),
        paused=state.resting,
        progress=_progress(spec, state),
        metric=metric,
        best=None if best is None else best.values[metric],
        rung=best.rung if best is not None and best.kind in SEARCHING and laddered else None,
        elapsed=state.elapsed,
        age=None if changed is None else now - changed,
    )


def _less_is_better(spec: ExperimentSpec, store: Store) -> bool:
    metric = spec.objective.metric
    goal = spec.objective.goal or goal_of(spec.task.type, metric)
    if goal is None:
        try:
            told = TaskInfo.model_validate_json(store.get(identity.TASK, limits.RESULT))
        except (NotFound, TooLarge, ValidationError):
            return False
        goal = goal_of(spec.task.type, metric, told.goals)
    return goal == "minimize"


def _best(state: State, metric: str, less: bool) -> TrialRecord | None:
    """The winner, or the best trial of the search so far: of the highest rung."""
    if state.finished is not None and state.finished.winner is not None:
        return state.trials[state.finished.winner]
    measured = [
        trial
        for trial in state.of_kind(*SEARCHING)
        if (trial.outcome is None or trial.outcome in (Outcome.SUCCEEDED, Outcome.STOPPED))
        and trial.metrics
        and math.isfinite(trial.values.get(metric, math.nan))
    ]
    sign = 1 if less else -1
    return min(measured, key=lambda t: (-t.rung, sign * t.values[metric]), default=None)


def _progress(spec: ExperimentSpec, state: State) -> str:
    """The limit that is nearest to its end."""
    found = budget.limits(spec, state, state.elapsed)
    most = max(found, key=lambda limit: limit.spent / limit.total, default=None)
    if most is None:
        return ""
    if most.unit == "s":
        return f"{min(1.0, most.spent / most.total):.0%} of the time"
    if most.unit == "h":
        return f"{most.spent:.1f}/{most.total:g} device hours"
    if most.spent > most.total:  # the limit was lowered, which takes nothing back
        noun = most.name.removesuffix("s")
        return f"{counted(most.spent, noun, f'{most.spent:.0f}')}, limit {most.total:.0f}"
    return f"{most.spent:.0f}/{most.total:.0f} {most.name}"
