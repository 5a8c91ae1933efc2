"""Converts a torch module to a graph of primitive operations, with the location of its tensors.

`torch.fx` runs the module's `forward` with a symbol for the images and records the calls (Reed et
al. 2022), once in evaluation and once in training (`calls`). The recorded calls are interpreted
with shapes instead of tensors (`reader`, `layers`, `functions`): a reshape by the map's own size is
understood, and an operation without a counterpart in a graph is rejected, with the name of its
module. Properties that no call shows are checked before (`parts`), and at the end the outputs of
module and graph are compared (`compare`).
"""

from __future__ import annotations

from torch import nn

from kinase_trainer.trace.calls import write_down
from kinase_trainer.trace.compare import TOLERANCE, compare
from kinase_trainer.trace.layers import is_layer
from kinase_trainer.trace.parts import check_parts, untouched
from kinase_trainer.trace.reader import read
from kinase_trainer.trace.values import Source, Traced, Untraceable

__all__ = ["TOLERANCE", "Source", "Traced", "Untraceable", "trace"]


def trace(module: nn.Module, shape: tuple[int, int, int]) -> Traced:
    """Trace a module that returns one number for each class.

    Args:
        module: module in any mode; it is not changed. A module on the device meta is traced but not
            run.
        shape: shape of an image. If the module's first convolution has another number of channels,
            that number is used.

    Raises:
        Untraceable: the module cannot be converted to a valid graph.
    """
    with untouched(module):
        check_parts(module)
        calls = write_down(module, is_layer)
        first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
        channels = shape[0] if first is None else first.in_channels
        traced = read(module, (channels, *shape[1:]), calls)
        if not any(each.is_meta for each in module.parameters()):
            compare(module, traced)
    return traced
