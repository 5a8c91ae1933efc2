"""Names and shapes of the tensors of a graph's network."""

from __future__ import annotations

from kinase.space.graph import Graph
from kinase.space.nodes import Node, Shape

WEIGHTED = frozenset(
    {
        "conv",
        "linear",
        "batch_norm",
        "group_norm",
        "layer_norm",
        "layer_scale",
        "attention",
        "class_token",
        "position",
        "mix",
    }
)
"""Operations that have tensors."""


REAL = ("eps", "momentum")
"""Their numbers that are not integers, and do not affect the shapes of their tensors."""


def tensors(graph: Graph) -> dict[str, Shape]:
    """``node.tensor`` -> shape, for parameters and buffers of all nodes. A network only has those
    of the needed nodes (`Graph.needed`)."""
    return {
        f"{node.name}.{name}": shape
        for node in graph
        if node.op in WEIGHTED
        for name, shape in _of(node).items()
    }


def _of(node: Node) -> dict[str, Shape]:
    a = {name: int(value) for name, value in node.attrs.items() if name not in REAL}
    match node.op:
        case "conv":
            weight = (a["out"], a["in"] // a["groups"], *kernel(node))
            return {"weight": weight} | ({"bias": (a["out"],)} if a["bias"] else {})
        case "linear":
            bias: dict[str, Shape] = {"bias": (a["out"],)} if a.get("bias", 1) else {}
            return {"weight": (a["out"], a["in"]), **bias}
        case "batch_norm":
            each = (a["channels"],)
            affine = ("weight", "bias") if a["affine"] else ()
            names = (*affine, "running_mean", "running_var")
            return {**dict.fromkeys(names, each), "num_batches_tracked": ()}
        case "group_norm":
            return dict.fromkeys(("weight", "bias") if a["affine"] else (), (a["channels"],))
        case "layer_norm":
            return {"weight": (a["dim"],), "bias": (a["dim"],)}
        case "layer_scale":
            return {"scale": (a["channels"],)}
        case "attention":
            inner, dim = a["heads"] * a["head_dim"], a["dim"]
            shapes: dict[str, Shape] = {}
            for part in ("query", "key", "value"):
                shapes |= {f"{part}.weight": (inner, dim), f"{part}.bias": (inner,)}
            return shapes | {"output.weight": (dim, inner), "output.bias": (dim,)}
        case "class_token":
            return {"token": (1, 1, a["dim"])}
        case "position":
            return {"embedding": (1, a["tokens"], a["dim"])}
        case _:  # mix
            return {"share": (1,)}


def kernel(node: Node) -> tuple[int, int]:
    """(height, width) of a convolution's window."""
    a = node.attrs
    return int(a.get("kernel_h", a["kernel"])), int(a.get("kernel_w", a["kernel"]))


def padding(node: Node) -> tuple[int, int]:
    """(rows, columns) of zero padding on each side."""
    a = node.attrs
    return int(a.get("padding_h", a["padding"])), int(a.get("padding_w", a["padding"]))


def stride(node: Node) -> tuple[int, int]:
    """Strides (rows, columns)."""
    a = node.attrs
    return int(a.get("stride_h", a["stride"])), int(a.get("stride_w", a["stride"]))
