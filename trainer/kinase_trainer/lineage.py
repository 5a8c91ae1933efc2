"""A network that begins with the weights of an ancestor's trial.

The ancestors are tried from the nearest on; what is wrong with one is said, and the next is tried.
Nothing of a stored file is believed before its digest is right, and nothing is unpickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from kinase.api.task import Training
from kinase.api.trial import Ancestor, Inherited, TrialJob
from kinase.morphism import MorphismError, load_chain
from kinase.morphism.base import Base
from kinase.morphism.bridge import follow
from kinase.space import Frame, Graph, make_space
from kinase.store import NotFound, Store
from kinase_trainer import model
from kinase_trainer.data import Part, plain_batches
from kinase_trainer.errors import CorruptModel
from kinase_trainer.morphism import (
    Slots,
    calibrate,
    check_state,
    inherit,
    inherit_matching,
    write_slots,
)
from kinase_trainer.network import Network

T = TypeVar("T")
NODES = "nodes."
"""Before the names of a graph's tensors in its network's state."""


@dataclass(frozen=True)
class _Link:
    """One generation."""

    before: Graph
    morphisms: tuple[Base, ...]
    after: Graph


@dataclass
class _Weights:
    """What one network holds, by the names of its graph."""

    state: dict[str, Tensor]
    slots: Slots
    norms: tuple[str, ...] = ()


def begin(
    job: TrialJob,
    store: Store,
    frame: Frame,
    network: Network,
    optimiser: torch.optim.Optimizer,
    train: Part,
) -> Inherited:
    """Give a new network the weights that its job says it may begin with.

    Args:
        job: with `inherit` set.
        store: of the experiment.
        frame: of the network.
        network: of the job's architecture, drawn anew; it stays so if no ancestor can be used.
        optimiser: of the network.
        train: the training part, for new normalisations to hold its statistics.

    Returns:
        What became of it.
    """
    assert job.inherit is not None
    space = make_space(job.space)
    after = space.graph(job.architecture, frame)
    line: list[_Link] | None = []
    remarks: list[str] = []
    for ancestor in job.inherit.ancestors:
        before = space.graph(
            ancestor.architecture, Frame(frame.input, frame.outputs, ancestor.scale)
        )
        line = _longer(line, ancestor, before, after, remarks)
        try:
            weights = _read(job, store, ancestor, frame, before)
            if line is not None:
                try:
                    child = _follow(weights, line)
                    _give(child, network, optimiser, job.inherit.optimizer)
                    calibrate(network, next(iter(plain_batches(train)))[0], child.norms)
                    count = sum(len(link.morphisms) for link in line)
                    return _said(ancestor.trial, 1.0, count, remarks)
                except MorphismError as error:
                    remarks.append(f"trial {ancestor.trial}: {error}")
                    line = None
            if job.inherit.matching:
                share = inherit_matching(weights.state, network).share
                return _said(ancestor.trial, share, None, remarks)
        except (NotFound, CorruptModel) as error:
            gone = "its weights are not there" if isinstance(error, NotFound) else str(error)
            remarks.append(f"trial {ancestor.trial}: {gone}")
        after = before
    return _said(None, 0.0, None, remarks)


def scaled(training: Training, factor: float) -> Training:
    """The same training with another learning rate."""
    kind = "adamw" if training.optimizer.type == "AdamW" else "sgd"
    member = training.optimizer.member
    rate = {"learning_rate": member.learning_rate * factor}
    optimizer = training.optimizer.model_copy(update={kind: member.model_copy(update=rate)})
    return training.model_copy(update={"optimizer": optimizer})


def _said(trial: int | None, share: float, count: int | None, remarks: list[str]) -> Inherited:
    text = "; ".join(remarks)
    return Inherited(trial=trial, share=min(share, 1.0), morphisms=count, message=text[:2000])


def _longer(
    line: list[_Link] | None, ancestor: Ancestor, before: Graph, after: Graph, remarks: list[str]
) -> list[_Link] | None:
    """The line with one more generation at its beginning; None where it is broken."""
    if line is None or ancestor.morphisms is None:
        return None
    try:
        return [_Link(before, load_chain(list(ancestor.morphisms)), after), *line]
    except MorphismError as error:
        remarks.append(f"trial {ancestor.trial}: {error}")
        return None


def _read(job: TrialJob, store: Store, ancestor: Ancestor, frame: Frame, graph: Graph) -> _Weights:
    """An ancestor's weights, checked.

    Raises:
        NotFound: they are not there.
        CorruptModel: they are not what the job says.
    """
    slots_too = job.inherit is not None and job.inherit.optimizer
    card, state, slots = model.read(store.sub(ancestor.prefix), slots_too)
    for name, found, wanted in (
        ("experiment", card.experiment, job.experiment),
        ("trial", card.trial, ancestor.trial),
        ("space", card.space, job.space),
        ("architecture", card.architecture, ancestor.architecture),
        ("scale", card.scale, ancestor.scale),
        ("input", card.input, tuple(frame.input)),
        ("outputs", card.outputs, frame.outputs),
    ):
        if found != wanted:
            raise CorruptModel(f"its {name} is {found!s:.80}, wanted is {wanted!s:.80}")
    check_state(graph.needed(), state)
    finite = all(bool(torch.isfinite(t).all()) for each in slots.values() for t in each.values())
    return _Weights(state, slots if finite else {})


def _follow(weights: _Weights, line: list[_Link]) -> _Weights:
    """Go down the line: in each generation the morphisms, then the names of the space."""
    for link in line:
        child = inherit(link.before, weights.state, link.morphisms, slots=weights.slots)
        names = follow(link.before, link.morphisms, link.after)
        kept = {n.name for n in child.graph}
        weights = _Weights(
            _renamed(child.state, names),
            _renamed(child.slots, names),
            tuple(names[n] for n in (*weights.norms, *child.norms) if n in kept and n in names),
        )
    return weights


def _renamed(tensors: dict[str, T], names: dict[str, str]) -> dict[str, T]:
    """The same under the names of another graph; what belongs to no node is left out."""
    found = {}
    for name, value in tensors.items():
        if name.startswith(NODES):
            _, node, tensor = name.split(".", 2)
            found[f"{NODES}{names[node]}.{tensor}"] = value
    return found


def _give(
    weights: _Weights, network: Network, optimiser: torch.optim.Optimizer, slots: bool
) -> None:
    own = network.state_dict()
    wanted = {name for name in own if name.startswith(NODES)}
    wrong = wanted ^ set(weights.state)
    wrong |= {n for n in wanted - wrong if own[n].shape != weights.state[n].shape}
    if wrong:
        raise MorphismError(f"{min(wrong)} is not as the network has it")
    network.load_state_dict({**own, **weights.state})
    if slots and weights.slots:
        device = next(iter(own.values())).device
        moved = {n: {k: t.to(device) for k, t in s.items()} for n, s in weights.slots.items()}
        write_slots(network, optimiser, moved)
