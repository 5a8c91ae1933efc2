"""Zero-cost proxies: what can be said of a network before it is trained, from one batch or none.

Each is a file with a function `measure(network, batch, seed)`, registered as an entry point of the
group `kinase.proxies`; see docs/methods/zero-cost-proxies.md.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import nn

from kinase import registry
from kinase_trainer.data import Part
from kinase_trainer.errors import ConfigError
from kinase_trainer.network import DropPath
from kinase_trainer.proxies.base import Batch, Proxy
from kinase_trainer.tasks import LearningTask

__all__ = ["GROUP", "SAMPLES", "Batch", "Proxy", "batch_of", "load", "measure", "measure_one"]

GROUP = "kinase.proxies"
SAMPLES = 64
"""Training samples that the proxies see, or all if there are fewer."""
ORDER = 64_919
"""Seed by which they are chosen: the same ones for all networks of a search, whatever their own
seeds are."""


def load(name: str) -> Proxy:
    """The proxy that is registered under a name.

    Raises:
        ConfigError: there is none.
    """
    try:
        found: Proxy = registry.load(GROUP, name)
    except registry.UnknownMember:
        known = ", ".join(registry.names(GROUP))
        raise ConfigError(f"there is no zero-cost proxy {name!r}; known: {known}") from None
    except registry.BrokenMember as error:
        raise ConfigError(str(error)) from error
    return found


def batch_of(part: Part, task: LearningTask) -> Batch:
    """The samples that every network of a search is measured with."""
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(ORDER))
    images, targets = next(part.read(order[:SAMPLES], SAMPLES))
    plain = targets.ndim == 1 and not targets.is_floating_point()
    return Batch(
        images,
        targets,
        lambda outputs, wanted: task.loss(outputs, wanted, 0.0),
        targets if plain and not task.several else None,
    )


def measure(
    names: Sequence[str], network: nn.Module, part: Part, task: LearningTask, seed: int
) -> tuple[dict[str, float | None], list[str]]:
    """Measure proxies of a network, which stays as it is, as do all random generators.

    Returns:
        The value of each, None where it is not finite or cannot be measured; and what there is to
        say of those.

    Raises:
        ConfigError: one of them is not known.
    """
    found: dict[str, float | None] = {}
    remarks = []
    members = {name: load(name) for name in names}
    batch = batch_of(part, task) if members else None
    for name, member in members.items():
        assert batch is not None
        try:
            value = measure_one(member, network, batch, seed)
            why = "" if math.isfinite(value) else f"it is {value}"
        except (ArithmeticError, MemoryError, RuntimeError, ValueError) as error:
            value, why = math.nan, str(error).split("\n", 1)[0][:200]
        found[name] = None if why else value
        if why:
            remarks.append(f"the proxy {name} has no value: {why}")
    return found, remarks


def measure_one(proxy: Proxy, network: nn.Module, batch: Batch, seed: int) -> float:
    """Measure one proxy of a copy of the network; nothing else changes."""
    copied = copy.deepcopy(network).train()
    for module in copied.modules():
        if isinstance(module, nn.Dropout | DropPath):
            module.eval()
    devices = [batch.images.device] if batch.images.is_cuda else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(seed)
        return float(proxy(copied, batch, seed))
