"""Shared tensors in torch: each network of a space runs on slices of them."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kinase.api.trial import Architecture
from kinase.space import Graph, Node, Space
from kinase.space.elastic import Cut, Elastic
from kinase.space.tensors import kernel
from kinase_trainer.network import Network, module_of
from kinase_trainer.supernet.network import Supernetwork

KEPT = 256
"""Networks that are kept without their tensors: to make one takes as long as some layers."""
PARTS = 4096
"""Modules without tensors that are kept."""
NODES = "nodes."
"""Prefix of the names of layers' tensors in a network's state."""


@dataclass(frozen=True)
class _Plan:
    """How one architecture's network is run."""

    graph: Graph
    network: Network
    """Its modules, without tensors."""
    cuts: Mapping[str, Cut]


class ElasticNetwork(Network):
    """The shared tensors of a space. Before it is called, `follow` sets the architecture; only the
    tensors of its network then get gradients."""

    def __init__(
        self,
        elastic: Elastic,
        mean: tuple[float, ...] = (0.0,),
        deviation: tuple[float, ...] = (1.0,),
        *,
        transforms: bool = False,
    ) -> None:
        """Make the tensors, with values from torch's generator.

        Args:
            elastic: the space's shared tensors.
            mean: see `Network`.
            deviation: see `Network`.
            transforms: whether a smaller depthwise kernel is the centre of the next larger one
                times a learned matrix, shared by the layer's channels and initially an identity
                (Cai et al. 2020, section 3.3), instead of the centre alone.
        """
        nn.Module.__init__(self)
        self._set_up(elastic.nodes.values(), mean, deviation)
        self.elastic = elastic
        self.transforms = nn.ParameterDict(_transforms(elastic) if transforms else {})
        self._rate = 0.0
        self._plans: OrderedDict[str, _Plan] = OrderedDict()
        self._plan: _Plan | None = None
        self._parts: dict[tuple[object, ...], nn.Module] = {}

    def follow(self, architecture: Architecture) -> None:
        """Run an architecture's network from now on.

        Raises:
            InfeasibleError: the network does not exist at this input size.
            ValueError: it is not a slice of the shared tensors.
        """
        key = json.dumps(architecture, sort_keys=True)
        if key not in self._plans:
            sliced = self.elastic.slice(architecture)
            with torch.device("meta"):
                network = Network(sliced.graph, make=self._module)
            self._plans[key] = _Plan(sliced.graph, network, sliced.cuts)
            while len(self._plans) > KEPT:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        self._plan = self._plans[key]

    def _module(self, node: Node) -> nn.Module:
        """A module without tensors, which all networks share that have this very node: to make one
        takes longer than to run it."""
        key = node.name, node.op, *sorted(node.attrs.items())
        if key not in self._parts:
            if len(self._parts) >= PARTS:
                self._parts.clear()
            self._parts[key] = module_of(node)
        return self._parts[key]

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(N, C, H, W) -> (N, classes), by the network of `follow`.

        Raises:
            RuntimeError: no architecture was set.
        """
        plan = self._followed()
        plan.network.train(self.training)
        plan.network.set_drop_path(self._rate)
        state = self._state(plan)
        output = functional_call(plan.network, state, (images,), tie_weights=False)
        if self.training:
            self._write_back(plan, state)
        return output if isinstance(output, tuple) else self._answer(output)

    def set_drop_path(self, rate: float) -> None:
        """See `Network`."""
        self._rate = rate

    def standing_alone(self) -> Network:
        """The network of `follow` with separate tensors: copies of its slices."""
        plan = self._followed()
        state = {name: tensor.detach() for name, tensor in self._state(plan).items()}
        with torch.device("meta"):
            mean, deviation = ((0.0,) * n.numel() for n in (self.mean, self.deviation))
            network = Network(plan.graph, mean, deviation)
        network.load_state_dict({n: t.clone() for n, t in state.items()}, assign=True)
        network.target_mean, network.target_deviation = self.target_mean, self.target_deviation
        return network.requires_grad_().train(self.training)

    def _followed(self) -> _Plan:
        if self._plan is None:
            raise RuntimeError("the shared tensors have no architecture; call follow first")
        return self._plan

    def _state(self, plan: _Plan) -> dict[str, Tensor]:
        """The tensors of a network, from which gradients reach the shared ones."""
        found: dict[str, Tensor] = {"mean": self.mean, "deviation": self.deviation}
        for name, cut in plan.cuts.items():
            node, _, rest = name.partition(".")
            whole: Tensor = attrgetter(rest)(self.nodes[node])
            found[f"{NODES}{name}"] = self._part(node, whole, cut)
        return found

    def _part(self, node: str, whole: Tensor, cut: Cut) -> Tensor:
        """A slice; a smaller kernel through the layer's matrices, if it has some."""
        size = whole.shape[-1] if whole.ndim == 4 else 0
        if f"{node}_{size}" not in self.transforms:
            return take(whole, cut)
        part = take(whole, Cut((*cut.axes[:2], range(size), range(size))))
        while size > len(cut.axes[-1]):
            centre, key = part[:, :, 1:-1, 1:-1], f"{node}_{size}"
            part, size = centre, size - 2
            if key in self.transforms:
                part = (centre.flatten(2) @ self.transforms[key].T).view(centre.shape)
        return part

    @torch.no_grad()
    def _write_back(self, plan: _Plan, state: Mapping[str, Tensor]) -> None:
        """Update statistics that were not updated in place, because they are copies."""
        for name, cut in plan.cuts.items():
            node, _, rest = name.partition(".")
            if rest.startswith("running_") and not isinstance(cut.axes[0], range):
                places = torch.as_tensor(cut.axes[0], device=self.mean.device)
                getattr(self.nodes[node], rest).index_copy_(0, places, state[f"{NODES}{name}"])


def take(whole: Tensor, cut: Cut) -> Tensor:
    """The part of a tensor, as a view where it is one."""
    if cut.columns is not None:
        rows = torch.as_tensor(cut.axes[0], device=whole.device)[:, None]
        whole = whole[rows, torch.as_tensor(cut.columns, device=whole.device)]
    for axis, places in enumerate(cut.axes):
        if cut.columns is not None and axis < 2:
            continue
        if not isinstance(places, range):
            whole = whole.index_select(axis, torch.as_tensor(places, device=whole.device))
        elif len(places) != whole.shape[axis]:
            whole = whole.narrow(axis, places.start, len(places))
    return whole


def _transforms(elastic: Elastic) -> dict[str, nn.Parameter]:
    """The matrices of a depthwise kernel, by its layer and the size before."""
    found: dict[str, nn.Parameter] = {}
    for node in elastic.nodes.values():
        if node.op != "conv" or not 1 < node.attrs["groups"] == node.attrs["in"]:
            continue
        high, wide = kernel(node)
        for size in range(high, 3, -2) if high == wide else ():
            found[f"{node.name}_{size}"] = nn.Parameter(torch.eye((size - 2) ** 2))
    return found


def follow(
    network: Supernetwork | ElasticNetwork, space: Space, architecture: Architecture
) -> None:
    """Run an architecture's network from now on, in a network of choices or of shared tensors.

    Args:
        network: of the space.
        space: the space.
        architecture: one of its architectures.
    """
    if isinstance(network, ElasticNetwork):
        network.follow(architecture)
    else:
        network.follow(space.path(architecture))
