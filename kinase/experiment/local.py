"""A whole experiment on this machine: `kinase run`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pydantic import ValidationError

from kinase.api import limits
from kinase.api.experiment import NASExperiment
from kinase.api.trial import TaskInfo
from kinase.engine.idle import IdleEngine
from kinase.engine.local import LocalEngine
from kinase.experiment import identity
from kinase.experiment.keep import RESULT, TASK, keep_final, same_task
from kinase.experiment.loop import Listener, Loop
from kinase.store import NotFound, StoreError, open_store, probe


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
            spec = experiment.spec
            info = engine.describe(spec.task, spec.training, spec.space.begun)
            same_task(store, info)
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
        info = TaskInfo.model_validate_json(store.get(TASK, limits.RESULT))
    except (NotFound, ValidationError) as error:
        raise StoreError(f"{store.uri}/{TASK} is missing or damaged; run it again") from error
    loop = Loop(experiment, store, IdleEngine(), info)
    loop.replay()
    return loop


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
