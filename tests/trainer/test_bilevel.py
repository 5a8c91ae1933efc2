"""The gradient of the choices against closed forms and against exact differentiation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kinase_trainer.supernet.bilevel import WeightStep, gradients

RATES = [0.0, 0.5]


def toy(alpha: Tensor, omega: Tensor, step: WeightStep) -> float:
    """Of L_val = a w - 2 a + 1 and L_train = w^2 - 2 a w + a^2."""
    [found] = gradients(
        [alpha],
        [omega],
        lambda: omega**2 - 2 * alpha * omega + alpha**2,
        lambda: alpha * omega - 2 * alpha + 1,
        step,
    )
    return float(found)


@pytest.mark.parametrize(("rate", "expected"), [(0.0, -4.0), (0.5, 2.0)])
def test_the_first_step_of_the_paper(rate: float, expected: float) -> None:
    # Liu et al. 2019, section 2.3, figure 2: from (2, -2). With r = 0.5, w' = a, so that
    # L_val = a^2 - 2 a + 1 and its gradient is 2 a - 2
    alpha = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    omega = torch.tensor(-2.0, dtype=torch.float64, requires_grad=True)
    assert toy(alpha, omega, WeightStep(rate)) == pytest.approx(expected, abs=1e-9)
    assert float(omega.detach()) == -2.0, "the weights are as before"


@pytest.mark.parametrize(("rate", "end"), [(0.0, (2.0, 2.0)), (0.5, (1.0, 1.0))])
def test_the_paper_s_end(rate: float, end: tuple[float, float]) -> None:
    # the same figure: the first order ends at (2, 2), r = 0.5 at the optimum (1, 1)
    alpha = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    omega = torch.tensor(-2.0, dtype=torch.float64, requires_grad=True)
    for _ in range(400):
        move = toy(alpha, omega, WeightStep(rate))
        with torch.no_grad():
            alpha -= 0.1 * move
            omega -= 0.1 * (2 * omega - 2 * alpha)
    assert (float(alpha.detach()), float(omega.detach())) == pytest.approx(end, abs=1e-3)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_second_order_is_that_of_exact_differentiation(momentum: float) -> None:
    generator = torch.Generator().manual_seed(3)
    x, y = (torch.rand(8, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    alpha = torch.rand(3, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    buffer = torch.rand(3, 3, generator=generator, dtype=torch.float64)
    step = WeightStep(0.3, momentum, 0.02, [buffer])

    def loss(data: Tensor, w: Tensor) -> Tensor:
        return (torch.tanh(data @ (w * torch.softmax(alpha, 0))) - data.flip(1)).square().mean()

    [found] = gradients([alpha], [weight], lambda: loss(x, weight), lambda: loss(y, weight), step)
    [inner] = torch.autograd.grad(loss(x, weight), weight, create_graph=True)
    moved = weight - step.rate * (momentum * buffer + inner + step.decay * weight)
    # the buffer and the decay do not depend on the choices, nor does w before the step
    [exact] = torch.autograd.grad(loss(y, moved), alpha)
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-7)


def test_a_loss_that_the_weights_do_not_change_has_the_direct_gradient() -> None:
    alpha = torch.tensor(2.0, requires_grad=True)
    omega = torch.tensor(1.0, requires_grad=True)
    step = WeightStep(0.5)
    [found] = gradients([alpha], [omega], lambda: alpha * omega**2, lambda: alpha**2, step)
    assert float(found) == 4.0


def test_the_weights_are_put_back_where_a_loss_fails() -> None:
    alpha = torch.tensor(2.0, requires_grad=True)
    omega = torch.tensor(1.0, requires_grad=True)

    def fails() -> Tensor:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        gradients([alpha], [omega], lambda: alpha * omega**2, fails, WeightStep(0.5))
    assert float(omega.detach()) == 1.0
