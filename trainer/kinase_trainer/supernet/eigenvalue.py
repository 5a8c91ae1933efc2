"""The dominant eigenvalue of a loss's Hessian, by products with vectors (Lanczos 1950)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

STEPS = 20
"""Products at most, each of which costs about two gradients."""
TOLERANCE = 1e-4
"""Relative change of the value at which it is accepted."""


def dominant_eigenvalue(
    loss: Tensor,
    tensors: Sequence[Tensor],
    generator: torch.Generator,
    steps: int = STEPS,
    add: Callable[[list[Tensor]], None] | None = None,
) -> tuple[float, int]:
    """The largest eigenvalue of the second derivative.

    The vectors of a power iteration are kept orthogonal to each other, so that as many steps as
    there are numbers, or as there are distinct eigenvalues, give it exactly.

    Args:
        loss: a scalar with its graph.
        tensors: in which it is differentiated.
        generator: draws the first vector.
        steps: at most.
        add: sums each product over the workers, if each has a part of the loss.

    Returns:
        The eigenvalue, and how many products were taken.
    """
    first = torch.autograd.grad(loss, list(tensors), create_graph=True, allow_unused=True)
    given = [(t, g) for t, g in zip(tensors, first, strict=True) if g is not None]
    parts = [t for t, _ in given]
    curved = [(g, t.shape) for t, g in given if g.requires_grad]
    if not curved:
        return 0.0, 0

    def product(vector: Tensor) -> Tensor:
        outward = torch.split(vector, [t.numel() for t in parts])
        pairs = [
            (g, v.view_as(g).to(g))
            for (_, g), v in zip(given, outward, strict=True)
            if g.requires_grad
        ]
        found = torch.autograd.grad(
            [g for g, _ in pairs],
            parts,
            [v for _, v in pairs],
            retain_graph=True,
            allow_unused=True,
        )
        rows = [torch.zeros_like(t) if f is None else f for t, f in zip(parts, found, strict=True)]
        if add is not None:
            add(rows)
        return torch.cat([row.detach().flatten() for row in rows]).cpu().double()

    size = sum(t.numel() for t in parts)
    vector = torch.randn(size, generator=generator, dtype=torch.float64)
    basis = [vector / vector.norm()]
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    value = 0.0
    while True:
        image = product(basis[-1])
        diagonal.append(float(image @ basis[-1]))
        for _ in range(2):  # once loses digits
            for each in basis:
                image = image - (image @ each) * each
        tri = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
        off = torch.tensor(off_diagonal, dtype=torch.float64)
        tri = tri + torch.diag(off, 1) + torch.diag(off, -1)
        last, value = value, float(torch.linalg.eigvalsh(tri)[-1])
        norm, taken = float(image.norm()), len(basis)
        if taken == min(steps, size) or norm <= 1e-9 * max(
            map(abs, (*diagonal, *off_diagonal, 1e-30))
        ):
            return value, taken
        if taken > 2 and abs(value - last) <= TOLERANCE * abs(value):
            return value, taken
        off_diagonal.append(norm)
        basis.append(image / norm)
