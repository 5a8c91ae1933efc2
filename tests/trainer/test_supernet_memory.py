"""A supernet's size is known before it is built."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import pytest

from kinase.api.fidelity import Scale
from kinase.api.space import CellSpace
from kinase.api.task import Training
from kinase.space import Frame, Graph, GraphBuilder
from kinase.space.cell import Cell
from kinase.space.tensors import tensors
from kinase_trainer.errors import ConfigError
from kinase_trainer.supernet.memory import bytes_available, bytes_needed, check_memory, maps_of
from kinase_trainer.supernet.network import Supernetwork


def training(**fields: Any) -> Training:
    """Settings with a batch of ten."""
    return Training.model_validate({"batchSize": 10, **fields})


def graph() -> Graph:
    """Maps of 3x4x4, 5x4x4 (three times), 5 and 2 numbers."""
    g = GraphBuilder((3, 4, 4))
    x = g.relu("relu", g.batch_norm("bn", g.conv("conv", g.input, 5, 3)))
    return g.build(g.linear("classifier", g.global_avg_pool("pool", x), 2))


def test_the_weights_are_those_of_the_network_that_is_built() -> None:
    supernet = Cell(CellSpace(preset="nasbench201")).supernet(
        Frame((3, 8, 8), 10, Scale(cells=3, filters=4), searching=True)
    )
    assert supernet is not None
    state = Supernetwork(supernet).state_dict()
    held = sum(t.numel() for name, t in state.items() if name.startswith("nodes."))
    found = bytes_needed(tensors(supernet.graph), 0, training())
    assert found == held * 4 * 3, "weights, gradients and one momentum"


def test_what_the_backward_pass_needs() -> None:
    # the image, the maps before the normalization and the activation; the mean before the last
    assert maps_of(graph()) == 3 * 16 + 2 * 5 * 16 + 5


@pytest.mark.parametrize(
    ("fields", "copies", "times", "width"),
    [
        ({}, 0, 3, 4),
        ({"optimizer": {"type": "AdamW", "adamw": {}}}, 0, 4, 4),
        ({}, 1, 4, 4),
        ({"precision": "bfloat16"}, 0, 3, 2),
    ],
)
def test_optimizer_copies_and_precision_count(
    fields: dict[str, Any], copies: int, times: int, width: int
) -> None:
    shapes, maps = tensors(graph()), maps_of(graph())
    weights = sum(prod(shape) for shape in shapes.values())
    found = bytes_needed(shapes, maps, training(**fields), copies=copies)
    assert found == weights * 4 * times + maps * 10 * width


def machine(root: Path, files: dict[str, str]) -> Path:
    """A file system with these files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 2000 kB\nMemAvailable:    1000 kB\n"}
V2 = {
    "proc/self/cgroup": "0::/pods/one\n",
    "sys/fs/cgroup/memory.max": "max\n",
    "sys/fs/cgroup/memory.current": "1\n",
    "sys/fs/cgroup/pods/memory.max": "900\n",
    "sys/fs/cgroup/pods/memory.current": "300\n",
    "sys/fs/cgroup/pods/memory.stat": "anon 5\ninactive_file 100\n",
    "sys/fs/cgroup/pods/one/memory.max": "800\n",
    "sys/fs/cgroup/pods/one/memory.current": "10\n",
}
V1 = {
    "proc/self/cgroup": "3:cpu:/x\n4:memory:/docker/abc\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "500\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "200\n",
    "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 50\n",
}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        (MEMINFO, 1000 * 1024),
        (MEMINFO | V2, 700),
        (MEMINFO | V1, 350),
        (MEMINFO | V1 | {"sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63)}, 1000 * 1024),
        (V2 | {"sys/fs/cgroup/pods/one/memory.current": "900\n"}, 0),
    ],
)
def test_the_tightest_limit_counts(
    tmp_path: Path, files: dict[str, str], expected: int | None
) -> None:
    assert bytes_available(machine(tmp_path, files)) == expected


def test_this_machine_has_memory() -> None:
    found = bytes_available()
    assert found is None or found > 10**6


def test_a_supernet_larger_than_the_memory_is_refused_with_both_sizes() -> None:
    check_memory(10, 10)
    check_memory(10**15, None)
    with pytest.raises(ConfigError, match=r"at least 12,345 bytes of memory; 12,344 bytes are"):
        check_memory(12_345, 12_344)
