"""A network that inherits the weights of an ancestor's trial.

The ancestors are tried from the nearest one; if one cannot be used, the reason is recorded and the
next one is tried. A stored file is only used after its digest was checked, and nothing is
unpickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from kinase.api.inheritance import Ancestor, Inherited
from kinase.api.trial import TrialJob
from kinase.morphism import Limits, MorphismError, load_chain
from kinase.morphism.base import Base
from kinase.morphism.bridge import follow
from kinase.space import Frame, Graph, Space, make_space
from kinase.store import NotFound, Store
from kinase_trainer import model
from kinase_trainer.cache import Cache
from kinase_trainer.data import Part, Splits, plain_batches
from kinase_trainer.errors import CorruptModel
from kinase_trainer.morphism import (
    Slots,
    calibrate,
    check_shapes,
    check_state,
    inherit,
    inherit_matching,
    write_slots,
)
from kinase_trainer.network import Network

T = TypeVar("T")
ROOM = 4
"""Maximum size of a network between two generations, relative to the larger of the two."""
NODES = "nodes."
"""Prefix of the names of a graph's tensors in its network's state."""


@dataclass(frozen=True)
class _Link:
    """One generation."""

    before: Graph
    morphisms: tuple[Base, ...]
    after: Graph


@dataclass
class _Weights:
    """Tensors of a network, by the names of its graph."""

    state: dict[str, Tensor]
    slots: Slots
    norms: tuple[str, ...] = ()


def begin(
    job: TrialJob,
    store: Store,
    frame: Frame,
    network: Network,
    optimizer: torch.optim.Optimizer,
    train: Part,
    cache: Cache | None = None,
    space: Space | None = None,
) -> Inherited:
    """Give a new network the weights that its job lets it inherit.

    Args:
        job: job with `inherit` set.
        store: store of the experiment.
        frame: size of the network.
        network: network of the job's architecture, with random weights, which stay if no ancestor
            is usable.
        optimizer: optimizer of the network.
        train: training split, for the statistics of new normalizations.
        cache: cache of this node.
        space: space of the job, if available.

    Returns:
        What the network has inherited.
    """
    assert job.inherit is not None
    space = space or make_space(job.space)
    after = space.graph(job.architecture, frame)
    line: list[_Link] | None = []
    remarks: list[str] = []
    for ancestor in job.inherit.ancestors:
        before = space.graph(
            ancestor.architecture, Frame(frame.input, frame.outputs, ancestor.scale)
        )
        line = _longer(line, ancestor, before, after, remarks)
        try:
            source = store.sub(ancestor.prefix)
            card = _card(job, source, ancestor, frame)
            if line is not None:
                weights = _Weights(_state(source, card, before, cache), {})
                if job.inherit.optimizer:
                    try:
                        weights.slots = _slots(source, card, weights.state, cache)
                    except (NotFound, CorruptModel) as error:
                        remarks.append(f"trial {ancestor.trial}: {why(error, 'slots')}")
                try:
                    child = _follow(weights, line)
                    _give(child, network, optimizer, job.inherit.optimizer)
                    calibrate(network, next(iter(plain_batches(train)))[0], child.norms)
                    count = sum(len(link.morphisms) for link in line)
                    return _said(ancestor.trial, 1.0, count, remarks)
                except MorphismError as error:
                    remarks.append(f"trial {ancestor.trial}: {error}")
                    line = None
            if job.inherit.matching:
                state = _matching(source, card, before, network, cache)
                share = inherit_matching(state, network).share
                return _said(ancestor.trial, share, None, remarks)
        except (NotFound, CorruptModel) as error:
            remarks.append(f"trial {ancestor.trial}: {why(error)}")
        after = before
    return _said(None, 0.0, None, remarks)


def teacher(
    job: TrialJob,
    store: Store,
    trial: int,
    frame: Frame,
    splits: Splits,
    cache: Cache | None = None,
    space: Space | None = None,
) -> Network:
    """The network of an ancestor, to distil its child from.

    Args:
        job: job with `inherit` set.
        store: store of the experiment.
        trial: number of the ancestor's trial.
        frame: size of the child.
        splits: splits of the data.
        cache: cache of this node.
        space: space of the job, if available.

    Raises:
        NotFound: its weights do not exist.
        CorruptModel: they contradict the job.
    """
    assert job.inherit is not None
    for ancestor in job.inherit.ancestors:
        if ancestor.trial == trial:
            break
    else:
        raise CorruptModel("it is not an ancestor")
    scale = Frame(frame.input, frame.outputs, ancestor.scale)
    graph = (space or make_space(job.space)).graph(ancestor.architecture, scale)
    source = store.sub(ancestor.prefix)
    state = _state(source, _card(job, source, ancestor, frame), graph, cache)
    network = Network(graph, splits.mean, splits.deviation)
    own = network.state_dict()
    network.load_state_dict({**own, **{n: t for n, t in state.items() if n.startswith(NODES)}})
    return network.eval()


def why(error: NotFound | CorruptModel, what: str = "weights") -> str:
    """Why an ancestor's weights cannot be used."""
    return f"its {what} do not exist" if isinstance(error, NotFound) else str(error)


def _said(trial: int | None, share: float, count: int | None, remarks: list[str]) -> Inherited:
    text = "; ".join(remarks)
    return Inherited(trial=trial, share=min(share, 1.0), morphisms=count, message=text[:2000])


def _longer(
    line: list[_Link] | None, ancestor: Ancestor, before: Graph, after: Graph, remarks: list[str]
) -> list[_Link] | None:
    """The line with one more generation at its start; None if it is broken."""
    if line is None or ancestor.morphisms is None:
        return None
    try:
        return [_Link(before, load_chain(list(ancestor.morphisms)), after), *line]
    except MorphismError as error:
        remarks.append(f"trial {ancestor.trial}: {error}")
        return None


def _card(job: TrialJob, source: Store, ancestor: Ancestor, frame: Frame) -> model.Card:
    """An ancestor's card, checked.

    Raises:
        NotFound: it does not exist.
        CorruptModel: it contradicts the job.
    """
    card = model.read_card(source)
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
            raise CorruptModel(f"its {name} is {found!s:.80}, expected {wanted!s:.80}")
    return card


def _state(source: Store, card: model.Card, graph: Graph, cache: Cache | None) -> dict[str, Tensor]:
    _check_card(card, graph)
    state = model.read_state(source, card, cache=cache)
    check_state(graph.needed(), state)
    return state


def _slots(source: Store, card: model.Card, state: dict[str, Tensor], cache: Cache | None) -> Slots:
    """The state of an ancestor's optimizer, checked.

    Raises:
        NotFound, CorruptModel: as `_card`.
    """
    slots = model.read_slots(source, card, cache)
    for name, each in slots.items():
        for slot, tensor in each.items():
            if name not in state or (tensor.ndim and tensor.shape != state[name].shape):
                raise CorruptModel(f"its {slot} of {name} has shape {tuple(tensor.shape)}")
            if not bool(torch.isfinite(tensor).all()):
                raise CorruptModel(f"its {slot} of {name} holds a value that is not finite")
    return slots


def _matching(
    source: Store, card: model.Card, graph: Graph, network: Network, cache: Cache | None
) -> dict[str, Tensor]:
    """An ancestor's tensors whose name and shape match those of a network.

    Raises:
        NotFound, CorruptModel: as `_card`.
    """
    if not card.tensors:  # it does not have their locations
        state = model.read_state(source, card, cache=cache)
        check_state(graph.needed(), state)
        return state
    _check_card(card, graph)
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    names = [n for n, stored in card.tensors.items() if own.get(n) == stored.shape]
    return model.read_state(source, card, names, cache)


def _check_card(card: model.Card, graph: Graph) -> None:
    """Before reading anything: check that the card's tensors are those of its graph."""
    if card.tensors:
        check_shapes(graph.needed(), {name: t.shape for name, t in card.tensors.items()})


def _follow(weights: _Weights, line: list[_Link]) -> _Weights:
    """Follow the line: in each generation apply the morphisms, then rename as in the space."""
    for link in line:
        most = ROOM * max(link.before.params(), link.after.params())
        child = inherit(
            link.before,
            weights.state,
            link.morphisms,
            slots=weights.slots,
            limits=Limits(params=most),
        )
        names = follow(link.before, link.morphisms, link.after)
        kept = {n.name for n in child.graph}
        weights = _Weights(
            _renamed(child.state, names),
            _renamed(child.slots, names),
            tuple(names[n] for n in (*weights.norms, *child.norms) if n in kept and n in names),
        )
    return weights


def _renamed(tensors: dict[str, T], names: dict[str, str]) -> dict[str, T]:
    """The same by the names of another graph, without tensors that belong to no node."""
    found = {}
    for name, value in tensors.items():
        if name.startswith(NODES):
            _, node, tensor = name.split(".", 2)
            found[f"{NODES}{names[node]}.{tensor}"] = value
    return found


def _give(
    weights: _Weights, network: Network, optimizer: torch.optim.Optimizer, slots: bool
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
        write_slots(network, optimizer, moved)
