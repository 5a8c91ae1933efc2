"""A whole experiment on this machine: `kinase run`."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pydantic import ValidationError

from kinase.api.experiment import NASExperiment
from kinase.api.trial import TaskInfo
from kinase.engine.idle import IdleEngine
from kinase.engine.local import LocalEngine
from kinase.experiment import artifacts, identity
from kinase.experiment.loop import Listener, Loop
from kinase.store import Conflict, NotFound, Store, StoreError, open_store, probe

TASK = "task.json"
"""What the trainer said of the task."""
RESULT = "result.json"
"""What the winner measured, beside its network: the last that a run writes."""
FINAL = ("weights.safetensors", "model.json")
"""What makes up a trained network in the store."""


def run(
    experiment: NASExperiment, *, trainer: str = "torch", listener: Listener | None = None
) -> Loop:
    """Search on this machine's processes, from the manifest to the tested winner.

    The same call goes on where an earlier one was interrupted or killed. Ctrl-C once ends
    it with everything kept.

    Raises:
        StoreError: the storage cannot be used, or holds another experiment.
        EngineError: no trial can be run at all.
    """
    root = open_store(experiment.spec.storage)
    store = root.sub(experiment.directory)
    probe(store)
    if identity.claim(store, experiment) and store.exists(f"final/{RESULT}"):
        return open_run(experiment)
    folder = identity.scratch(store)
    limit = experiment.spec.trial_template.time_limit
    with identity.exclusive(folder):
        engine = LocalEngine(
            experiment.spec.budget.parallelism,
            experiment.spec.storage,
            experiment.directory,
            trainer=trainer,
            time_limit=limit.total_seconds() if limit else None,
            scratch=folder,
        )
        try:
            info = engine.describe(experiment.spec.task, experiment.spec.training)
            _same_task(store, info)
            loop = Loop(experiment, store, engine, info, listener=listener)
            with _interruptible(loop):
                loop.run()
        finally:
            engine.close()
        if loop.state.finished is not None:
            keep_final(store, loop)
    return loop


def open_run(experiment: NASExperiment) -> Loop:
    """A finished or unfinished run, replayed for reading; nothing is trained.

    Raises:
        StoreError: there is none, or it is another experiment's.
    """
    store = open_store(experiment.spec.storage).sub(experiment.directory)
    identity.recorded(store)
    identity.claim(store, experiment)
    try:
        info = TaskInfo.model_validate_json(store.get(TASK))
    except (NotFound, ValidationError) as error:
        raise StoreError(f"{store.uri}/{TASK} is missing or damaged; run it again") from error
    loop = Loop(experiment, store, IdleEngine(), info)
    loop.replay()
    return loop


def _same_task(store: Store, info: TaskInfo) -> None:
    """Keep the description of the task, or compare it with that of an earlier run.

    Raises:
        MismatchError: the data has changed in between, so results would not compare.
    """
    try:
        store.put(TASK, info.model_dump_json(by_alias=True, indent=2).encode(), if_absent=True)
        return
    except Conflict:
        pass
    before = TaskInfo.model_validate_json(store.get(TASK))
    for field in ("input", "outputs", "train", "validation", "test"):
        was, now = getattr(before, field), getattr(info, field)
        if was != now:
            raise identity.MismatchError(
                f"the data is not that of the earlier run in {store.uri}: {field} was {was} and "
                f"is {now}; restore the data, or give the experiment another name"
            )


def keep_final(store: Store, loop: Loop) -> None:
    """Copy the winner to `final/`, with its measurements, and the task's facts."""
    assert loop.state.finished is not None
    winner = loop.state.finished.winner
    if winner is None:
        return
    trial = loop.state.trials[winner]
    source = artifacts.prefix(winner)
    try:
        for name in FINAL:
            store.put(f"final/{name}", store.get(f"{source}/{name}"))
    except NotFound:
        return  # a trainer that keeps no weights
    measured = {
        "trial": winner,
        "foundBy": trial.parents[0],
        "metrics": trial.values,
        "test": loop.state.finished.test,
        "cost": trial.cost.model_dump(by_alias=True),
    }
    store.put(f"final/{RESULT}", json.dumps(measured, indent=2).encode())


@contextmanager
def _interruptible(loop: Loop) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) ends the run in order, the second at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        loop.interrupt()
        signal.signal(number, signal.default_int_handler)

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
