"""Requirements for a module that its calls do not show, and that a search would silently change."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kinase_trainer.trace.values import Untraceable, place

TYPES = (torch.float32, torch.float64)
"""Types of weights. They are trained in float32."""
HOOKS = {
    "_forward_pre_hooks": "a hook before its forward",
    "_forward_hooks": "a hook after its forward",
    "_backward_pre_hooks": "a hook before its backward",
    "_backward_hooks": "a hook after its backward",
}
TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Restore a module and the random generators afterwards."""
    parts = list(module.modules())
    attributes = [dict(part.__dict__) for part in parts]
    held = [
        (each, dict(each))
        for part in parts
        for each in (part._parameters, part._buffers, part._modules)
    ]
    buffers = [(each, each.detach().clone()) for each in module.buffers()]
    state, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(state)
        np.random.set_state(arrays)
        for part, own in zip(parts, attributes, strict=True):
            part.__dict__.clear()
            part.__dict__.update(own)
        for now, before in held:
            now.clear()
            now.update(before)  # type: ignore[arg-type]
        with torch.no_grad():
            for buffer, content in buffers:
                buffer.copy_(content)


def check_parts(module: nn.Module) -> None:
    """Reject properties that a graph's network does not have.

    Raises:
        Untraceable: weights are frozen, shared, or of another precision; there are hooks or
            parametrizations; or a part stays in evaluation or in training mode.
    """
    for path, part in module.named_modules():
        where = place(path, part)
        if isinstance(part, torch.jit.ScriptModule):
            raise Untraceable(f"{where} is TorchScript, which cannot be traced; use its source")
        if parametrize.is_parametrized(part):
            names = ", ".join(sorted(part.parametrizations))
            raise Untraceable(
                f"{where} has a parametrization of {names}; a graph has plain weights: remove it "
                "(torch.nn.utils.parametrize.remove_parametrizations)"
            )
        for name, what in HOOKS.items():
            for hook in getattr(part, name).values():
                raise Untraceable(
                    f"{where} has {what}, {_name(hook)}, which a graph would leave out; remove it "
                    "(spectral_norm, weight_norm and pruning of torch.nn.utils are such hooks)"
                )
        for name, tensor in part._parameters.items():
            if tensor is not None:
                _check_parameter(f"{path}.{name}".lstrip("."), part, tensor)
    _check_shared(module)
    _check_modes(module)


def _name(hook: object) -> str:
    return str(getattr(hook, "__qualname__", type(hook).__name__))


def _check_parameter(name: str, part: nn.Module, tensor: Tensor) -> None:
    where = f"{name} of {type(part).__name__}"
    if isinstance(tensor, nn.UninitializedParameter):
        raise Untraceable(f"{where} has no shape yet; run the network once on a batch of images")
    if not tensor.requires_grad:
        raise Untraceable(
            f"{where} is frozen (requires_grad is False), and a search trains every weight; "
            "call requires_grad_(True), or leave the layer out"
        )
    if tensor.dtype not in TYPES:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise Untraceable(f"{where} is {kind}, and weights are trained in float32; call float()")
    if any(getattr(tensor, hooks, None) for hooks in TENSOR_HOOKS):
        raise Untraceable(f"{where} has a hook of its gradient, which a graph would leave out")


def _check_shared(module: nn.Module) -> None:
    """Check that no two weights share memory."""
    known: dict[int, str] = {}
    spans: list[tuple[int, int, int, str]] = []
    for path, part in module.named_modules():
        for name, tensor in part._parameters.items():
            if tensor is None:
                continue
            key = f"{path}.{name}".lstrip(".")
            if id(tensor) in known:
                raise _shared(key, known[id(tensor)])
            known[id(tensor)] = key
            if not tensor.is_meta and tensor.numel():
                step = tensor.element_size()
                last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
                start = tensor.data_ptr()
                device = -1 if tensor.device.index is None else tensor.device.index
                spans.append((device, start, start + (last + 1) * step, key))
    spans.sort()
    for one, other in pairwise(spans):
        if one[0] == other[0] and other[1] < one[2]:
            raise _shared(*sorted((one[3], other[3]), key=list(known.values()).index, reverse=True))


def _shared(key: str, first: str) -> Untraceable:
    return Untraceable(
        f"{key} is {first}: two layers with one weight, and a graph has no layers that share "
        "weights; give each its own"
    )


def _check_modes(module: nn.Module) -> None:
    """Check that all parts are in the same mode, and follow `train` and `eval`."""
    given = module.training
    for path, part in module.named_modules():
        if given and not part.training:
            raise Untraceable(
                f"{place(path, part)} is kept in evaluation while the network is in training; a "
                "search trains all parts alike: call train() on it, or leave it out"
            )
    for mode, wanted in ((True, "training"), (False, "evaluation")):
        module.train(mode)
        other = "evaluation" if mode else "training"
        for path, part in module.named_modules():
            if part.training is not mode:
                raise Untraceable(
                    f"{place(path, part)} is kept in {other} while the network is in {wanted} "
                    f"(after its train({mode})); a graph has no such layers: leave its mode alone"
                )
