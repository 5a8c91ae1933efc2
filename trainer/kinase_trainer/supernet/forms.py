"""The two forms of a supernet: choices whose options can all run, and slices of shared tensors."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch

from kinase.api.inheritance import Inherited
from kinase.api.space import Space as SpaceModel
from kinase.api.supernet import OFA, Relaxation
from kinase.api.trial import TrialJob
from kinase.space import Frame, make_space
from kinase.space.elastic import Elastic
from kinase.space.sharing import Form, Unshared, shared
from kinase.space.supernet import Supernet, match
from kinase.space.tensors import tensors
from kinase.store import Store
from kinase_trainer.cache import Cache
from kinase_trainer.data import Splits
from kinase_trainer.errors import ConfigError, CorruptModel
from kinase_trainer.network import Network
from kinase_trainer.setting import Setting, Surroundings
from kinase_trainer.supernet import stored
from kinase_trainer.supernet.elastic import NODES, ElasticNetwork
from kinase_trainer.supernet.memory import bytes_needed, maps_of
from kinase_trainer.supernet.network import Supernetwork, slice_names


def shared_by(job: TrialJob, around: Surroundings, form: Form) -> Supernet | Elastic:
    """What the networks of a job's space share.

    Raises:
        ConfigError: nothing, in this form.
    """
    try:
        if job.root is None:
            return _known(job.space.model_dump_json(by_alias=True), around.frame, form)
        return shared(around.space, around.frame, form)
    except Unshared as error:
        raise ConfigError(f"space.type {job.space.type}: {error}") from None


@lru_cache(maxsize=2)
def _known(space: str, frame: Frame, form: Form) -> Supernet | Elastic:
    """Made once for the many candidates that one process scores."""
    return shared(make_space(SpaceModel.model_validate_json(space)), frame, form)


def network_of(
    found: Supernet | Elastic, splits: Splits, relaxation: Relaxation
) -> Supernetwork | ElasticNetwork:
    """The network of what a space shares, with weights from torch's generator."""
    if isinstance(found, Supernet):
        return Supernetwork(found, splits.mean, splits.deviation)
    options = relaxation.member
    transforms = isinstance(options, OFA) and options.transforms
    return ElasticNetwork(found, splits.mean, splits.deviation, transforms=transforms)


def bytes_of(found: Supernet | Elastic, job: TrialJob) -> int:
    """The memory that its training takes at least. Maps count where all options are run."""
    assert job.supernet is not None
    relaxation = job.supernet.relaxation
    if isinstance(found, Elastic):
        options = relaxation.member
        taught = isinstance(options, OFA) and options.distillation > 0
        return bytes_needed(found.tensors, 0, job.training, copies=int(taught))
    maps = maps_of(found.graph) if relaxation.mixes else 0
    copies = int(relaxation.darts is not None and relaxation.darts.order == 2)
    return bytes_needed(tensors(found.graph), maps, job.training, copies=copies)


def part_of(
    job: TrialJob, around: Surroundings, store: Store, card: stored.Card, opened: stored.Opened
) -> Network:
    """The network of a candidate, with its part of a supernet's weights.

    What is scored is the very network that the space builds: a part of a supernet of choices is
    compared with it, node by node; slices are those of the network's own layers.

    Raises:
        ConfigError: the space has no supernet.
        CorruptModel: the file is damaged, or lacks tensors of the candidate.
    """
    assert job.slice is not None
    found = shared_by(job, around, card.plan.relaxation.form)
    try:
        if isinstance(found, Elastic):
            return _slices(found, job, around, store, card, opened)
        return _options(found, job, around, store, card, opened)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise CorruptModel(
            f"{store.uri}/{job.slice.prefix}/{stored.WEIGHTS} does not fit the candidate: "
            f"{first:.300}"
        ) from None


def begin(job: TrialJob, setting: Setting, store: Store, cache: Cache | None) -> Inherited:
    """Give a finalist the tensors of its part of a supernet that have the same name and shape. It
    can be larger, and its batch normalizations have parameters where those of a supernet have none.

    Raises:
        CorruptModel: as `part_of`.
    """
    assert job.slice is not None
    frame = replace(setting.frame, scale=job.slice.scale, auxiliary=False)
    around = replace(setting, frame=frame)
    opened = stored.Opened(cache)
    card = opened.card(store, job.slice.prefix, job, frame)
    theirs = part_of(job, around, store, card, opened).state_dict()
    own = setting.network.state_dict()
    taken = {n: t for n, t in theirs.items() if n in own and own[n].shape == t.shape}
    setting.network.load_state_dict(taken, strict=False)
    names = {name for name, _ in setting.network.named_parameters()}
    whole = sum(own[name].numel() for name in names)
    share = sum(t.numel() for name, t in taken.items() if name in names) / max(1, whole)
    return Inherited(trial=card.trial, share=share)


def _options(
    found: Supernet,
    job: TrialJob,
    around: Surroundings,
    store: Store,
    card: stored.Card,
    opened: stored.Opened,
) -> Network:
    assert job.slice is not None
    path = around.space.path(job.architecture)
    # in the supernet's order of edges, which is one of those that stand for the same network
    frame = replace(around.frame, searching=True)
    graph = around.space.graph(around.space.architecture(path), frame)
    own = slice_names(card.tensors, match(graph, found.slice(path)))
    weights = opened.read(store, job.slice.prefix, card, set(own.values()))
    network = Network(graph, around.splits.mean, around.splits.deviation)
    network.load_state_dict({mine: weights[theirs] for mine, theirs in own.items()})
    return network


def _slices(
    found: Elastic,
    job: TrialJob,
    around: Surroundings,
    store: Store,
    card: stored.Card,
    opened: stored.Opened,
) -> Network:
    assert job.slice is not None
    own = {f"{NODES}{name}" for name in found.slice(job.architecture).cuts}
    if missing := sorted(own - set(card.tensors)):
        raise RuntimeError(f"Missing key: {missing[0]}")
    # what is of no layer, as the images' mean, all candidates have
    wanted = {name for name in card.tensors if name in own or not name.startswith(NODES)}
    weights = opened.read(store, job.slice.prefix, card, wanted)
    with torch.device("meta"):
        whole = network_of(found, around.splits, card.plan.relaxation)
    assert isinstance(whole, ElasticNetwork)
    whole.load_state_dict(weights, strict=False, assign=True)
    whole.follow(job.architecture)
    return whole.standing_alone()
