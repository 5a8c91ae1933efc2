"""An order of a network's channels, the most important first, that does not change its function."""

from __future__ import annotations

import numpy as np

from kinase.morphism.carry import rewrite, strata
from kinase.morphism.channels import Blocks, Channels, Layout
from kinase.morphism.draft import Draft
from kinase.morphism.elastic import part_of, whole
from kinase.morphism.plan import Ints, Norms, Reals
from kinase.morphism.widen import sources
from kinase.space.elastic import Cut
from kinase.space.graph import Graph


def sorted_channels(graph: Graph, norms: Norms) -> dict[str, Cut]:
    """Where each tensor's entries come from when channels are sorted by the absolute weights with
    which the layers after them read them (Cai et al. 2020, section 3.3, "Elastic Width"; its code).

    Channels that are tied move alike. Those that cannot change places, such as those of groups or
    of a map that is cut, stay.

    Args:
        graph: the network.
        norms: norms of its tensors.

    Returns:
        ``node.tensor`` -> the indices of its entries, of the tensors that change.
    """
    graph = graph.needed()
    draft, channels = Draft(graph), Channels(graph)
    instead = _instead(graph, draft, channels, _importance(graph, channels, norms))
    layouts = {node.name: _layout(channels.of(node.name), instead) for node in graph}
    rewrite(draft, layouts, "prune")
    entries = whole(graph)
    return {name: part_of(entries, recipe) for name, recipe in draft.plan.items()}


def _importance(graph: Graph, channels: Channels, norms: Norms) -> Reals:
    """Of each class of channels."""
    found = np.zeros(channels.number)
    for node in graph:
        dense = node.op == "linear" or (node.op == "conv" and node.attrs["groups"] == 1)
        if dense:
            blocks = channels.of(node.inputs[0])
            starts = np.cumsum(blocks.sizes) - blocks.sizes
            each = np.add.reduceat(norms(f"{node.name}.weight", 1), starts)
            np.add.at(found, blocks.classes, each)
    return found


def _instead(graph: Graph, draft: Draft, channels: Channels, importance: Reals) -> Ints:
    """The class that takes the place of each class."""
    found = np.arange(channels.number)
    done: set[int] = set()
    cuts = [set(channels.of(n.name).classes.tolist()) for n in graph if n.op == "slice"]
    for node in sorted(sources(graph), key=lambda node: int(node.attrs["out"])):
        classes = channels.of(node.name).classes
        mine = set(classes.tolist())
        cut = any(mine & part and not mine <= part for part in cuts)
        if cut or mine & done or strata(draft, channels, node.name) > 1:
            continue
        done |= mine
        found[classes] = classes[np.argsort(-importance[classes], kind="stable")]
    return found


def _layout(blocks: Blocks, instead: Ints) -> Layout:
    """A node's channels in their new order. Of a class that occurs several times, the occurrences
    keep theirs."""
    at: dict[int, list[int]] = {}
    for place, each in enumerate(blocks.classes.tolist()):
        at.setdefault(each, []).append(place)
    count: dict[int, int] = {}
    order = []
    for each in blocks.classes.tolist():
        number = count.get(each, 0)
        count[each] = number + 1
        order.append(at[int(instead[each])][number])
    starts = np.cumsum(blocks.sizes) - blocks.sizes
    indices = np.concatenate(
        [np.arange(starts[place], starts[place] + blocks.sizes[place]) for place in order]
    )
    width = len(indices)
    changed = not np.array_equal(indices, np.arange(width))
    return Layout(indices, np.zeros(width, np.bool_), np.ones(width), changed)
