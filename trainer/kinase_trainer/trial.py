"""Trial contract v1 for torch: a `TrialJob` goes in, a `TrialResult` comes out."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

import kinase
from kinase.api.task import Task, Training
from kinase.api.trial import (
    Cost,
    Kind,
    Outcome,
    Point,
    TaskInfo,
    TrialJob,
    TrialResult,
)
from kinase.space import ArchitectureError, Frame, InfeasibleError, make_space
from kinase.store import NotFound, Store
from kinase_trainer import checkpoint, model
from kinase_trainer.checkpoint import Ledger
from kinase_trainer.data import Part, Splits, at_resolution, fraction, open_splits, open_test
from kinase_trainer.datasets import open_raw
from kinase_trainer.network import Network
from kinase_trainer.tasks import make_task
from kinase_trainer.train import (
    Diverged,
    Notify,
    Run,
    evaluate,
    make_optimiser,
    now,
    pick_device,
    seed_of,
)

TEST = "test.json"
"""What the test part said, beside a trial's result: it is asked once."""


def describe(task: Task, training: Training) -> TaskInfo:
    """Say of a task what the search needs to know, before any trial.

    Raises:
        ConfigError: the data set or the device is not there.
    """
    learning = make_task(task.type)
    device = pick_device(training.device)
    splits = open_splits(task)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return TaskInfo(
        input=splits.shape,
        outputs=splits.outputs,
        train=len(splits.train),
        validation=len(splits.validation),
        test=splits.test_size,
        metrics=tuple(f"val_{name}" for name in learning.metrics),
        device=device.type,
        facts={
            "kinase": kinase.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "hardware": name or platform.machine(),
            "threads": str(torch.get_num_threads()),
            "data checksum": open_raw(task).checksum(),
        },
    )


@dataclass(frozen=True)
class _Setting:
    """What a job is trained on and with."""

    device: torch.device
    splits: Splits
    train: Part
    validation: Part
    frame: Frame
    network: Network


def _slot() -> int:
    text = os.environ.get("KINASE_SLOT", "0")
    return int(text) if text.isdigit() else 0


def _set_up(job: TrialJob) -> _Setting:
    """Build the network and fetch the data.

    Raises:
        ArchitectureError, InfeasibleError: there is no such network.
    """
    device = pick_device(job.training.device, _slot())
    learning = make_task(job.task.type)
    splits = open_splits(job.task)
    train = fraction(splits.train, job.fidelity.data_fraction, job.task.split.seed, learning)
    side = job.fidelity.resolution
    train, validation = (at_resolution(p, side).to(device) for p in (train, splits.validation))
    channels, height, width = train.images.shape[1:]
    auxiliary = job.training.auxiliary > 0 and job.kind in (Kind.FINAL, Kind.BASELINE)
    space = make_space(job.space)
    space.validate(job.architecture)
    frame = Frame(
        (channels, height, width), splits.outputs, job.fidelity.scale, auxiliary=auxiliary
    )
    graph = space.graph(job.architecture, frame)
    torch.manual_seed(seed_of(job.seed, 0))
    network = Network(graph, splits.mean, splits.deviation).to(device)
    return _Setting(device, splits, train, validation, frame, network)


def run(job: TrialJob, store: Store, notify: Notify = lambda point: True) -> TrialResult:
    """Train and score one architecture, from its last checkpoint if there is one.

    An architecture that can never work gives the outcome `Infeasible`. A loss that is not a
    number is a result too: what was measured before it is kept out, so it counts as worst.

    Args:
        job: what to train.
        store: of the experiment; the trial reads and writes below `job.prefix`.
        notify: told after every epoch; False stops the trial at the checkpoint just written.

    Raises:
        ConfigError: the data set or the device is not there.
    """
    if job.test:
        return _test(job, store)
    ledger = checkpoint.read_ledger(store, job.prefix).model_copy(update={"attempt": job.attempt})
    try:
        result = _train(job, store, notify, ledger)
    except (ArchitectureError, InfeasibleError) as error:
        result = _ended(job, ledger, Outcome.INFEASIBLE, message=str(error))
    except (torch.OutOfMemoryError, MemoryError) as error:
        spent = checkpoint.read_ledger(store, job.prefix)
        message = f"out of memory at batch size {job.training.batch_size}: {error}"
        result = _ended(job, spent, Outcome.INFEASIBLE, message=message[:4000])
    store.put(f"{job.prefix}/result.json", result.model_dump_json(by_alias=True).encode())
    return result


def _ended(
    job: TrialJob,
    ledger: Ledger,
    outcome: Outcome,
    *,
    metrics: dict[str, float] | None = None,
    curve: tuple[Point, ...] = (),
    message: str = "",
) -> TrialResult:
    return TrialResult(
        trial=job.trial,
        attempt=job.attempt,
        outcome=outcome,
        metrics=metrics or {},
        cost=Cost(
            epochs=ledger.epochs_begun,
            samples=ledger.samples,
            device_seconds=ledger.device_seconds,
        ),
        curve=curve,
        message=message,
    )


def _train(job: TrialJob, store: Store, notify: Notify, ledger: Ledger) -> TrialResult:
    began = now(torch.device("cpu"))
    setting = _set_up(job)
    device = setting.device
    run = Run(
        model=setting.network,
        optimiser=make_optimiser(setting.network, job.training),
        task=make_task(job.task.type),
        training=job.training,
        device=device,
        train=setting.train,
        validation=setting.validation,
        epochs=job.fidelity.epochs,
        seed=job.seed,
    )
    message = _resume(run, store, job.prefix)
    seconds = ledger.device_seconds
    outcome = Outcome.SUCCEEDED
    while run.epoch < run.epochs:
        ledger = ledger.model_copy(update={"epochs_begun": ledger.epochs_begun + 1})
        checkpoint.write_ledger(store, job.prefix, ledger)
        print(f"trial {job.trial} attempt {job.attempt} epoch {run.epoch + 1} begins", flush=True)
        try:
            seen = run.train_epoch()
        except Diverged as error:
            spent = seconds + now(device) - began
            samples = ledger.samples + len(setting.train)
            ledger = ledger.model_copy(update={"device_seconds": spent, "samples": samples})
            checkpoint.write_ledger(store, job.prefix, ledger)
            return _ended(job, ledger, outcome, curve=tuple(run.curve), message=str(error))
        metrics = run.score()
        spent = seconds + now(device) - began
        point = Point(epoch=run.epoch, metrics=metrics, device_seconds=spent)
        run.curve.append(point)
        last = run.epoch == run.epochs
        if not last:
            _save(run, store, job.prefix)
        ledger = ledger.model_copy(
            update={
                "epochs_done": run.epoch if not last else ledger.epochs_done,
                "samples": ledger.samples + seen,
                "device_seconds": spent,
                "metrics": metrics,
            }
        )
        checkpoint.write_ledger(store, job.prefix, ledger)
        if not notify(point) and not last:
            outcome = Outcome.STOPPED
            break
    metrics = run.curve[-1].metrics if run.curve else {}
    if job.keep_weights:
        model.save(store, job.prefix, job, setting.network, setting.frame, setting.splits, metrics)
    return _ended(job, ledger, outcome, metrics=metrics, curve=tuple(run.curve), message=message)


def _resume(run: Run, store: Store, prefix: str) -> str:
    """Go on from the checkpoint, if there is one that can be used; else say why not."""
    saved, message = checkpoint.restore(store, prefix)
    if saved is None or saved.epoch > run.epochs:
        return message
    checkpoint.unpack(run.model, run.optimiser, saved)
    if run.scaler is not None and "scaler" in saved.scalars:
        run.scaler.load_state_dict(saved.scalars["scaler"])
    run.epoch, run.curve = saved.epoch, saved.curve
    return ""


def _save(run: Run, store: Store, prefix: str) -> None:
    tensors, scalars = checkpoint.pack(run.model, run.optimiser)
    rest = {"optimiser": scalars}
    if run.scaler is not None:
        rest["scaler"] = run.scaler.state_dict()
    checkpoint.save(store, prefix, checkpoint.Saved(run.epoch, tensors, run.curve, rest))


def _test(job: TrialJob, store: Store) -> TrialResult:
    """Score the kept weights on the test part; a second call gives what the first measured."""
    try:
        return TrialResult.model_validate_json(store.get(f"{job.prefix}/{TEST}"))
    except (NotFound, ValidationError):
        pass
    device = pick_device(job.training.device, _slot())
    network, _ = model.load(store.sub(job.prefix))
    part = open_test(job.task).to(device)
    measured = evaluate(network.to(device), make_task(job.task.type), part, job.training, device)
    result = TrialResult(
        trial=job.trial,
        attempt=job.attempt,
        outcome=Outcome.SUCCEEDED,
        metrics={f"test_{name}": value for name, value in measured.items()},
        facts={"samples": len(part)},
    )
    store.put(f"{job.prefix}/{TEST}", result.model_dump_json(by_alias=True).encode())
    return result


def export(source: Store, out: Path, formats: tuple[str, ...] = ()) -> list[Path]:
    """Write a trained network for others to use; see `kinase_trainer.export`."""
    from kinase_trainer.export import export_network

    return export_network(source, out, formats)
