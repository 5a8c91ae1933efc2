"""Zen-score (Lin, Wang, Sun, Chen, Sun, Qian, Li & Jin 2021, algorithm 1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kinase_trainer.network import GlobalAvgPool
from kinase_trainer.proxies.base import Batch, output

REPEATS = 32
SAMPLES = 16
STEP = 0.01


def measure(network: nn.Module, batch: Batch, seed: int) -> float:
    """log E ‖f(x) − f(x + 0.01 y)‖₁ + Σ log σ̄ over batch normalizations, the mean of 32 draws of
    all weights, of x and of y from N(0, 1), 16 samples each.

    f is the map before the last global pooling or flattening. σ̄² is the mean over channels of the
    variance by which a normalization divides x. The authors' code reads the running variance
    instead, which depends on how many batches were seen and on the momentum.
    """
    maps: list[Tensor] = []
    variances: list[Tensor] = []

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].ndim == 4:
            maps.append(inputs[0])

    def normalized(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        variances.append(inputs[0].var((0, 2, 3), unbiased=False).mean())

    for module in network.modules():
        if isinstance(module, GlobalAvgPool | nn.AdaptiveAvgPool2d | nn.Flatten):
            module.register_forward_pre_hook(before)
        elif isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(normalized)

    def features(x: Tensor) -> Tensor:
        maps.clear()
        variances.clear()
        answer = output(network, x)
        whole = [x for x in maps if x.shape[2:].numel() > 1]  # not what a pooling has left
        return (whole or maps or [answer])[-1]

    shape = (SAMPLES, *batch.images.shape[1:])
    mean, deviation = (getattr(network, n, None) for n in ("mean", "deviation"))
    if isinstance(mean, Tensor) and isinstance(deviation, Tensor):  # x itself is normal
        network.mean, network.deviation = torch.zeros_like(mean), torch.ones_like(deviation)
    generator = torch.Generator().manual_seed(seed)
    device = batch.images.device
    total = 0.0
    with torch.no_grad():
        for _ in range(REPEATS):
            draw_weights(network, generator)
            x, y = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
            moved = features(x + STEP * y)
            distance = (features(x) - moved).abs().flatten(1).sum(1).mean()
            total += math.log(distance) if distance > 0 else -math.inf
            total += sum(0.5 * math.log(v) if v > 0 else -math.inf for v in variances)
    return total / REPEATS


def draw_weights(network: nn.Module, generator: torch.Generator) -> None:
    """Weights of convolutions and linear layers from N(0, 1), biases 0, normalizations neutral."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            drawn = torch.randn(module.weight.shape, generator=generator)
            module.weight.copy_(drawn)
        elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm) and module.weight is not None:
            nn.init.ones_(module.weight)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
