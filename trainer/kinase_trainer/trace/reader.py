"""Interprets the calls of a module with shapes instead of tensors, and writes the graph."""

from __future__ import annotations

import operator
from typing import Any

from torch import Tensor, fx, nn

from kinase.space import Graph, InfeasibleError, Node
from kinase_trainer.trace.calls import named
from kinase_trainer.trace.functions import FUNCTIONS, HINTS
from kinase_trainer.trace.layers import CHANNELS_LAST, LAYERS, kind, names
from kinase_trainer.trace.values import (
    Last,
    Parameter,
    Traced,
    Untraceable,
    Value,
    place,
    symbolic_in,
)
from kinase_trainer.trace.writer import Writer

LIBRARIES = ("torch", "torchvision", "_operator", "builtins", "math")
"""Modules whose functions are known by name."""


def read(module: nn.Module, shape: tuple[int, int, int], calls: list[fx.Node]) -> Traced:
    """The graph of a module's calls.

    Raises:
        Untraceable: a call has no counterpart in a graph, or no call uses a weight.
    """
    traced = _Reader(module, shape, calls).read()
    used = {source.key for source in traced.sources.values()}
    for key, _ in module.named_parameters():
        if key not in used:
            path, _, name = key.rpartition(".")
            raise Untraceable(
                f"{place(path, module.get_submodule(path))} has a {name} that nothing the network "
                "gives depends on; leave it out"
            )
    own, found = sum(each.numel() for each in module.parameters()), traced.graph.params()
    if own != found:
        raise Untraceable(f"{place('', module)} has {own:,} parameters and its graph has {found:,}")
    return traced


class _Reader:
    def __init__(
        self, module: nn.Module, shape: tuple[int, int, int], calls: list[fx.Node]
    ) -> None:
        self.module, self.shape, self.calls = module, shape, calls
        self.order = {call: index for index, call in enumerate(calls)}
        self.parameters = {name for name, _ in module.named_parameters()}
        self.called: set[str] = set()
        self.writer = Writer(module, shape)

    def read(self) -> Traced:
        """The graph, and the location of its tensors."""
        w = self.writer
        known: dict[fx.Node, Any] = {}
        for call in self.calls:
            w.call = call
            args = fx.map_arg(call.args, lambda each: known[each])
            kwargs = fx.map_arg(call.kwargs, lambda each: known[each])
            try:
                known[call] = self._read(call, args, kwargs)
            except Untraceable:
                raise
            except InfeasibleError as error:
                raise w.refused(f"{error}; use larger images (task.resolution)") from error
            except (ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
                raise w.refused(f"is called with invalid arguments ({error})") from error
        output = known[call]
        if not isinstance(output, Value) or len(output.shape) != 1:
            raise w.refused("must return one tensor with a number for each class")
        graph = _pooled(w.graph.build(output.name)).needed()
        kept = {node.name for node in graph}
        sources = {n: s for n, s in w.sources.items() if n.partition(".")[0] in kept}
        return Traced(graph, sources, {n: p for n, p in w.places.items() if n in kept})

    def _read(self, call: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        w = self.writer
        match call.op:
            case "placeholder":
                if self.called:
                    raise w.refused("takes more than the images")
                self.called.add("")
                return Value(w.graph.input, self.shape)
            case "get_attr":
                return self._attribute(str(call.target))
            case "output":
                return args[0]
        self._check_in_place(call)
        if call.op == "call_module":
            return self._layer(str(call.target), args, kwargs)
        return self._function(call, named(call.target), args, kwargs)

    def _attribute(self, key: str) -> Parameter:
        if key not in self.parameters:
            what = (
                "creates a tensor when it is called"
                if key.startswith("_tensor_constant")
                else f"uses {key}, which is not a parameter (a buffer, or a tensor)"
            )
            raise self.writer.refused(f"{what}; a graph has no constants")
        return Parameter(key, tuple(operator.attrgetter(key)(self.module).shape))

    def _check_in_place(self, call: fx.Node) -> None:
        """Check that a tensor is not read after it was changed in place."""
        if call.op == "call_module":
            layer = self.module.get_submodule(str(call.target))
            changes = bool(getattr(layer, "inplace", False))
        else:
            name = str(getattr(call.target, "__name__", call.target))
            changes = bool(call.kwargs.get("inplace")) or name in ("iadd", "imul")
            changes = changes or (name.endswith("_") and not name.startswith("_"))
        if not changes or not call.args or not isinstance(call.args[0], fx.Node):
            return
        for reader in call.args[0].users:
            if self.order[reader] > self.order[call]:
                raise self.writer.refused(
                    "changes in place what is read again after it, which a graph cannot; use "
                    "inplace=False, or x = x + y instead of x += y"
                )

    def _layer(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        w, layer = self.writer, self.module.get_submodule(path)
        if any(True for _ in layer.parameters()) and path in self.called:
            raise w.refused("is called twice; a graph has no layers that share weights")
        self.called.add(path)
        name = kind(layer)
        if name is None:
            raise w.refused(f"has no counterpart; use one of {names()}")
        if not args or not isinstance(args[0], Value | Last):
            raise w.refused("is called with something else than the output of a layer")
        if isinstance(args[0], Last) and name.rpartition(".")[2] not in CHANNELS_LAST:
            raise w.refused("is called with the channels on the last axis; move them back before")
        result = LAYERS[name](w, layer, path, *args, **kwargs)
        out = result[0] if isinstance(result, tuple) else result
        if isinstance(out, Value) and out.name == w.name:
            w.places[out.name] = path
        return result

    def _function(
        self, call: fx.Node, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        w = self.writer
        library = str(getattr(call.target, "__module__", None) or "torch").partition(".")[0]
        if library not in LIBRARIES:
            raise w.refused(f"is a function of {library}, which cannot be looked into")
        if name == "getitem" and isinstance(args[0], list | tuple):
            return args[0][args[1]]
        if not symbolic_in((args, kwargs)):  # numbers and shapes
            if name == "assert":
                return self._assert(*args)
            if callable(call.target):
                result = call.target(*args, **kwargs)
            else:  # a method, such as that of a shape
                result = getattr(args[0], call.target)(*args[1:], **kwargs)
            if isinstance(result, Tensor):
                raise w.refused("creates a tensor when it is called; use layers alone")
            return result
        method = FUNCTIONS.get(name)
        if method is None:
            hint = "has no counterpart in a graph; use layers, sums, products and torch.cat"
            raise w.refused(HINTS.get(name, hint))
        return method(w, *args, **kwargs)

    def _assert(self, condition: Any, message: str = "") -> None:
        if condition is False:
            raise self.writer.refused(f"does not hold: {message:.200}")


def _pooled(graph: Graph) -> Graph:
    """Replace each average to one pixel with a following flatten by a mean."""
    by_name = {node.name: node for node in graph}
    readers: dict[str, int] = {}
    for node in graph:
        for each in node.inputs:
            readers[each] = readers.get(each, 0) + 1
    nodes = []
    for node in graph:
        before = by_name[node.inputs[0]] if node.inputs else node
        one = (before.attrs.get("height"), before.attrs.get("width")) == (1, 1)
        pooled = before.op == "adaptive_avg_pool" and one and readers[before.name] == 1
        if node.op == "flatten" and pooled:
            node = Node(node.name, "global_avg_pool", before.inputs)
        nodes.append(node)
    return Graph(tuple(nodes), graph.output)
