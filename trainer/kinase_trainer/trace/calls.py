"""The calls of a module, recorded by `torch.fx` in evaluation and in training."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from kinase_trainer.trace.parts import untouched
from kinase_trainer.trace.values import Untraceable, place

IN_PLACE = {"iadd": "add", "imul": "mul", "isub": "sub", "itruediv": "truediv"}
DROPS = {
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d"), 2),
    **dict.fromkeys(("alpha_dropout", "feature_alpha_dropout", "feature_dropout"), 2),
    "stochastic_depth": 3,
    "batch_norm": 5,
}
"""Functions with an argument for the training mode, and its position."""
FLAGS = ("training", "train")
"""Names of this argument."""


def named(target: Any) -> str:
    """Common name of all forms of a function or method."""
    name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    name = name.strip("_")
    return IN_PLACE.get(name, name)


def in_training(call: fx.Node) -> bool:
    """A function's argument for the mode."""
    at = DROPS[named(call.target)]
    for name in FLAGS:
        if name in call.kwargs:
            return bool(call.kwargs[name])
    return bool(call.args[at]) if len(call.args) > at else True


def where_of(call: fx.Node, module: nn.Module) -> str:
    """The part of a module that makes a call, for people."""
    if call.op == "call_module":
        return place(str(call.target), module.get_submodule(str(call.target)))
    stack = list(call.meta.get("nn_module_stack", {}).values())
    path = str(stack[-1][0]) if stack else ""
    where = place(path, module.get_submodule(path))
    return f"{where}: {named(call.target)}" if call.op.startswith("call_") else where


def write_down(module: nn.Module, is_layer: Callable[[nn.Module], bool]) -> list[fx.Node]:
    """The calls of a module's forward, which must be the same in evaluation and in training.

    The call in training is in ``meta["training"]``.

    Args:
        module: the module, which is left in evaluation mode.
        is_layer: whether a module is a node, whose calls are not traced.

    Raises:
        Untraceable: the calls cannot be recorded, or differ in training.
    """
    module.train()
    training = _symbolic(module, is_layer, True)
    module.eval()
    evaluation = _symbolic(module, is_layer, False)
    for one, other in zip_longest(evaluation, training):
        if one is None or other is None or _text(one) != _text(other):
            raise _differ(module, one, other)
        one.meta["training"] = other
    return evaluation


def _text(call: fx.Node) -> tuple[Any, ...]:
    """A call without its argument for the mode."""
    args = call.args
    kwargs = {name: value for name, value in call.kwargs.items() if name not in FLAGS}
    if call.op == "call_function" and named(call.target) in DROPS:
        at = DROPS[named(call.target)]
        args = args[:at] + args[at + 1 :]
    return (call.op, call.target, repr(args), repr(kwargs))


def _differ(module: nn.Module, evaluation: fx.Node | None, training: fx.Node | None) -> Untraceable:
    call = training or evaluation
    assert call is not None
    where, _, _ = where_of(call, module).partition(": ")
    does = [
        f"in {mode} it {'returns' if each.op == 'output' else f'calls {named(each.target)}'}"
        for mode, each in (("evaluation", evaluation), ("training", training))
        if each is not None
    ]
    return Untraceable(
        f"{where} does something else in training than in evaluation: {', '.join(does)}. Only "
        "Dropout, StochasticDepth and batch normalization may; leave branches on self.training out"
    )


def _symbolic(
    module: nn.Module, is_layer: Callable[[nn.Module], bool], training: bool
) -> list[fx.Node]:
    tracer = _Tracer(is_layer, training)
    try:
        with untouched(module), torch.enable_grad():
            before, drawn = _state(module), _generators()
            calls = list(tracer.trace(module).nodes)
            if _generators() != drawn:
                raise _draws("", module)
            _check_state(module, before)
    except Untraceable:
        raise
    except Exception as error:  # forward can raise anything for a symbol
        path, part = tracer.path[-1] if tracer.path else ("", module)
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise Untraceable(
            f"{place(path, part)} cannot be traced: {reason:.300}. Its forward must do the same "
            "for every batch: no branches or loops that depend on what a tensor holds or on how "
            "many images there are, no changes of tensors by index, or of buffers"
        ) from error
    return calls


def _state(module: nn.Module) -> list[dict[str, Any]]:
    """Data of each part in addition to weights: buffers, numbers and texts."""
    kinds = (bool, int, float, str)
    return [
        {**{n: v for n, v in part.__dict__.items() if type(v) in kinds}, **part._buffers}
        for part in module.modules()
    ]


def _check_state(module: nn.Module, before: list[dict[str, Any]]) -> None:
    after = _state(module)
    for (path, part), own, now in zip(module.named_modules(), before, after, strict=True):
        for name, value in own.items():
            new = now.get(name)
            if new is value or (not isinstance(value, torch.Tensor) and new == value):
                continue
            raise Untraceable(
                f"{place(path, part)} changes its {name} when it is called; it must do the same "
                "each time, and only batch normalization keeps statistics"
            )


def _generators() -> tuple[Any, ...]:
    """The states of the generators of Python and NumPy."""
    arrays: Any = np.random.get_state()
    drawn = (arrays[1].tobytes(), *arrays[2:])
    return (random.getstate(), drawn, torch.get_rng_state().numpy().tobytes())


def _draws(path: str, part: nn.Module) -> Untraceable:
    return Untraceable(
        f"{place(path, part)} draws random numbers when it is called; use Dropout or "
        "StochasticDepth"
    )


class _Tracer(fx.Tracer):
    """Tracer that enters every module that is not a node, and tracks its path."""

    proxy_buffer_attributes = True

    def __init__(self, is_layer: Callable[[nn.Module], bool], training: bool) -> None:
        super().__init__()
        self.is_layer, self.training = is_layer, training
        self.path: list[tuple[str, nn.Module]] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is a node, or an unsupported module of torch."""
        if type(m).__module__.startswith("torch.nn") and "forward" in m.__dict__:
            return False
        return self.is_layer(m) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Track the path of the current module; it is kept after an error."""
        self.path.append((self.path_of_module(m), m))
        drawn = _generators()
        result = super().call_module(m, forward, args, kwargs)
        if _generators() != drawn:
            raise _draws(*self.path[-1])
        self.path.pop()
        return result

    def create_node(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """Reject contexts that do not appear as calls: no_grad and autocast."""
        if kind.startswith("call_"):
            path, part = self.path[-1] if self.path else ("", self.root)
            where = f"{place(path, part)}: {named(target)} is called"
            if self.training and not torch.is_grad_enabled():
                raise Untraceable(
                    f"{where} where no gradients are kept (torch.no_grad, torch.inference_mode, "
                    "or a custom autograd.Function); a graph trains every layer"
                )
            if any(torch.is_autocast_enabled(each) for each in ("cpu", "cuda")):
                raise Untraceable(
                    f"{where} within torch.autocast; the precision is spec.training's to say"
                )
        return super().create_node(kind, target, *args, **kwargs)
