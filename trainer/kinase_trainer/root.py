"""The network that a search starts from. It is loaded once, when the task is described, and kept in
the experiment's store as a graph and a safetensors file. Trials need neither the module nor its
file.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from kinase.api import limits
from kinase.api.inheritance import Inherited
from kinase.api.model_space import ModelSpace
from kinase.api.root import Root, RootFiles
from kinase.api.trial import TrialJob
from kinase.morphism import MorphismError, load_chain, tensors
from kinase.morphism.path import Path as PathMorphism
from kinase.morphism.widen import Heads, Widen
from kinase.space import (
    Frame,
    Graph,
    GraphError,
    InfeasibleError,
    Space,
    dump_graph,
    load_graph,
    make_space,
)
from kinase.space.retarget import retarget
from kinase.store import NotFound, Store, StoreError, StoreUnavailable, TooLarge, open_uri
from kinase.words import raised
from kinase_trainer import weights as files
from kinase_trainer.cache import Cache
from kinase_trainer.data import Part, Splits, plain_batches
from kinase_trainer.errors import ConfigError, CorruptModel
from kinase_trainer.morphism import calibrate, check_state, inherit
from kinase_trainer.network import Network
from kinase_trainer.trace import Traced, trace

NODES = "nodes."
"""Prefix of the names of a graph's tensors in its network's state."""
HEAD = 0.01
"""Standard deviation of the weights of a replaced last layer, as in every linear layer of
Kinase."""
COPIES = (Widen, Heads, PathMorphism)
"""Morphisms that copy units, which need noise to diverge."""
AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
"""torchvision's networks with auxiliary heads, and the prefixes of the heads' names. The heads are
only used in training. They are omitted, also from a file of weights."""


# -- when the task is described ----------------------------------------------------------


def make_root(options: ModelSpace, shape: tuple[int, int, int], outputs: int, store: Store) -> Root:
    """Load the network, adapt it to the task, and write it to the store.

    Args:
        options: the network and its weights.
        shape: shape of the task's images.
        outputs: number of the task's outputs.
        store: store of the experiment.

    Raises:
        ConfigError: the network does not exist, or cannot be converted to a valid graph.
        CorruptModel: the weights are not a safetensors file, or do not match the network.
    """
    _check_channels(options, shape[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        graph, state = _network(options, shape)
    try:
        fitted = retarget(graph, shape, outputs)
    except InfeasibleError as error:
        raise ConfigError(f"space.model: {error}") from error
    state = adapt(graph, fitted, state, options.seed)
    check_state(fitted, state)
    raw = save_tensors({name: tensor.contiguous() for name, tensor in state.items()})
    root = Root(graph=dump_graph(fitted), weights=hashlib.sha256(raw).hexdigest())
    store.put(f"root/{root.weights}.safetensors", raw)
    store.put(f"root/{root.files.graph}.json", root.text)
    return root


def _check_channels(options: ModelSpace, channels: int) -> None:
    for name, values in (("mean", options.mean), ("deviation", options.deviation)):
        if values is not None and len(values) not in (1, channels):
            raise ConfigError(
                f"space.model.{name} has {len(values)} numbers; the images have {channels} "
                "channels, use one for each or one for all"
            )


def _network(options: ModelSpace, shape: tuple[int, int, int]) -> tuple[Graph, dict[str, Tensor]]:
    """The network's graph before adaptation, and its state."""
    if options.graph is not None:
        try:
            graph = load_graph(options.graph.plain).needed()
        except (GraphError, InfeasibleError) as error:
            raise ConfigError(f"space.model.graph: {error}") from error
        own = {
            name.removeprefix(NODES): tensor
            for name, tensor in Network(graph).state_dict().items()
            if name.startswith(NODES)
        }
        own = _given(options, own)
        return graph, {f"{NODES}{name}": tensor for name, tensor in own.items()}
    module = make_module(options)
    traced: Traced = trace(module, shape)
    return traced.graph, traced.state(_given(options, module.state_dict()))


def _given(options: ModelSpace, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights from the manifest's file, or the network's own."""
    name = options.name if options.source == "torchvision" else None
    skipped = AUXILIARY.get(name or "", ())
    state = dict(own) if options.weights is None else read_weights(options.weights, own, skipped)
    return {n: t.detach().float() if t.is_floating_point() else t for n, t in state.items()}


def make_module(options: ModelSpace) -> nn.Module:
    """The torch module that a manifest names, with weights from torch's generator.

    Raises:
        ConfigError: the network does not exist.
    """
    if "weights" in options.arguments:
        raise ConfigError(
            "space.model.arguments has weights, but nothing is downloaded; set "
            "space.model.weights to a safetensors file"
        )
    assert options.name is not None
    where = f"space.model.name {options.name!r}"
    arguments = dict(options.arguments)
    make = _torchvision(options.name) if options.source == "torchvision" else _own(options.name)
    if isinstance(make, nn.Module):
        if arguments:
            raise ConfigError(f"{where} is a module already; it takes no space.model.arguments")
        return make
    if options.source == "torchvision":
        arguments["weights"] = None
        if options.name in AUXILIARY:
            _check_auxiliary(arguments)
            arguments |= {"aux_logits": False, "init_weights": True}
        if "init_weights" in inspect.signature(make).parameters:
            arguments.setdefault("init_weights", True)
    try:
        module = make(**arguments)
    except (Exception, SystemExit) as error:  # raised by other packages' code
        raise ConfigError(
            f"{where} cannot be made with arguments {options.arguments}: {raised(error):.300}"
        ) from error
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"{where} made a {type(module).__name__}; it must return a torch.nn.Module"
        )
    return module


def _check_auxiliary(arguments: Mapping[str, Any]) -> None:
    if arguments.get("aux_logits"):
        raise ConfigError(
            "space.model.arguments.aux_logits is true; a search trains without the auxiliary heads "
            "of this network: leave it out. A file of weights may have them, they are passed over"
        )
    if arguments.get("transform_input"):
        raise ConfigError(
            "space.model.arguments.transform_input is true; leave it out, and say the same as "
            "space.model.mean: [0.5] and deviation: [0.5]"
        )


def _torchvision(name: str) -> Any:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, known, 5) or known[:5]
        raise ConfigError(
            f"space.model.name {name!r} is not a classifier of torchvision; use one like "
            f"{', '.join(near)}"
        )
    return models.get_model_builder(name)


def _own(name: str) -> Any:
    """The object at an import path. It is only imported here, where the trainer runs."""
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # raised by other packages' code
        raise ConfigError(
            f"space.model.name {name!r}: {module} cannot be imported where the trainer runs "
            f"({raised(error):.300}); install it there, or add its folder to "
            "PYTHONPATH"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [each for each in dir(found) if not each.startswith("_")]
            near = difflib.get_close_matches(part, public, 5) or public[:5]
            raise ConfigError(
                f"space.model.name {name!r}: there is no {part}; use one like {', '.join(near)}"
            )
        found = getattr(found, part)
    if not callable(found):
        raise ConfigError(
            f"space.model.name {name!r} is a {type(found).__name__}; use a torch.nn.Module, or a "
            "function or class that makes one"
        )
    return found


def read_weights(
    where: str, own: Mapping[str, Tensor], skipped: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """The tensors of a safetensors file, if they match a network.

    Args:
        where: a path, or a URI with file:// or s3://, which uses the experiment's S3 settings.
        own: the network's own tensors.
        skipped: prefixes of the names of ignored tensors.

    Raises:
        ConfigError: the file does not exist.
        CorruptModel: a tensor does not match; the message names the first one.
    """
    folder, _, name = where.rpartition("/")
    path = str(Path(folder or ("/" if where.startswith("/") else ".")).absolute())
    endpoint, region = (os.environ.get(f"KINASE_STORE_{part}") for part in ("ENDPOINT", "REGION"))
    try:
        store = open_uri(folder if "://" in where else f"file://{path}", endpoint, region)
        found = files.read(store, name, None)
    except NotFound as error:
        raise ConfigError(f"space.model.weights: there is not a file {where}") from error
    except StoreUnavailable:
        raise
    except StoreError as error:
        raise ConfigError(f"space.model.weights: {error}") from error
    except CorruptModel as error:
        raise CorruptModel(
            f"space.model.weights: {error}; use a safetensors file. A file of torch.save is made "
            "one, once and where it is trusted, by "
            "safetensors.torch.save_file(torch.load(path, weights_only=True), out)"
        ) from error
    if skipped:
        found = {n: tensor for n, tensor in found.items() if n in own or not n.startswith(skipped)}
    said = f"space.model.weights: {where}"
    for key, tensor in own.items():
        if key not in found:
            if key.endswith("num_batches_tracked"):  # older files have none
                found[key] = tensor
                continue
            raise CorruptModel(f"{said} has no {key!r}, which the network has")
        if found[key].shape != tensor.shape:
            raise CorruptModel(
                f"{said} has {key!r} of shape {tuple(found[key].shape)}, the network's is "
                f"{tuple(tensor.shape)}; space.model.arguments may say other sizes"
            )
        if not bool(torch.isfinite(found[key]).all()):
            raise CorruptModel(f"{said} has {key!r} with a value that is not finite")
    for key in found:
        if key not in own:
            raise CorruptModel(f"{said} has {key!r}, which the network has not")
    return found


def adapt(before: Graph, after: Graph, state: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """The state of a network that was adapted to another task.

    A last layer of another width is initialized at random. For a first convolution with another
    number of channels, each new channel gets the mean of the filters over the old channels, times
    the old number of channels divided by the new one. The output for an image that is the same in
    all channels does not change.
    """
    old, made = tensors(before), dict(state)
    for name, shape in tensors(after).items():
        if old[name] == shape:
            continue
        key = f"{NODES}{name}"
        whole, kind = state[key], name.rpartition(".")[2]
        if kind.startswith("running_"):
            made[key] = whole.mean().expand(shape).clone()
        elif len(shape) == 4 and old[name][0] == shape[0]:
            made[key] = whole.sum(1, keepdim=True).expand(shape).clone() / shape[1]
        else:
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.randn(shape, generator=generator) * HEAD
            made[key] = drawn if kind == "weight" else torch.zeros(shape)
    return made


# -- in a trial --------------------------------------------------------------------------


def space_of(job: TrialJob, store: Store) -> Space:
    """The space of a job, starting from its root, if there is one.

    Raises:
        CorruptModel: the stored file is not the root's graph.
        NotFound: the file does not exist.
    """
    if job.root is None:
        return make_space(job.space)
    key = f"root/{job.root.graph}.json"
    try:
        raw = store.get(key, limits.GRAPH)
    except TooLarge as error:
        raise CorruptModel(str(error)) from error
    if hashlib.sha256(raw).hexdigest() != job.root.graph:
        raise CorruptModel(f"{store.uri}/{key} is not the graph that the job names")
    try:
        return make_space(job.space, load_graph(_json(raw)))
    except (GraphError, InfeasibleError) as error:
        raise CorruptModel(f"{store.uri}/{key} is not a valid graph: {error}") from error


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError as error:
        raise GraphError(str(error)) from error


def normalized(splits: Splits, model: ModelSpace | None) -> Splits:
    """The splits, with the statistics with which a network's weights were trained."""
    if model is None:
        return splits
    return replace(
        splits,
        mean=splits.mean if model.mean is None else tuple(model.mean),
        deviation=splits.deviation if model.deviation is None else tuple(model.deviation),
    )


def begin(
    job: TrialJob,
    store: Store,
    space: Space,
    frame: Frame,
    network: Network,
    train: Part,
    cache: Cache | None = None,
) -> Inherited:
    """Give a new network the root's weights, transformed by the architecture's morphisms.

    Args:
        job: job with `root` set.
        store: store of the experiment.
        space: space that starts from the root.
        frame: size of the network.
        network: network of the job's architecture, with random weights, which stay if there are no
            others.
        train: training split, for the statistics of new normalizations.
        cache: cache of this node.

    Returns:
        How the weights were used, for people.
    """
    assert job.root is not None
    assert job.space.model is not None
    noise = job.space.model.noise
    graph = space.graph({"morphisms": []}, frame).needed()
    try:
        state = _root_state(store, job.root, cache)
        check_state(graph, state)
        chain = [
            each.model_copy(
                update={"seed": job.seed, "noise": noise if isinstance(each, COPIES) else 0.0}
            )
            for each in load_chain(job.architecture["morphisms"])
        ]
        child = inherit(graph, state, chain)
    except (NotFound, CorruptModel, MorphismError) as error:
        why = "they do not exist" if isinstance(error, NotFound) else str(error)
        return Inherited(message=f"the first network's weights cannot be used: {why}"[:2000])
    own = network.state_dict()
    network.load_state_dict({**own, **child.state})
    calibrate(network, next(iter(plain_batches(train)))[0], child.norms)
    return Inherited(root=True, share=1.0, morphisms=len(chain))


def begin_supernet(
    job: TrialJob, store: Store, space: Space, frame: Frame, network: Network, train: Part
) -> str:
    """Give a supernet of sub-networks the root's weights, if the job has a root.

    Returns:
        Why they could not be used, or an empty text.
    """
    if job.root is None:
        return ""
    first = job.model_copy(update={"architecture": {"morphisms": []}})
    return begin(first, store, space, frame, network, train).message


def _root_state(store: Store, root: RootFiles, cache: Cache | None) -> dict[str, Tensor]:
    return files.read(store, f"root/{root.weights}.safetensors", root.weights, cache=cache)
