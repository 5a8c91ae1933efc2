"""Convert a map to the shape of another, so that they can be added or concatenated."""

from __future__ import annotations

from functools import lru_cache

from kinase.morphism.draft import Draft
from kinase.morphism.errors import MorphismError
from kinase.space.nodes import Shape


@lru_cache(maxsize=4096)
def stride_between(source: Shape, target: Shape) -> int | None:
    """The stride from one size of a map to another, or None."""
    for stride in range(1, max(source[1:]) + 1):
        if all(-(-a // stride) == b for a, b in zip(source[1:], target[1:], strict=True)):
            return stride
    return None


@lru_cache(maxsize=4096)
def fits(source: Shape, target: Shape) -> bool:
    """Whether `bring` can convert the shape."""
    if len(source) == len(target) == 3:
        return stride_between(source, target) is not None
    return source == target or (len(target) == 1 and len(source) in (1, 3))


def bring(draft: Draft, name: str, source: Shape, target: Shape, width: int) -> str:
    """The source at the target's size with `width` channels: unchanged if it fits, or through a 1x1
    convolution and a normalization, the mean of the map, or a linear layer."""
    if not fits(source, target):
        raise MorphismError(f"{name} has shape {source}, which cannot be brought to {target}")
    if len(target) == 3:
        stride = stride_between(source, target)
        assert stride is not None
        if stride == 1 and source[0] == width:
            return name
        conv = draft.conv("skip", name, source[0], width, 1, stride=stride)
        return draft.norm(conv, width, 1.0)
    if len(source) == 3:
        name = draft.add("mean", "global_avg_pool", (name,))
    if len(target) == 1 and source[0] != width:
        name = draft.linear("skip", name, source[0], width)
    return name
