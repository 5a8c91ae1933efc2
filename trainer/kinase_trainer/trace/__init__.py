"""A torch module as a graph of primitive operations, and where its tensors are in it.

`torch.fx` runs the module's `forward` with a symbol for the images and writes down what is called
(Reed et al. 2022), once in evaluation and once in training: `calls`. What was written down is read
with shapes instead of tensors, call by call (`reader`, `layers`, `functions`): so a reshape by the
map's own size is understood, and what has no place in our graphs is refused by the name of the
module that does it. What no call shows is looked for before (`parts`), and at the end module and
graph are run side by side (`compare`).
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
    """The graph of a module, which gives one number for each class.

    Args:
        module: in whatever mode; it is not changed. One without numbers, on the device meta, is
            read and not run.
        shape: of an image. A module whose first convolution takes another number of channels is
            traced with that.

    Raises:
        Untraceable: it is not a valid graph of ours.
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
