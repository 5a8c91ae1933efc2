"""The memory of a supernet's step: what is saved for the backward pass.

    python -m bench.supernet_memory

Saved tensors are counted by torch's hooks, each storage once and no parameter, for one forward
pass in training of the network for CIFAR-10 of Liu et al. 2019 (8 cells, 16 filters): the same
numbers on every device. The sum over operations and edges is measured apart: every option of every
edge by itself, on a map of its input's shape. What a step of the second order, the optimizers and
the weights take comes on top, for all alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kinase.api.fidelity import Scale
from kinase.api.space import CellSpace
from kinase.space import Frame, derive_rng
from kinase.space.cell import Cell
from kinase.space.supernet import NONE, Supernet
from kinase.space.supernet_costs import option_nodes
from kinase_trainer.network import Network
from kinase_trainer.supernet.darts import Darts
from kinase_trainer.supernet.gdas import Gdas
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.pc_darts import PcDarts
from kinase_trainer.supernet.proxyless import Proxyless

SPACE = Cell(CellSpace(preset="darts"))
MIB = 2**20


def saved(module: nn.Module, run: Callable[[], Any]) -> int:
    """Bytes that are saved for the backward pass while `run` runs."""
    parameters = {p.untyped_storage().data_ptr() for p in module.parameters()}
    found: dict[int, int] = {}
    kept: list[Tensor] = []  # so that no storage is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            found[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run()
    assert output is not None
    return sum(found.values())


def alone(network: Supernetwork, batch: int) -> int:
    """The sum over all options of all edges of what each saves by itself."""
    supernet = network.supernet
    graph, shapes = {n.name: n for n in supernet.graph}, supernet.graph.shapes()
    options = {choice.node: choice.options for choice in supernet.choices}
    total = 0
    for (edge, number), own in option_nodes(supernet).items():
        if options[edge][number] == NONE and not own:
            continue
        weight = torch.ones((), requires_grad=True)
        start = graph[edge].inputs[number]

        def run(own: list[str] = own, start: str = start, weight: Tensor = weight) -> Tensor:
            maps: dict[str, Tensor] = {}

            def value(name: str) -> Tensor:
                if name not in maps and name in own:
                    inputs = [value(each) for each in graph[name].inputs]
                    maps[name] = network.nodes[name](*inputs)
                elif name not in maps:
                    maps[name] = torch.rand(batch, *shapes[name], requires_grad=True)
                return maps[name]

            return weight * value(start)

        total += saved(network, run)
    return total


def fixed(network: Supernetwork, images: Tensor) -> int:
    """What the rest saves: with no option but none."""
    network.run_some({g: (o.index(NONE),) for g, o in network.supernet.groups.items()})
    return saved(network, lambda: network(images))


def supernet_of(frame: Frame) -> Supernet:
    """The supernet of the space."""
    found = SPACE.supernet(frame)
    assert found is not None
    return found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--side", type=int, default=32)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    frame = Frame(
        (3, arguments.side, arguments.side), 10, Scale(cells=8, filters=16), searching=True
    )
    images = torch.rand(arguments.batch, *frame.input)
    generator = torch.Generator().manual_seed(0)
    plain = Supernetwork(supernet_of(frame)).train()
    partial = Supernetwork(supernet_of(replace(frame, partial=4))).train()
    found: dict[str, int] = {}

    def measure(name: str, network: Supernetwork, set_up: Callable[[], None]) -> None:
        set_up()
        found[name] = saved(network, lambda: network(images)) // arguments.batch

    darts = Darts(plain.supernet, generator)
    measure("DARTS, all options", plain, lambda: darts.choose(plain, generator))
    pc = PcDarts(partial.supernet, generator)
    measure("PC-DARTS, a quarter of the channels", partial, lambda: pc.choose(partial, generator))
    gdas = Gdas(plain.supernet, generator)
    measure("GDAS, one option with its weight", plain, lambda: gdas.choose(plain, generator))
    proxyless = Proxyless(plain.supernet, generator)
    measure(
        "ProxylessNAS, a step of the choices: two options",
        plain,
        lambda: proxyless.explore(plain, generator),
    )
    measure(
        "ProxylessNAS, a step of the weights: one option of every edge",
        plain,
        lambda: proxyless.choose(plain, generator),
    )
    networks = []
    for draw in range(10):
        network = Network(SPACE.graph(SPACE.sample(derive_rng(0, draw)), frame)).train()
        networks.append(saved(network, lambda network=network: network(images)))  # type: ignore[misc]
    found["a network of the space, mean of 10"] = sum(networks) // 10 // arguments.batch
    parts = alone(plain, arguments.batch) // arguments.batch
    rest = fixed(plain, images) // arguments.batch
    whole = found["DARTS, all options"]
    print("| a step of | MiB a sample | share of DARTS |\n| --- | --- | --- |")
    for name, size in found.items():
        print(f"| {name} | {size / MIB:.2f} | {size / whole:.3f} |")
    print(
        f"\nsum over operations and edges: {parts / MIB:.2f} MiB, the rest {rest / MIB:.2f} MiB, "
        f"together {(parts + rest) / MIB:.2f} MiB; measured / sum {whole / (parts + rest):.3f}"
    )


if __name__ == "__main__":
    main()
