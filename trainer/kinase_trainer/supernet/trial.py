"""The trials of a supernet: its training, and the scoring of a candidate with its weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from kinase.api.supernet import LEARNED, Derived
from kinase.api.trial import MOST_DERIVED, Outcome, Point, TrialJob, TrialResult
from kinase.space import ArchitectureError, InfeasibleError, Space
from kinase.space.supernet import Supernet
from kinase.store import CountingStore, Store
from kinase.words import counted
from kinase_trainer import checkpoint
from kinase_trainer.data import Part
from kinase_trainer.epochs import Begin, Notify, follow_epochs, train_epochs
from kinase_trainer.errors import ConfigError
from kinase_trainer.group import ALONE, Group
from kinase_trainer.ledger import Meter
from kinase_trainer.root import begin_supernet
from kinase_trainer.setting import Surroundings, surroundings
from kinase_trainer.start import resume, share
from kinase_trainer.supernet import forms, stored
from kinase_trainer.supernet.make import make_choices, make_extras
from kinase_trainer.supernet.memory import bytes_available, check_memory
from kinase_trainer.supernet.recalibrate import recalibrate
from kinase_trainer.supernet.run import SupernetRun, halves
from kinase_trainer.supernet.within import Within
from kinase_trainer.train import evaluate, make_optimizer, seed_of

HISTORY = "choices.json"
"""Key below the supernet's prefix: its choices' probabilities after each epoch."""
LIKELY = 4
"""Architectures within the limits that are drawn where what the choices led to is above them."""
CHUNK = 256
"""Images of a batch for the statistics of batch normalizations."""


def train(
    job: TrialJob,
    store: CountingStore,
    notify: Notify,
    begin: Begin,
    meter: Meter,
    group: Group = ALONE,
) -> TrialResult:
    """Train a supernet, from its last checkpoint if there is one; store its weights, and say which
    architectures its choices have led to.

    Raises:
        ConfigError: the space has no supernet, or one that does not fit into memory, or too few
            samples can be held out.
        CheckpointGone: the checkpoint holds fewer epochs than `job.done`; nothing was trained.
    """
    around = surroundings(job, store)
    run = _run(job, around, group)
    first = begin_supernet(job, store, around.space, around.frame, run.model, around.train)
    remarks = [first, resume(run, job, store)]
    meter.stands(run.epoch)
    share(run)

    def tell(point: Point) -> bool:
        _keep_history(run, store, job.prefix)
        return notify(point)

    with checkpoint.Uploads(store, job.prefix, meter.kept) as uploads:
        name = f"trial {job.trial} attempt {job.attempt}"
        ended = train_epochs(run, job.last_epoch, uploads, meter, tell, begin, name, group)
    run.group = ALONE  # the others have ended
    kept, derived = 0, list[Derived]()
    if run.curve and not ended.diverged:
        kept = stored.save(store, job, run.network, around.frame)
        derived, said = _derived(job, run, around)
        remarks.append(said)
    return TrialResult(
        trial=job.trial,
        attempt=job.attempt,
        outcome=ended.outcome,
        metrics=ended.metrics,
        cost=meter.cost(),
        curve=tuple(run.curve),
        message="; ".join(filter(None, (*remarks, run.ended, ended.message)))[:4000],
        kept_bytes=kept,
        derived=tuple(derived),
        facts={
            "device": str(around.device),
            "torch": torch.__version__,
            "params": sum(p.numel() for p in run.network.parameters()),
            "bytesRead": store.traffic.read,
            "bytesWritten": store.traffic.written,
        },
    )


def follow(job: TrialJob, store: Store, begin: Begin, done: Begin, group: Group) -> None:
    """Train with worker 0, at another worker; see `kinase_trainer.trial.follow`."""
    run = _run(job, surroundings(job, store), group)
    share(run)
    follow_epochs(run, begin, done, group)


def _run(job: TrialJob, around: Surroundings, group: Group) -> SupernetRun:
    """The training of a supernet as the job describes it, not begun."""
    assert job.supernet is not None
    plan, splits = job.supernet, around.splits
    found = forms.shared_by(job, around, plan.relaxation.form)
    check_memory(forms.bytes_of(found, job), bytes_available())
    torch.manual_seed(seed_of(job.seed, 0))
    network = forms.network_of(found, splits, plan.relaxation).to(around.device)
    supernet = found if isinstance(found, Supernet) else None
    weights = held = around.train
    try:
        within = _limits(job, around)
        seed = seed_of(job.seed, 7)
        choices = make_choices(plan.relaxation, supernet, around.space, seed, within)
        extras = make_extras(job.supernet, choices.relaxation)
    except ValueError as error:
        raise ConfigError(f"estimation.oneShot: {error}") from None
    if choices.holds_out or job.supernet.selection is not None:
        try:
            weights, held = halves(around.train, plan.held, job.seed)
        except ValueError as error:
            raise ConfigError(f"estimation.oneShot.held: {error}") from None
    waits = plan.waits(job.fidelity.epochs)
    if choices.chooser is not None and waits >= job.fidelity.epochs:
        raise ConfigError(
            f"estimation.oneShot.frozen: the choices do not learn in the first {waits} of "
            f"{counted(job.fidelity.epochs, 'epoch')}; use a smaller number"
        )
    return SupernetRun(
        model=network,
        optimizer=make_optimizer(network, job.training, paths=True),
        task=splits.learning,
        training=job.training,
        device=around.device,
        train=weights,
        validation=around.validation,
        epochs=job.fidelity.epochs,
        seed=job.seed,
        relaxation=choices.relaxation,
        held=held,
        chooser=choices.chooser,
        order=choices.order,
        frozen=waits,
        interval=choices.interval,
        rounds=choices.rounds,
        own_statistics=choices.own_statistics,
        extras=extras,
        group=group,
    )


def _limits(job: TrialJob, around: Surroundings) -> Within | None:
    assert job.supernet is not None
    limits = job.supernet.limits
    return Within(limits, around.space, around.frame) if limits else None


def _derived(job: TrialJob, run: SupernetRun, around: Surroundings) -> tuple[list[Derived], str]:
    """What the choices have led to, as architectures of the space, and a remark. Where all are
    above the limits of the search, likely ones within them follow."""
    assert job.supernet is not None
    if job.supernet.relaxation.type not in LEARNED and job.supernet.selection is None:
        return [], ""
    space, within = around.space, _limits(job, around)
    found = _architectures(run.derived()[:MOST_DERIVED], space)
    learned = job.supernet.relaxation.type in LEARNED or job.supernet.selection is not None
    if within is None or not learned or any(_is_within(each, within) for each in found):
        return found, ""
    likely = within.likely(run.relaxation, seed_of(job.seed, 8), LIKELY)
    said = (
        "what the choices led to is above objective.limits; "
        f"{counted(len(likely), 'likely architecture')} within them "
        f"{'follows' if len(likely) == 1 else 'follow'}"
    )
    return [*found[: MOST_DERIVED - LIKELY], *_architectures(likely, space)], said


def _is_within(derived: Derived, within: Within) -> bool:
    try:
        return within.excess(derived.architecture) <= 1
    except InfeasibleError:
        return False


def _architectures(paths: Sequence[tuple[Mapping[str, int], float]], space: Space) -> list[Derived]:
    found = []
    for path, score in paths:
        try:
            found.append(Derived(architecture=space.architecture(path), score=score))
        except ArchitectureError as error:  # a path that no architecture has, as all none
            print(f"a derived path is left out: {error}", flush=True)
    return found


def _keep_history(run: SupernetRun, store: Store, prefix: str) -> None:
    """Write how probable the options of each choice were after each epoch."""
    if run.history:
        options = run.relaxation.supernet.groups
        document = {"options": options, "epochs": run.history}
        store.put(f"{prefix}/{HISTORY}", json.dumps(document, separators=(",", ":")).encode())


def score(job: TrialJob, store: CountingStore, meter: Meter, opened: stored.Opened) -> TrialResult:
    """Score a candidate on the validation split, with its part of a supernet's weights. Only the
    statistics of its batch normalizations are computed again, from training images.

    Raises:
        ConfigError: the space has no supernet.
        CorruptModel: the supernet is missing or damaged, or of another space.
    """
    assert job.slice is not None
    around = surroundings(job, store)
    around.space.validate(job.architecture)
    place, frame, before = job.slice.prefix, around.frame, opened.bytes_from_cache
    card = opened.card(store, place, job, frame)
    network = forms.part_of(job, around, store, card, opened)
    network.to(around.device)
    count = min(job.slice.recalibrate, len(around.train))
    if count:
        recalibrate(network, _images(around.train, count))
    measured = evaluate(
        network, around.splits.learning, around.validation, job.training, around.device
    )
    meter.settle()
    return TrialResult(
        trial=job.trial,
        attempt=job.attempt,
        outcome=Outcome.STOPPED if job.last_epoch < job.fidelity.epochs else Outcome.SUCCEEDED,
        metrics={f"val_{name}": value for name, value in measured.items()},
        cost=meter.cost(),
        facts={
            "recalibrated": count,
            "bytesRead": store.traffic.read,
            "bytesFromCache": opened.bytes_from_cache - before,
        },
    )


def _images(part: Part, count: int) -> Iterator[Tensor]:
    """Training images for the statistics: the same for all candidates."""
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(0))[:count]
    for images, _ in part.read(order.sort().values, CHUNK):
        yield images
