"""The time that inheritance takes, for networks of 1, 25 and 100 million parameters.

    python -m bench.morphism [--device cuda] [--repeat 5] [--sizes 1 25 100] [--threads 2]

The parent is a residual network of 3x3 convolutions; its state and the momentum of its optimizer
are on the device. Each morphism is applied alone, and then five of them in a chain, as one child of
hill climbing gets. What is timed is `inherit`: the checks of the parent, the edit, its plan, the
tensors, the slots. Loading a file and building the child's module are not in it. On another device
each child is compared with the one that the CPU makes, bit for bit.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from kinase.morphism import load_chain, tensors
from kinase.space import Graph, GraphBuilder
from kinase_trainer.morphism import inherit

WIDTHS = {1: 14, 25: 69, 100: 139}
"""Millions of parameters -> channels of the first stage."""
BLOCKS = (3, 4, 6, 3)
"""Residual blocks of each stage."""
MORPHISMS: dict[str, dict[str, Any]] = {
    "widen, replicate": {"op": "widen", "node": "s1_0_conv1"},
    "widen, a residual stage": {"op": "widen", "node": "s1_0_conv2"},
    "widen, zero": {"op": "widen", "node": "s1_0_conv1", "rule": "zero"},
    "deepen": {"op": "deepen", "node": "s2_1_out"},
    "kernel": {"op": "kernel", "node": "s1_1_conv1", "to": 5},
    "factor, 1x1 and 3x3": {"op": "factor", "node": "s2_1_conv1", "first": 1},
    "factor, 2x2 and 2x2": {"op": "factor", "node": "s2_1_conv1", "first": 2},
    "skip": {"op": "skip", "source": "s1_0_out", "node": "s2_0_out"},
    "branch": {"op": "branch", "node": "s2_1_out"},
    "path": {"op": "path", "node": "s2_1_conv1"},
    "prune": {"op": "prune", "node": "s2_1_conv1"},
    "separate": {"op": "separate", "node": "s1_1_conv1"},
}


def network(width: int) -> Graph:
    """A residual network whose stages double in width."""
    g = GraphBuilder((3, 32, 32))
    x = g.relu("stem_relu", g.batch_norm("stem_bn", g.conv("stem", g.input, width, 3)))
    for stage, blocks in enumerate(BLOCKS):
        out = width * 2**stage
        for block in range(blocks):
            name, stride = f"s{stage}_{block}", 2 if stage and not block else 1
            y = g.batch_norm(f"{name}_bn1", g.conv(f"{name}_conv1", x, out, 3, stride))
            y = g.conv(f"{name}_conv2", g.relu(f"{name}_relu", y), out, 3)
            y = g.batch_norm(f"{name}_bn2", y)
            if g.shape(x) != g.shape(y):
                x = g.batch_norm(f"{name}_bn0", g.conv(f"{name}_conv0", x, out, 1, stride))
            x = g.relu(f"{name}_out", g.add(f"{name}_add", [x, y]))
    return g.build(g.linear("classifier", g.global_avg_pool("pool", x), 10))


def state_of(graph: Graph, device: torch.device) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        f"nodes.{name}": torch.rand(shape, generator=generator).to(device)
        if shape
        else torch.zeros((), dtype=torch.int64, device=device)
        for name, shape in tensors(graph).items()
    }


def whole(graph: Graph, fields: dict[str, Any]) -> dict[str, Any]:
    """A morphism with its new width: a quarter more, or half of it."""
    [node] = [n for n in graph if n.name == fields["node"]]
    out = int(node.attrs.get("out", 0))
    match fields["op"]:
        case "widen":
            return {**fields, "to": out + out // 4}
        case "prune":
            return {**fields, "to": out // 2}
        case _:
            return fields


def seconds(action: Any, device: torch.device, repeat: int) -> tuple[float, float, float]:
    """Median and largest time of an action, and the median of the CPU's time for it, after one that
    is not counted."""
    times, busy = [], []
    for _ in range(repeat + 1):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start, before = time.perf_counter(), time.process_time()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
        busy.append(time.process_time() - before)
    return statistics.median(times[1:]), max(times[1:]), statistics.median(busy[1:])


def check(graph: Graph, state: dict[str, torch.Tensor], chain: Any) -> None:
    """The child that a device makes has the bits of the one that the CPU makes."""
    there = inherit(graph, state, chain).state
    here = inherit(graph, {name: tensor.cpu() for name, tensor in state.items()}, chain).state
    for name, tensor in here.items():
        assert torch.equal(there[name].cpu(), tensor), f"{name} differs from the CPU's"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(WIDTHS), choices=WIDTHS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for size in arguments.sizes:
        graph = network(WIDTHS[size])
        state = state_of(graph, device)
        slots = {
            key: {"momentum_buffer": tensor}
            for key, tensor in state.items()
            if key.endswith(("weight", "bias"))
        }
        print(f"\n{graph.params():,} parameters, {len(graph.nodes)} nodes")
        rows: dict[str, list[dict[str, Any]]] = {n: [m] for n, m in MORPHISMS.items()}
        rows["none: the checks alone"] = []
        rows["five in a chain"] = [
            MORPHISMS[n] for n in ("deepen", "widen, replicate", "skip", "branch", "kernel")
        ]
        for label, fields in rows.items():
            chain = load_chain([whole(graph, each) for each in fields])
            median, most, busy = seconds(
                lambda chain=chain: inherit(graph, state, chain, slots=slots),  # noqa: B023
                device,
                arguments.repeat,
            )
            if device.type != "cpu":
                check(graph, state, chain)
            print(
                f"{label:<26} {median * 1000:9.1f} ms, at most {most * 1000:9.1f} ms, "
                f"on the CPU {busy * 1000:9.1f} ms",
                flush=True,
            )


if __name__ == "__main__":
    main()
