"""Whether a supernet fits into memory, before anything of it is built."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path

from kinase.api.task import Training
from kinase.space import Graph
from kinase.space.nodes import ACTIVATIONS, Shape
from kinase_trainer.errors import ConfigError

BYTES = 4
"""Of a number: weights are float32, and so are maps unless the precision is lower."""
UNBOUNDED = 1 << 60
"""A limit of a control group that is as large as this is none."""
KEEPING = ACTIVATIONS | {"conv", "linear", "batch_norm", "max_pool", "avg_pool", "choice", "scale"}
"""Operations that need their input for the gradient."""


def maps_of(graph: Graph) -> int:
    """Numbers that one sample's maps have, of those that the backward pass needs."""
    kept = {name for node in graph if node.op in KEEPING for name in node.inputs}
    return sum(prod(shape) for name, shape in graph.shapes().items() if name in kept)


def bytes_needed(
    tensors: Mapping[str, Shape], maps: int, training: Training, *, copies: int = 0
) -> int:
    """The least memory that the training of a supernet takes, in bytes.

    Args:
        tensors: shapes of all tensors of the supernet: those of its graph
            (`kinase.space.tensors.tensors`), or `Elastic.tensors`.
        maps: numbers of one sample's maps: `maps_of` the supernet's graph if all options are run,
            or of the largest network if one path is.
        training: `spec.training`: the optimizer, the size of a batch, the precision.
        copies: further copies of all weights, as of a teacher, or of weights that are restored.
    """
    weights = sum(prod(shape) for shape in tensors.values())
    slots = 2 if training.optimizer.type == "AdamW" else 1  # of the optimizer, and the gradient
    half = training.precision in ("float16", "bfloat16")
    batch = maps * training.batch_size * (BYTES // 2 if half else BYTES)
    return weights * BYTES * (2 + slots + copies) + batch


def bytes_available(root: Path = Path("/")) -> int | None:
    """Memory that this process can still take, in bytes: what the machine has, within the limits of
    its control groups (version 2, or 1). None where it is not known.

    Args:
        root: where `proc` and `sys` are.
    """
    found = [room for room in (_machine(root), *_groups(root)) if room is not None]
    return min(found, default=None)


def _machine(root: Path) -> int | None:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _groups(root: Path) -> list[int | None]:
    """What each group that the process is in has left; a container sees its group as the first."""
    rooms = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        names = ("memory.max", "memory.current", "inactive_file")
        folder = root / "sys/fs/cgroup"
        if controllers:
            if "memory" not in controllers.split(","):
                continue
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            folder /= "memory"
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for count in range(len(parts) + 1):
            rooms.append(_group(folder.joinpath(*parts[:count]), *names))
    return rooms


def _group(folder: Path, limit: str, used: str, cached: str) -> int | None:
    most, now = _text(folder / limit).strip(), _text(folder / used).strip()
    if not most.isdigit() or not now.isdigit() or int(most) >= UNBOUNDED:
        return None
    for line in _text(folder / "memory.stat").splitlines():
        if line.startswith(f"{cached} "):  # files that the system drops when it needs memory
            now = str(int(now) - int(line.split()[1]))
    return max(0, int(most) - max(0, int(now)))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def check_memory(needed: int, available: int | None) -> None:
    """Refuse a supernet that is larger than the memory.

    Raises:
        ConfigError: it is; the message names both in bytes.
    """
    if available is not None and needed > available:
        raise ConfigError(
            f"training this supernet takes at least {needed:,} bytes of memory; {available:,} "
            "bytes are available: use a smaller training.batchSize, a smaller space, or more memory"
        )
