"""The start of a training: from its own checkpoint, from the weights of an ancestor or of the
network that the space starts from, or from scratch."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pydantic import ValidationError

from kinase.api.trial import Inherited, TrialJob
from kinase.store import NotFound, Store
from kinase.words import counted
from kinase_trainer import checkpoint, lineage
from kinase_trainer import root as roots
from kinase_trainer.cache import Cache
from kinase_trainer.errors import CorruptModel
from kinase_trainer.morphism import Distillation
from kinase_trainer.setting import Setting
from kinase_trainer.train import Run


@dataclass
class Start:
    """How a training has started."""

    message: str
    """Why a checkpoint was not used; empty if it was used or does not exist."""
    inherited: Inherited | None
    """The inherited weights; None if the job does not inherit."""
    seconds: float
    """Seconds that the inheritance took."""


def start(run: Run, job: TrialJob, store: Store, setting: Setting, cache: Cache | None) -> Start:
    """Restore a run from its checkpoint, or give it the inherited weights."""
    message = _resume(run, store, job.prefix)
    began = time.perf_counter()
    inherited = _inherit(run, job, store, setting, cache)
    inherited = _learn_from(inherited, run, job, store, setting, cache)
    return Start(message, inherited, time.perf_counter() - began)


def _resume(run: Run, store: Store, prefix: str) -> str:
    """Continue from the checkpoint if it can be used; otherwise return the reason."""
    saved, message = checkpoint.restore(store, prefix)
    if saved is None:
        return message
    try:
        if saved.epoch > run.epochs:
            raise ValueError(
                f"it holds {counted(saved.epoch, 'epoch')}, more than the {run.epochs} asked for"
            )
        checkpoint.unpack(run.model, run.optimizer, saved)
    except ValueError as error:
        return f"the checkpoint was not used ({error}); training started from scratch"
    if run.scaler is not None and "scaler" in saved.scalars:
        run.scaler.load_state_dict(saved.scalars["scaler"])
    run.epoch, run.curve = saved.epoch, saved.curve
    run.inherited = saved.scalars.get("inherited")
    return ""


def _inherit(
    run: Run, job: TrialJob, store: Store, setting: Setting, cache: Cache | None
) -> Inherited | None:
    """Use the weights of an ancestor, or otherwise of the network that the space starts from, if
    the job says so and there is no checkpoint."""
    if job.inherit is None and job.root is None:
        return None
    if run.epoch:
        try:
            inherited = Inherited.model_validate(run.inherited)
        except ValidationError:
            inherited = Inherited(message="the checkpoint does not record the inherited weights")
    else:
        inherited = _begin(run, job, store, setting, cache)
    if job.inherit is not None and inherited.trial is not None:
        run.training = run.training.at_rate(job.inherit.learning_rate_factor)
    return inherited


def _begin(
    run: Run, job: TrialJob, store: Store, setting: Setting, cache: Cache | None
) -> Inherited:
    frame, network, space = setting.frame, setting.network, setting.space
    inherited = Inherited()
    if job.inherit is not None:
        inherited = lineage.begin(
            job, store, frame, network, run.optimizer, setting.train, cache, space
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
    setting: Setting,
    cache: Cache | None,
) -> Inherited | None:
    """Distil the network from the ancestor that it approximates in the first epochs, if the job
    says so. If the ancestor's weights no longer exist, train on labels instead."""
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
        remark = f"trial {inherited.trial} could not be learned from: {lineage.why(error)}"
        if remark in inherited.message:  # an earlier attempt has already reported it
            return inherited
        message = "; ".join(filter(None, (inherited.message, remark)))
        return inherited.model_copy(update={"message": message[:2000]})
    run.goal = Distillation(teacher.to(setting.device), run.task.distils)
    return inherited
