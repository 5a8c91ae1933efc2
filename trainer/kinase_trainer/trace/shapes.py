"""Functions and methods that change a tensor's shape, or take a part of it."""

from __future__ import annotations

from math import prod
from typing import Any

from kinase_trainer.trace.calls import named
from kinase_trainer.trace.values import BATCH, Flat, Grouped, Last, Parameter, Value
from kinase_trainer.trace.writer import Writer


def attribute(w: Writer, x: Any, name: str) -> Any:
    """The shape alone."""
    if name != "shape" or isinstance(x, Parameter):
        raise w.refused(f"of {name} is not an operation on a tensor")
    return (BATCH, *x.shape)


def size(w: Writer, x: Any, dim: int | None = None) -> Any:
    """As torch's."""
    shape = (BATCH, *x.shape)
    return shape if dim is None else shape[dim]


def dim(w: Writer, x: Any) -> int:
    """As torch's."""
    return 1 + len(x.shape)


def same(w: Writer, x: Any, *args: Any, **kwargs: Any) -> Any:
    """A function that does not change a tensor's values."""
    return x


def expand(w: Writer, x: Any, *sizes: Any) -> Any:
    """A parameter for every image."""
    if not isinstance(x, Parameter) or any(each != -1 for each in unpacked(sizes)[1:]):
        raise w.refused("is only understood of a parameter, along the batch")
    return x


def getitem(w: Writer, x: Any, index: Any) -> Any:
    """Some of a map's channels, or one token."""
    if isinstance(x, list | tuple):
        return x[index]
    whole = isinstance(index, tuple) and index[:1] == (slice(None),)
    rest = tuple(each for each in index[1:] if each != slice(None)) if whole else ()
    if not isinstance(x, Value) or len(rest) != 1 or rest[0] is not index[1]:
        raise w.refused("takes a part that a graph cannot; use all images, and channels or a token")
    if isinstance(rest[0], slice) and len(x.shape) != 2 and rest[0].step in (None, 1):
        start, stop, _ = rest[0].indices(x.shape[0])
        if stop > start:
            return w.add("slice", x, start=start, size=stop - start)
    if type(rest[0]) is int and rest[0] >= 0 and len(x.shape) == 2:
        return w.add("select", x, index=rest[0])
    raise w.refused(
        "takes a part that a graph cannot; use channels in a row, or one token, counted from 0"
    )


def chunk(w: Writer, x: Any, chunks: int, dim: int = 0) -> Any:
    """Equal parts of the channels."""
    return _parts(w, x, -(-_channels(w, x, dim) // chunks), dim)


def split(w: Writer, x: Any, sizes: Any, dim: int = 0) -> Any:
    """Parts of the channels of these sizes."""
    return _parts(w, x, sizes, dim)


def _channels(w: Writer, x: Any, dim: int) -> int:
    last = len(x.shape)
    axis = {3: (1, -3), 2: (2, -1), 1: (1, -1)}.get(last, ())
    if not isinstance(x, Value) or dim not in axis:
        raise w.refused(f"divides axis {dim}; use that of the channels")
    return x.shape[1] if last == 2 else x.shape[0]


def _parts(w: Writer, x: Any, sizes: Any, dim: int) -> list[Value]:
    total = _channels(w, x, dim)
    if isinstance(sizes, int):
        sizes = [min(sizes, total - start) for start in range(0, total, sizes)]
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    if sum(sizes) != total:
        raise w.refused(f"divides {total} channels into {sizes}")
    return [
        w.add("slice", x, f"_{index}", start=start, size=each)
        for index, (start, each) in enumerate(zip(starts, sizes, strict=True))
    ]


def flatten(w: Writer, x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """To a vector, or one half of the conversion to tokens."""
    end = end_dim if end_dim >= 0 else end_dim + 1 + len(x.shape)
    if isinstance(x, Last) and (start_dim, end) == (1, 2):
        return w.add("tokens", x.map)
    if isinstance(x, Value) and end == len(x.shape) and start_dim == 1:
        return w.add("flatten", x) if len(x.shape) > 1 else x
    if isinstance(x, Value) and end == len(x.shape) == 3 and start_dim == 2:
        return Flat(x)
    raise w.refused(f"flattens axes {start_dim} to {end_dim}; use 1 to -1")


def reshape(w: Writer, x: Any, *sizes: Any) -> Any:
    """To a vector, or one half of the conversion to tokens or of a shuffle, or no change."""
    first, *rest = unpacked(sizes)
    before = x.shape
    if rest.count(-1) == 1:
        known = prod(each for each in rest if each != -1)
        rest = [prod(before) // max(1, known) if each == -1 else each for each in rest]
    good = (first is BATCH or first == -1) and prod(rest) == prod(before)
    if good and tuple(rest) == before:
        return x
    if good and isinstance(x, Value):
        if len(rest) == 1:
            return w.add("flatten", x)
        if len(x.shape) == 3 and tuple(rest) == (x.shape[0], x.shape[1] * x.shape[2]):
            return Flat(x)
        if len(x.shape) == 3 and len(rest) == 4 and tuple(rest[2:]) == x.shape[1:]:
            return Grouped(x, rest[0], turned=False)
    if good and isinstance(x, Grouped) and tuple(rest) == x.map.shape:
        return w.add("shuffle", x.map, groups=x.groups) if x.turned else x.map
    raise w.refused(f"makes shape {tuple(rest)} of {before}; use a vector for each image")


def transpose(w: Writer, x: Any, *axes: Any) -> Any:
    """Channels to the last axis and back, or the other half of the conversion to tokens or of a
    shuffle."""
    order = [each % (1 + len(x.shape)) for each in unpacked(axes)]
    if _of_two(w.call.target):
        one, other = order
        order = list(range(1 + len(x.shape)))
        order[one], order[other] = other, one
    if isinstance(x, Flat) and order == [0, 2, 1]:
        return w.add("tokens", x.map)
    if isinstance(x, Value) and order == [0, 2, 3, 1]:
        return Last(x)
    if isinstance(x, Last) and order == [0, 3, 1, 2]:
        return x.map
    if isinstance(x, Grouped) and order == [0, 2, 1, 3, 4]:
        return Grouped(x.map, x.groups, not x.turned)
    raise w.refused(
        "moves axes in a way that a graph cannot; only channels to the last axis and back, a map's "
        "pixels to tokens, or the channels of groups in turns"
    )


def _of_two(target: Any) -> bool:
    """Whether a call names two axes instead of all."""
    return named(target) in ("transpose", "swapaxes", "swapdims")


def unpacked(sizes: tuple[Any, ...]) -> list[Any]:
    """Sizes given as separate arguments or as one sequence."""
    one = len(sizes) == 1 and isinstance(sizes[0], list | tuple)
    return list(sizes[0] if one else sizes)
