"""Runs a module and its graph's network with the same weights on the same images: they must be the
same function, in evaluation and in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from kinase_trainer.network import Network
from kinase_trainer.trace.values import Source, Traced, Untraceable, place

TOLERANCE = 1e-7
"""Maximum difference of outputs, gradients and statistics in double precision, relative to the
largest value."""
FLOOR = 1e-3
"""Differences of gradients smaller than this share of the largest gradient are relative to that
share."""
IMAGES = 4
"""Number of random images in a batch."""
State = dict[str, Tensor]


class _Sure(TorchFunctionMode):
    """Disable random dropping."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (F.dropout, torch.dropout):
            return args[0] if args else kwargs["input"]
        if func is Tensor.bernoulli_:  # of DropPath and torchvision's stochastic_depth
            return args[0].fill_(args[1] if len(args) > 1 else kwargs.get("p", 0.5))
        return func(*args, **kwargs)


@dataclass
class _Run:
    """The result of a batch."""

    output: Tensor
    gradients: State = field(default_factory=dict)
    """Sums of each gradient along its axes, and its norm."""
    buffers: State = field(default_factory=dict)


def compare(module: nn.Module, traced: Traced) -> None:
    """Check that the graph has the same function and the same gradients as the module.

    Both run in double precision on random images, once in evaluation and once in training without
    dropping. The outputs, the gradients of every parameter, and all buffers afterwards must be
    equal within `TOLERANCE`. The module is left in training mode.

    Raises:
        Untraceable: they differ; the message names the first difference.
    """
    given = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    weights = {name: _double(tensor) for name, tensor in given.items()}
    first = traced.graph.nodes[0].attrs
    shape = [int(first[name]) for name in ("channels", "height", "width")]
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(IMAGES, *shape, generator=generator, dtype=torch.float64)
    images = images.to(next(iter(weights.values())).device if weights else "cpu")
    for training in (False, True):
        wanted = _of_module(module, traced, weights, images, training)
        found = _of_network(traced, weights, images, training)
        mode = "training" if training else "evaluation"
        _check_output(module, traced, weights, images, (wanted.output, found.output), mode)
        _check_buffers(module, traced, weights, wanted, found, mode)
        if training:
            _check_gradients(module, traced, wanted.gradients, found.gradients)


def _double(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor.double() if tensor.is_floating_point() else tensor.clone()


def _of_module(
    module: nn.Module, traced: Traced, weights: State, images: Tensor, training: bool
) -> _Run:
    module.train(training)
    parts: dict[str, list[tuple[str, Source]]] = {}
    for name, source in traced.sources.items():
        parts.setdefault(source.key, []).append((name, source))
    leaves = {name: weights[name].clone() for name, _ in module.named_buffers()}
    for key, _ in module.named_parameters():
        leaves[key] = weights[key].detach().requires_grad_()
    try:
        return _run(
            lambda x: functional_call(module, leaves, (x,)), leaves, parts, images, training
        )
    except Exception as error:  # raised by other packages' code
        raise Untraceable(
            f"{place('', module)} cannot be run on {IMAGES} random images of shape "
            f"{'x'.join(map(str, images.shape[1:]))}: {type(error).__name__}: {error!s:.300}"
        ) from error


def _network(traced: Traced, weights: Mapping[str, Tensor], images: Tensor) -> Network:
    state = traced.state(weights)
    own = {"mean": images.new_zeros(1, 1, 1, 1), "deviation": images.new_ones(1, 1, 1, 1)}
    with torch.device("meta"):  # draw nothing in vain
        network = Network(traced.graph)
    buffers = {name for name, _ in network.named_buffers()}
    state = {name: each.clone() if name in buffers else each for name, each in state.items()}
    network.load_state_dict({**own, **state}, assign=True)
    return network


def _of_network(traced: Traced, weights: State, images: Tensor, training: bool) -> _Run:
    network = _network(traced, weights, images).train(training)
    leaves: State = dict(network.named_parameters())
    parts = {key: [(key.removeprefix("nodes."), Source(key))] for key in leaves}
    run = _run(network, leaves, parts, images, training)
    run.buffers = {n.removeprefix("nodes."): b for n, b in network.named_buffers()}
    return run


def _run(
    call: Callable[[Tensor], Any],
    leaves: State,
    parts: Mapping[str, list[tuple[str, Source]]],
    images: Tensor,
    training: bool,
) -> _Run:
    with torch.set_grad_enabled(training), _Sure():
        run = _Run(call(images.clone()))
        run.buffers = leaves
        if not training:
            return run

        def keep(key: str) -> Callable[[Tensor], None]:
            def hook(leaf: Tensor) -> None:
                assert leaf.grad is not None
                for name, source in parts.get(key, ()):
                    run.gradients[name] = _sums(source.take({key: leaf.grad}))
                leaf.grad = None  # to limit the memory

            return hook

        for key, leaf in leaves.items():
            if leaf.requires_grad:
                leaf.register_post_accumulate_grad_hook(keep(key))  # type: ignore[no-untyped-call]
        generator = torch.Generator().manual_seed(1)
        direction = torch.randn(run.output.shape, generator=generator, dtype=torch.float64)
        (run.output * direction.to(run.output.device)).sum().backward()  # type: ignore[no-untyped-call]
    run.output = run.output.detach()
    return run


def _sums(gradient: Tensor) -> Tensor:
    table = gradient.reshape(len(gradient), -1) if gradient.ndim else gradient.reshape(1, 1)
    return torch.cat([table.sum(0), table.sum(1), table.norm().view(1)])


def _apart(found: Tensor, wanted: Tensor, least: float = 0.0) -> float:
    """The largest difference, relative to the largest number; infinite if it is NaN."""
    if found.shape != wanted.shape:
        return float("inf")
    if not wanted.numel():
        return 0.0
    found, wanted = found.double(), wanted.double()
    scale = max(float(wanted.abs().max()), least)
    difference = float((found - wanted).abs().max())
    if difference == 0.0:
        return 0.0
    ratio = difference / scale if scale else float("inf")
    return ratio if ratio == ratio else float("inf")


def _check_output(
    module: nn.Module,
    traced: Traced,
    weights: State,
    images: Tensor,
    outputs: tuple[Tensor, Tensor],
    mode: str,
) -> None:
    difference = _apart(outputs[1], outputs[0])
    if difference > TOLERANCE:
        where = _first_apart(module, traced, weights, images, mode == "training")
        raise Untraceable(
            f"{place('', module)}: its graph gives other outputs than it does in {mode}, by "
            f"{difference:.2e} of the largest{where}: it computes more than its layers "
            "do, such as a change in place (x += y) of what is read again; use layers alone"
        )


def _first_apart(
    module: nn.Module, traced: Traced, weights: State, images: Tensor, training: bool
) -> str:
    """The first layer whose output differs."""
    wanted, found = dict[str, Tensor](), dict[str, Tensor]()

    def keep(into: dict[str, Tensor], name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: Any, output: Any) -> None:
            into[name] = (output[0] if isinstance(output, tuple) else output).detach().clone()

        return hook

    network = _network(traced, weights, images).train(training)
    module.train(training)
    handles = []
    for name, path in traced.places.items():
        for each, into in ((module.get_submodule(path), wanted), (network.nodes[name], found)):
            handles.append(each.register_forward_hook(keep(into, name)))
    with torch.no_grad(), _Sure():
        functional_call(module, {n: t.clone() for n, t in weights.items()}, (images.clone(),))
        network(images.clone())
    for handle in handles:
        handle.remove()
    for name, path in traced.places.items():
        if _apart(found[name], wanted[name]) > TOLERANCE:
            return f", first at {place(path, module.get_submodule(path))}"
    return ""


def _check_buffers(
    module: nn.Module, traced: Traced, weights: State, wanted: _Run, found: _Run, mode: str
) -> None:
    ours = {
        source.key: found.buffers[name]
        for name, source in traced.sources.items()
        if name in found.buffers
    }
    for key, _ in module.named_buffers():
        after = ours.get(key, weights[key])
        if _apart(after, wanted.buffers[key], FLOOR) > TOLERANCE:
            path, _, name = key.rpartition(".")
            raise Untraceable(
                f"{place(path, module.get_submodule(path))} changes its {name} in {mode} in a way "
                "that a graph does not; only the moving statistics of batch normalization change"
            )


def _check_gradients(module: nn.Module, traced: Traced, wanted: State, found: State) -> None:
    largest = max((float(each.abs().max()) for each in wanted.values()), default=0.0)
    for name, source in traced.sources.items():
        if name not in found and name not in wanted:
            continue
        zero = torch.zeros_like((found | wanted)[name])
        one, other = found.get(name, zero), wanted.get(name, zero)
        difference = _apart(one, other, FLOOR * largest)
        if difference > TOLERANCE:
            path, _, tensor = source.key.rpartition(".")
            raise Untraceable(
                f"{place(path, module.get_submodule(path))}: the gradient of its {tensor} is "
                f"different in the graph, by {difference:.2e} of the largest: something other "
                "than layers changes gradients; use layers alone"
            )
