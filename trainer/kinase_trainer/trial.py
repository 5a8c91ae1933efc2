"""Trial contract v1 with torch: from a `TrialJob` to a `TrialResult`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from kinase.api import limits
from kinase.api.trial import (
    MOST_CONFUSED,
    PROXY,
    CheckpointGone,
    Kind,
    Outcome,
    TrialJob,
    TrialResult,
    epoch_folder,
)
from kinase.space import ArchitectureError, InfeasibleError
from kinase.store import CountingStore, NotFound, Store, TooLarge
from kinase_trainer import checkpoint, model, proxies
from kinase_trainer.cache import Cache
from kinase_trainer.data import open_test
from kinase_trainer.description import describe
from kinase_trainer.epochs import Begin, Ended, Notify, follow_epochs, train_epochs
from kinase_trainer.errors import ConfigError, is_out_of_memory
from kinase_trainer.group import ALONE, Group
from kinase_trainer.ledger import Meter
from kinase_trainer.morphism import read_slots
from kinase_trainer.setting import Setting, set_up, slot
from kinase_trainer.start import resume, share, start
from kinase_trainer.supernet import trial as supernets
from kinase_trainer.supernet.stored import Opened
from kinase_trainer.train import Run, evaluate, make_optimizer, pick_device

__all__ = ["describe", "export", "run"]

TEST = "test.json"
"""Metrics on the test split, next to a trial's result; they are measured once."""


def run(
    job: TrialJob,
    store: Store,
    notify: Notify = lambda point: True,
    begin: Begin = lambda done: None,
    group: Group = ALONE,
    opened: Opened | None = None,
) -> TrialResult:
    """Train and score one architecture, from its last checkpoint if there is one, up to
    `job.last_epoch`. Where that is not the last epoch of the training the outcome is `Stopped`,
    and the checkpoint is in the store before the result is.

    An architecture that can never work results in the outcome `Infeasible`. A training that
    diverges also has a result: without metrics, so it counts as the worst.

    Args:
        job: what to train.
        store: store of the experiment; the trial reads and writes below `job.prefix`.
        notify: called after every epoch; False stops the trial at the last checkpoint.
        begin: called before every epoch, before it is charged.
        group: the workers that train it together; this is worker 0.
        opened: what this process has read of a supernet, if it scores several candidates.

    Raises:
        ConfigError: the data set, the device or a proxy is missing.
        CheckpointGone: the checkpoint holds fewer epochs than `job.done`; nothing was trained.
        WorkerLost: another worker is gone.
    """
    if job.test:
        return _test(job, store)
    store = CountingStore(store)
    meter = Meter(store, job.prefix, job.attempt, group.size)
    try:
        result = _train(job, store, notify, begin, meter, group, opened)
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
    group: Group,
    opened: Opened | None,
) -> TrialResult:
    """Set up, resume or start, measure, train, keep, and say what was found."""
    cache = Cache.of(os.environ)
    if job.supernet is not None:
        return supernets.train(job, store, notify, begin, meter, group)
    if job.slice is not None and job.last_epoch == 0:
        return supernets.score(job, store, meter, opened or Opened(cache))
    setting = set_up(job, store)
    run = _run_of(job, setting, group)
    try:
        remarks = [resume(run, job, store)]
    except CheckpointGone:
        meter.kept(run.epoch)
        raise
    meter.stands(run.epoch)
    remarks += _measure(run, job, setting, meter)
    share(run)
    facts: dict[str, Any] = {"device": str(setting.device), "torch": torch.__version__}
    if group.size > 1:
        facts["workers"] = group.size
    until = job.last_epoch
    if run.epoch < until:
        began = time.perf_counter()
        start(run, job, store, setting, cache)
        if run.inherited is not None:
            facts["inheritSeconds"] = round(time.perf_counter() - began, 4)
            facts["bytesFromCache"] = cache.bytes_read if cache is not None else 0
    with checkpoint.Uploads(store, job.prefix, meter.kept) as uploads:
        name = f"trial {job.trial} attempt {job.attempt}"
        ended = train_epochs(run, until, uploads, meter, notify, begin, name, group)
    curve = run.curve[:until]  # a checkpoint may have been further
    if len(curve) < len(run.curve):
        ended = Ended(Outcome.STOPPED, curve[-1].metrics if curve else {})
        if run.inherited is not None:
            distilled = min(run.inherited.distilled, until)
            run.inherited = run.inherited.model_copy(update={"distilled": distilled})
    kept, folder = 0, ""
    if curve and not ended.diverged and job.keep_weights:
        if ended.outcome is Outcome.STOPPED and job.kind is Kind.SEARCH:
            folder = epoch_folder(len(curve))  # it may train on while a child reads this
        kept = _keep(run, job, store, setting, ended, folder)
    # of this attempt, all but the result itself
    facts |= {"bytesRead": store.traffic.read, "bytesWritten": store.traffic.written}
    found = {f"{PROXY}{name}": value for name, value in run.measured.items() if value is not None}
    return TrialResult(
        trial=job.trial,
        attempt=job.attempt,
        outcome=ended.outcome,
        metrics={**found, **ended.metrics},
        cost=meter.cost(),
        curve=tuple(curve),
        message="; ".join(filter(None, (*remarks, ended.message)))[:4000],
        inherited=run.inherited,
        kept_bytes=kept,
        kept_in=folder,
        facts=facts,
    )


def _run_of(job: TrialJob, setting: Setting, group: Group) -> Run:
    return Run(
        model=setting.network,
        optimizer=make_optimizer(setting.network, job.training),
        task=setting.splits.learning,
        training=job.training,
        device=setting.device,
        train=setting.train,
        validation=setting.validation,
        epochs=job.fidelity.epochs,
        seed=job.seed,
        group=group,
    )


def follow(job: TrialJob, store: Store, begin: Begin, done: Begin, group: Group) -> None:
    """Train with worker 0, at another worker of its group. Nothing is written. What the network is
    built from is read, as its data is; its state comes from worker 0.

    Args:
        job: what to train.
        store: store of the experiment.
        begin: called before every epoch.
        done: called after every epoch.
        group: the workers.

    Raises:
        ArchitectureError, InfeasibleError: the network cannot be built.
        ConfigError: the data set or the device is missing.
        Terminated: a worker was asked to end.
        WorkerLost: another worker is gone.
    """
    if job.supernet is not None:
        supernets.follow(job, store, begin, done, group)
        return
    if job.slice is not None and job.last_epoch == 0:
        return  # worker 0 scores it alone
    setting = set_up(job, store)
    run = _run_of(job, setting, group)
    share(run)
    if run.epoch < job.last_epoch:
        start(run, job, store, setting, Cache.of(os.environ))
    follow_epochs(run, begin, done, group)


def _measure(run: Run, job: TrialJob, setting: Setting, meter: Meter) -> list[str]:
    """Measure the zero-cost proxies that the job asks for, unless its training has begun: then the
    checkpoint holds them. Returns what there is to say of them."""
    unknown = [name for name in job.measure if name not in run.measured]
    if run.epoch:
        late = ", ".join(unknown)
        return [f"not measured, because the training had begun: {late}"] if late else []
    part, task = setting.train, setting.splits.learning
    run.measured, remarks = proxies.measure(unknown, run.model, part, task, job.seed)
    if unknown:
        meter.settle()
    return remarks


def _keep(
    run: Run, job: TrialJob, store: Store, setting: Setting, ended: Ended, folder: str
) -> int:
    """Write the weights to a folder below the prefix; their bytes."""
    place = f"{job.prefix}/{folder}" if folder else job.prefix
    slots = read_slots(run.model, run.optimizer) if job.keep_optimizer else None
    network, frame, splits = setting.network, setting.frame, setting.splits
    return model.save(
        store, place, job, network, frame, splits, ended.metrics, slots, setting.space
    )


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
