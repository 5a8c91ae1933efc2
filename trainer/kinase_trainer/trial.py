"""Trial contract v1 with torch: from a `TrialJob` to a `TrialResult`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from kinase.api import limits
from kinase.api.trial import MOST_CONFUSED, Inherited, Kind, Outcome, Point, TrialJob, TrialResult
from kinase.space import ArchitectureError, InfeasibleError
from kinase.store import CountingStore, NotFound, Store, TooLarge
from kinase_trainer import checkpoint, model
from kinase_trainer.cache import Cache
from kinase_trainer.data import open_test
from kinase_trainer.description import describe
from kinase_trainer.errors import ConfigError, is_out_of_memory
from kinase_trainer.ledger import Meter
from kinase_trainer.morphism import read_slots
from kinase_trainer.setting import Setting, set_up, slot
from kinase_trainer.start import Start, start
from kinase_trainer.train import (
    Begin,
    Diverged,
    Notify,
    Run,
    evaluate,
    make_optimizer,
    pick_device,
)

__all__ = ["describe", "export", "run"]

TEST = "test.json"
"""Metrics on the test split, next to a trial's result; they are measured once."""


def run(
    job: TrialJob,
    store: Store,
    notify: Notify = lambda point: True,
    begin: Begin = lambda done: None,
) -> TrialResult:
    """Train and score one architecture, from its last checkpoint if there is one.

    An architecture that can never work results in the outcome `Infeasible`. A training that
    diverges also has a result: without metrics, so it counts as the worst.

    Args:
        job: what to train.
        store: store of the experiment; the trial reads and writes below `job.prefix`.
        notify: called after every epoch; False stops the trial at the last checkpoint.
        begin: called before every epoch, before it is charged.

    Raises:
        ConfigError: the data set or the device is missing.
    """
    if job.test:
        return _test(job, store)
    store = CountingStore(store)
    meter = Meter(store, job.prefix, job.attempt)
    try:
        result = _train(job, store, notify, begin, meter, Cache.of(os.environ))
    except (ArchitectureError, InfeasibleError) as error:
        result = _infeasible(job, meter, str(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        meter.settle()
        size = job.training.batch_size
        result = _infeasible(job, meter, f"out of memory at training.batchSize {size}: {error}")
    if torch.cuda.is_available() and result.outcome is Outcome.INFEASIBLE:
        torch.cuda.empty_cache()  # this process continues with other trials
    store.put(f"{job.prefix}/result.json", result.model_dump_json(by_alias=True).encode())
    if result.outcome is not Outcome.STOPPED and not job.keep_checkpoint and len(result.curve) > 1:
        store.delete(f"{job.prefix}/{checkpoint.CHECKPOINT}")
    return result


def _infeasible(job: TrialJob, meter: Meter, message: str) -> TrialResult:
    return TrialResult(
        trial=job.trial,
        attempt=job.attempt,
        outcome=Outcome.INFEASIBLE,
        cost=meter.cost(),
        message=message[:4000],
    )


def _train(
    job: TrialJob,
    store: CountingStore,
    notify: Notify,
    begin: Begin,
    meter: Meter,
    cache: Cache | None,
) -> TrialResult:
    """Set up, start, train, store, and return the result."""
    setting = set_up(job, store)
    run = Run(
        model=setting.network,
        optimizer=make_optimizer(setting.network, job.training),
        task=setting.splits.learning,
        training=job.training,
        device=setting.device,
        train=setting.train,
        validation=setting.validation,
        epochs=job.fidelity.epochs,
        seed=job.seed,
    )
    started = start(run, job, store, setting, cache)
    ended = _train_epochs(run, job, store, started, notify, begin, meter)
    kept = _keep(run, job, store, setting, ended) if not ended.diverged else 0
    facts: dict[str, Any] = {
        "device": str(setting.device),
        "torch": torch.__version__,
        # all files of this attempt except the result
        "bytesRead": store.traffic.read,
        "bytesWritten": store.traffic.written,
    }
    if started.inherited is not None:
        facts["bytesFromCache"] = cache.bytes_read if cache is not None else 0
        facts["inheritSeconds"] = round(started.seconds, 4)
    return TrialResult(
        trial=job.trial,
        attempt=job.attempt,
        outcome=ended.outcome,
        metrics=ended.metrics,
        cost=meter.cost(),
        curve=tuple(run.curve),
        message=ended.message,
        inherited=started.inherited,
        kept_bytes=kept,
        facts=facts,
    )


@dataclass(frozen=True)
class _Ended:
    """How the epochs of an attempt ended."""

    outcome: Outcome
    metrics: dict[str, float]
    """Metrics after the last epoch; empty if the training diverged, which counts as the worst."""
    message: str
    diverged: bool = False


def _train_epochs(
    run: Run,
    job: TrialJob,
    store: Store,
    started: Start,
    notify: Notify,
    begin: Begin,
    meter: Meter,
) -> _Ended:
    """Train, score, charge and save, epoch by epoch, until the last epoch, a request to stop, or
    divergence."""
    with checkpoint.Uploads(store, job.prefix, meter.kept) as uploads:
        while run.epoch < run.epochs:
            begin(run.epoch)
            meter.begin(len(run.train))
            print(
                f"trial {job.trial} attempt {job.attempt} epoch {run.epoch + 1} begins", flush=True
            )
            try:
                samples = run.train_epoch()
            except Diverged as error:
                meter.end(error.samples, meter.seconds(run.device))
                return _Ended(Outcome.SUCCEEDED, {}, str(error), diverged=True)
            metrics = run.score()
            seconds = meter.seconds(run.device)
            run.curve.append(Point(epoch=run.epoch, metrics=metrics, device_seconds=seconds))
            last = run.epoch == run.epochs
            if started.inherited is not None:
                counted = {"distilled": run.distilled}
                started.inherited = started.inherited.model_copy(update=counted)
            meter.done(samples, seconds, metrics, write=last)
            if not last:  # after the last epoch, the result is written
                _save(run, uploads, started.inherited)
            if not notify(run.curve[-1]) and not last:
                return _Ended(Outcome.STOPPED, metrics, started.message)
    metrics = run.curve[-1].metrics if run.curve else {}
    return _Ended(Outcome.SUCCEEDED, metrics, started.message)


def _keep(run: Run, job: TrialJob, store: Store, setting: Setting, ended: _Ended) -> int:
    """Write the weights, if the job says so; return their size in bytes."""
    if not job.keep_weights:
        return 0
    slots = read_slots(run.model, run.optimizer) if job.keep_optimizer else None
    network, frame, splits = setting.network, setting.frame, setting.splits
    return model.save(
        store, job.prefix, job, network, frame, splits, ended.metrics, slots, setting.space
    )


def _save(run: Run, uploads: checkpoint.Uploads, inherited: Inherited | None) -> None:
    tensors, scalars = checkpoint.pack(run.model, run.optimizer)
    rest: dict[str, Any] = {"optimiser": scalars}
    if inherited is not None:
        rest["inherited"] = inherited.model_dump(mode="json", by_alias=True)
    if run.scaler is not None:
        rest["scaler"] = run.scaler.state_dict()
    uploads.add(checkpoint.Saved(run.epoch, tensors, run.curve, rest))


def _test(job: TrialJob, store: Store) -> TrialResult:
    """Score the stored weights on the test split. A second call returns the first result."""
    if job.kind not in (Kind.FINAL, Kind.BASELINE):
        raise ConfigError(f"test is set for a {job.kind} trial; the test part is for finalists")
    try:
        text = store.get(f"{job.prefix}/{TEST}", limits.RESULT)
        return TrialResult.model_validate_json(text)
    except (NotFound, TooLarge, ValidationError):
        pass
    device = pick_device(job.training.device, slot())
    network, _ = model.load(store.sub(job.prefix), raw=True)
    part, learning = open_test(job.task)
    meter = learning.meter()
    measured = evaluate(network.to(device), learning, part.to(device), job.training, device, meter)
    confusion = meter.confusion()
    if confusion is not None and len(confusion) > MOST_CONFUSED:
        confusion = None
    result = TrialResult(
        trial=job.trial,
        attempt=job.attempt,
        outcome=Outcome.SUCCEEDED,
        metrics={f"test_{name}": value for name, value in measured.items()},
        confusion=None if confusion is None else tuple(map(tuple, confusion.tolist())),
        facts={"samples": len(part)},
    )
    store.put(f"{job.prefix}/{TEST}", result.model_dump_json(by_alias=True).encode())
    return result


def export(source: Store, out: Path, formats: tuple[str, ...] = ()) -> list[Path]:
    """Export a trained network; see `kinase_trainer.export`."""
    from kinase_trainer.export import export_network

    return export_network(source, out, formats)
