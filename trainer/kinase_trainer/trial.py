"""Trial contract v1 for torch: a `TrialJob` goes in, a `TrialResult` comes out."""

from __future__ import annotations

import copy
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

import kinase
from kinase.api import limits
from kinase.api.space import Space as SpaceModel
from kinase.api.task import Task, Training
from kinase.api.trial import (
    MOST_CONFUSED,
    Inherited,
    Kind,
    Outcome,
    Point,
    TaskInfo,
    TrialJob,
    TrialResult,
)
from kinase.space import ArchitectureError, Frame, InfeasibleError, Space
from kinase.store import CountingStore, NotFound, Store, TooLarge
from kinase.words import counted
from kinase_trainer import checkpoint, lineage, model
from kinase_trainer import root as roots
from kinase_trainer.cache import Cache
from kinase_trainer.data import (
    Part,
    Splits,
    open_parts,
    open_splits,
    open_test,
    smallest_batch,
)
from kinase_trainer.errors import ConfigError, CorruptModel
from kinase_trainer.ledger import Meter
from kinase_trainer.morphism import Distillation, read_slots
from kinase_trainer.network import Network
from kinase_trainer.summary import of_batches
from kinase_trainer.train import (
    Begin,
    Diverged,
    Notify,
    Run,
    evaluate,
    make_optimiser,
    pick_device,
    seed_of,
)

TEST = "test.json"
"""What the test part said, next to a trial's result: it is asked once."""


def describe(
    task: Task, training: Training, space: SpaceModel | None = None, store: Store | None = None
) -> TaskInfo:
    """Say of a task what the search needs to know, before any trial.

    Args:
        task: what is learnt.
        training: how networks are trained.
        space: of the search, where it begins with a network.
        store: of the experiment, where that network is then kept.

    Raises:
        ConfigError: the data set, the device or the network is not there.
        CorruptModel: the network's weights are not what they should be.
    """
    device = pick_device(training.device)
    splits = open_splits(task)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    learning = splits.learning
    root = None
    if space is not None and space.model is not None:
        assert store is not None
        root = roots.make_root(space.model, splits.shape, splits.outputs, store)
    return TaskInfo(
        input=splits.shape,
        outputs=splits.outputs,
        train=len(splits.train),
        validation=len(splits.validation),
        test=splits.test_size,
        metrics=tuple(f"val_{name}" for name in learning.metrics),
        goals={f"val_{name}": goal for name, goal in learning.goals.items()},
        classes=splits.told.classes,
        notes=splits.told.notes,
        targets=splits.said,
        several=learning.several,
        warnings=splits.told.warnings + of_batches(training.batch_size, len(splits.train)),
        device=device.type,
        facts={
            "kinase": kinase.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "hardware": name or platform.machine(),
            "threads": str(torch.get_num_threads()),
            "data checksum": splits.checksum,
        },
        data=splits.digests(),
        root=root,
    )


@dataclass(frozen=True)
class _Setting:
    """What a job is trained on and with."""

    device: torch.device
    splits: Splits
    train: Part
    validation: Part
    space: Space
    frame: Frame
    network: Network


def _slot() -> int:
    text = os.environ.get("KINASE_SLOT", "0")
    return int(text) if text.isdigit() else 0


def _set_up(job: TrialJob, store: Store) -> _Setting:
    """Build the network and fetch the data.

    Raises:
        ArchitectureError, InfeasibleError: there is no such network.
    """
    device = pick_device(job.training.device, _slot())
    splits = roots.normalised(open_splits(job.task), job.space.model)
    fidelity = job.fidelity
    train, validation = open_parts(job.task, fidelity.data_fraction, fidelity.resolution, device)
    _, channels, height, width = train.images.shape
    auxiliary = job.training.auxiliary > 0 and job.kind in (Kind.FINAL, Kind.BASELINE)
    space = roots.space_of(job, store)
    space.validate(job.architecture)
    frame = Frame(
        (channels, height, width), splits.outputs, job.fidelity.scale, auxiliary=auxiliary
    )
    graph = space.graph(job.architecture, frame)
    torch.manual_seed(seed_of(job.seed, 0))
    network = Network(graph, splits.mean, splits.deviation).to(device)
    if smallest_batch(len(train), job.training.batch_size) == 1:
        _try_single(network, train, job.training.batch_size)
    return _Setting(device, splits, train, validation, space, frame, network)


def _try_single(network: Network, train: Part, size: int) -> None:
    """Refuse what cannot learn from a batch of one sample.

    Raises:
        InfeasibleError: a map of one pixel is normalised by the batch, which then has no variance.
    """
    images, _ = next(train.read(torch.zeros(1, dtype=torch.long), 1))
    try:
        with torch.no_grad():
            copy.deepcopy(network).train()(images)  # a copy, for statistics change
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InfeasibleError(
            f"training.batchSize {size} gives a batch of one sample, and the network normalises a "
            f"map of one pixel by its batch ({error}); use a batchSize of 2 or more"
        ) from None


def run(
    job: TrialJob,
    store: Store,
    notify: Notify = lambda point: True,
    begin: Begin = lambda done: None,
) -> TrialResult:
    """Train and score one architecture, from its last checkpoint if there is one.

    An architecture that can never work gives the outcome `Infeasible`. A loss that is not a
    number is a result too: it has no metrics, and so counts as worst.

    Args:
        job: what to train.
        store: of the experiment; the trial reads and writes below `job.prefix`.
        notify: told after every epoch; False stops the trial at the checkpoint just written.
        begin: told before every epoch, and before that is charged.

    Raises:
        ConfigError: the data set or the device is not there.
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
        if not _out_of_memory(error):
            raise
        meter.settle()
        size = job.training.batch_size
        result = _infeasible(job, meter, f"out of memory at training.batchSize {size}: {error}")
    if torch.cuda.is_available() and result.outcome is Outcome.INFEASIBLE:
        torch.cuda.empty_cache()  # this process goes on to other trials
    store.put(f"{job.prefix}/result.json", result.model_dump_json(by_alias=True).encode())
    if result.outcome is not Outcome.STOPPED and not job.keep_checkpoint and len(result.curve) > 1:
        store.delete(f"{job.prefix}/{checkpoint.CHECKPOINT}")
    return result


OUT_OF_MEMORY = ("can't allocate memory", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED")
"""How torch says so where it raises a plain RuntimeError: on a CPU, and within libraries."""


def _out_of_memory(error: Exception) -> bool:
    plain = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return plain or any(text in str(error) for text in OUT_OF_MEMORY)


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
    setting = _set_up(job, store)
    run = Run(
        model=setting.network,
        optimiser=make_optimiser(setting.network, job.training),
        task=setting.splits.learning,
        training=job.training,
        device=setting.device,
        train=setting.train,
        validation=setting.validation,
        epochs=job.fidelity.epochs,
        seed=job.seed,
    )
    message = _resume(run, store, job.prefix)
    began = time.perf_counter()
    inherited = _inherit(run, job, store, setting, cache)
    inherited = _learn_from(inherited, run, job, store, setting, cache)
    inheriting = time.perf_counter() - began
    outcome = Outcome.SUCCEEDED
    diverged = False
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
                message, diverged = str(error), True
                break
            metrics = run.score()
            seconds = meter.seconds(run.device)
            run.curve.append(Point(epoch=run.epoch, metrics=metrics, device_seconds=seconds))
            last = run.epoch == run.epochs
            if inherited is not None:
                inherited = inherited.model_copy(update={"distilled": run.distilled})
            meter.done(samples, seconds, metrics, write=last)
            if not last:  # after the last epoch comes the result
                _save(run, uploads, inherited)
            if not notify(run.curve[-1]) and not last:
                outcome = Outcome.STOPPED
                break
    metrics = run.curve[-1].metrics if run.curve and not diverged else {}
    kept = 0
    if job.keep_weights and not diverged:
        slots = read_slots(run.model, run.optimiser) if job.keep_optimizer else None
        network, frame, splits = setting.network, setting.frame, setting.splits
        kept = model.save(
            store, job.prefix, job, network, frame, splits, metrics, slots, setting.space
        )
    facts: dict[str, Any] = {
        "device": str(setting.device),
        "torch": torch.__version__,
        # of this attempt, all but the result itself
        "bytesRead": store.traffic.read,
        "bytesWritten": store.traffic.written,
    }
    if inherited is not None:
        facts["bytesFromCache"] = cache.bytes_read if cache is not None else 0
        facts["inheritSeconds"] = round(inheriting, 4)
    return TrialResult(
        trial=job.trial,
        attempt=job.attempt,
        outcome=outcome,
        metrics=metrics,
        cost=meter.cost(),
        curve=tuple(run.curve),
        message=message,
        inherited=inherited,
        kept_bytes=kept,
        facts=facts,
    )


def _resume(run: Run, store: Store, prefix: str) -> str:
    """Go on from the checkpoint, if there is one that can be used; else say why not."""
    saved, message = checkpoint.restore(store, prefix)
    if saved is None:
        return message
    try:
        if saved.epoch > run.epochs:
            raise ValueError(
                f"it holds {counted(saved.epoch, 'epoch')}, more than the {run.epochs} asked for"
            )
        checkpoint.unpack(run.model, run.optimiser, saved)
    except ValueError as error:
        return f"the checkpoint was not used ({error}); training started from scratch"
    if run.scaler is not None and "scaler" in saved.scalars:
        run.scaler.load_state_dict(saved.scalars["scaler"])
    run.epoch, run.curve = saved.epoch, saved.curve
    run.inherited = saved.scalars.get("inherited")
    return ""


def _inherit(
    run: Run, job: TrialJob, store: Store, setting: _Setting, cache: Cache | None
) -> Inherited | None:
    """Begin with an ancestor's weights or else with those that the space begins with, if the job
    says so and no checkpoint is further."""
    if job.inherit is None and job.root is None:
        return None
    if run.epoch:
        try:
            inherited = Inherited.model_validate(run.inherited)
        except ValidationError:
            inherited = Inherited(message="the checkpoint does not say what it began with")
    else:
        inherited = _begin(run, job, store, setting, cache)
    if job.inherit is not None and inherited.trial is not None:
        run.training = run.training.at_rate(job.inherit.learning_rate_factor)
    return inherited


def _begin(
    run: Run, job: TrialJob, store: Store, setting: _Setting, cache: Cache | None
) -> Inherited:
    frame, network, space = setting.frame, setting.network, setting.space
    inherited = Inherited()
    if job.inherit is not None:
        inherited = lineage.begin(
            job, store, frame, network, run.optimiser, setting.train, cache, space
        )
    if job.root is None or inherited.trial is not None:
        return inherited
    begun = roots.begin(job, store, space, frame, network, setting.train, cache)
    message = "; ".join(filter(None, (inherited.message, begun.message)))
    return begun.model_copy(update={"message": message[:2000]})


def _learn_from(
    inherited: Inherited | None,
    run: Run,
    job: TrialJob,
    store: Store,
    setting: _Setting,
    cache: Cache | None,
) -> Inherited | None:
    """Let the first epochs learn from the ancestor that the network began as nearly as, if the job
    says so; where it is not there any more the labels teach."""
    if job.inherit is None or inherited is None or inherited.morphisms is None:
        return inherited
    run.distil, run.distilled = job.inherit.distil, inherited.distilled
    if inherited.trial is None or run.epoch >= run.distil:
        return inherited
    try:
        teacher = lineage.teacher(
            job, store, inherited.trial, setting.frame, setting.splits, cache, setting.space
        )
    except (NotFound, CorruptModel) as error:
        remark = f"trial {inherited.trial} could not be learnt from: {lineage.why(error)}"
        if remark in inherited.message:  # an earlier attempt has said so
            return inherited
        message = "; ".join(filter(None, (inherited.message, remark)))
        return inherited.model_copy(update={"message": message[:2000]})
    run.goal = Distillation(teacher.to(setting.device), run.task.distils)
    return inherited


def _save(run: Run, uploads: checkpoint.Uploads, inherited: Inherited | None) -> None:
    tensors, scalars = checkpoint.pack(run.model, run.optimiser)
    rest: dict[str, Any] = {"optimiser": scalars}
    if inherited is not None:
        rest["inherited"] = inherited.model_dump(mode="json", by_alias=True)
    if run.scaler is not None:
        rest["scaler"] = run.scaler.state_dict()
    uploads.add(checkpoint.Saved(run.epoch, tensors, run.curve, rest))


def _test(job: TrialJob, store: Store) -> TrialResult:
    """Score the kept weights on the test part; a second call gives what the first measured."""
    if job.kind not in (Kind.FINAL, Kind.BASELINE):
        raise ConfigError(f"test is set for a {job.kind} trial; the test part is for finalists")
    try:
        text = store.get(f"{job.prefix}/{TEST}", limits.RESULT)
        return TrialResult.model_validate_json(text)
    except (NotFound, TooLarge, ValidationError):
        pass
    device = pick_device(job.training.device, _slot())
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
    """Write a trained network for others to use; see `kinase_trainer.export`."""
    from kinase_trainer.export import export_network

    return export_network(source, out, formats)
