"""The start of a training: from its own checkpoint, from the weights of an ancestor or of the
network that the space starts from, or from scratch."""

from __future__ import annotations

from kinase.api.inheritance import Inherited
from kinase.api.trial import CheckpointGone, TrialJob
from kinase.store import NotFound, Store
from kinase.words import counted
from kinase_trainer import checkpoint, lineage
from kinase_trainer import root as roots
from kinase_trainer.cache import Cache
from kinase_trainer.errors import CorruptModel
from kinase_trainer.morphism import Distillation
from kinase_trainer.setting import Setting
from kinase_trainer.supernet import forms
from kinase_trainer.train import Run


def resume(run: Run, job: TrialJob, store: Store) -> str:
    """Bring a run to where the last attempt left it; returns why a checkpoint was not used, empty
    if it was or if there is none.

    A checkpoint of more epochs than this attempt's is used as well: the curve up to there is that
    of this attempt. Only weights cannot be taken back, so where they are to be kept it is not used.

    Raises:
        CheckpointGone: it holds fewer epochs than the job says.
    """
    saved, why = checkpoint.restore(store, job.prefix)
    if saved is not None:
        held = counted(saved.epoch, "epoch")
        try:
            if saved.epoch > job.last_epoch and job.keep_weights:
                raise ValueError(f"it holds {held}, more than the {job.last_epoch} asked for")
            run.unpack(saved)
        except ValueError as error:
            why = str(error)
    if run.epoch < job.done:
        found = f"cannot be used ({why})" if why else "is gone"
        if run.epoch:
            found = f"holds {counted(run.epoch, 'epoch')}"
        raise CheckpointGone(
            f"the checkpoint {found}; it must hold {counted(job.done, 'epoch')} that are paid for"
        )
    return f"the checkpoint was not used ({why}); training started from scratch" if why else ""


def share(run: Run) -> None:
    """Bring the runs of all workers to the state of worker 0's."""
    if run.group.size == 1:
        return
    state = run.group.send(checkpoint.encode(run.pack()) if run.group.leads else b"")
    if not run.group.leads:
        run.unpack(checkpoint.decode(state))


def start(run: Run, job: TrialJob, store: Store, setting: Setting, cache: Cache | None) -> None:
    """Give a run that no checkpoint has brought further the weights that it begins with, and any
    run what it learns from. In a group, worker 0 reads the weights."""
    if job.inherit is None and job.root is None and job.slice is None:
        run.inherited = None
        return
    if not run.epoch:
        if run.group.leads:
            run.inherited = _begin(run, job, store, setting, cache)
        share(run)
        assert run.inherited is not None
    elif run.inherited is None:
        run.inherited = Inherited(message="the checkpoint does not record the inherited weights")
    if job.inherit is not None and run.inherited.trial is not None:
        run.training = run.training.at_rate(job.inherit.learning_rate_factor)
    _learn_from(run.inherited, run, job, store, setting, cache)


def _begin(
    run: Run, job: TrialJob, store: Store, setting: Setting, cache: Cache | None
) -> Inherited:
    frame, network, space = setting.frame, setting.network, setting.space
    if job.slice is not None:
        return forms.begin(job, setting, store, cache)
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
    inherited: Inherited,
    run: Run,
    job: TrialJob,
    store: Store,
    setting: Setting,
    cache: Cache | None,
) -> None:
    """Let the first epochs learn from the ancestor that the network approximates, if the job says
    so; where the ancestor's weights are gone they learn from labels."""
    if job.inherit is None or inherited.morphisms is None:
        return
    run.distil = job.inherit.distil
    if inherited.trial is None or run.epoch >= min(run.distil, job.last_epoch):
        return
    goal, why = None, "another worker could not read it"
    try:
        teacher = lineage.teacher(
            job, store, inherited.trial, setting.frame, setting.splits, cache, setting.space
        )
        goal = Distillation(teacher.to(setting.device), run.task.distils)
    except (NotFound, CorruptModel) as error:
        why = lineage.why(error)
    if run.group.any(goal is None):
        remark = f"trial {inherited.trial} could not be learned from: {why}"
        if remark in inherited.message:  # an earlier attempt has said so
            return
        message = "; ".join(filter(None, (inherited.message, remark)))
        run.inherited = inherited.model_copy(update={"message": message[:2000]})
        return
    run.goal = goal
