"""Zero-cost proxies against what their formulas say, on networks small enough to do by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kinase import registry
from kinase.api.trial import Architecture
from kinase.space import Frame, Graph, make_space
from kinase_trainer import proxies
from kinase_trainer.data import Part
from kinase_trainer.errors import ConfigError
from kinase_trainer.network import Network
from kinase_trainer.proxies import jacob_cov, nwot, synflow, zen
from kinase_trainer.proxies.base import Batch, layers, without_normalisation
from kinase_trainer.tasks import Classification, Regression
from tests.trainer.helpers import DARTS, SMALL, cell, graph, job

ALL = registry.names(proxies.GROUP)
FRAME = Frame((1, 8, 8), 10)


def chain(architecture: Architecture = SMALL) -> Graph:
    return make_space(job().space).graph(architecture, FRAME)


def network(made: Graph | None = None, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network(made or chain(), (0.3,), (0.4,))


def batch(count: int = 12, shape: tuple[int, ...] = (1, 8, 8), classes: int = 10) -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, *shape, generator=generator)
    labels = torch.arange(count) % classes
    return Batch(images, labels, F.cross_entropy, labels)


def score(name: str, made: nn.Module, given: Batch | None = None, seed: int = 0) -> float:
    return proxies.measure_one(proxies.load(name), made, given or batch(), seed)


def mlp(*widths: int, bias: bool = False) -> nn.Sequential:
    torch.manual_seed(3)
    made: list[nn.Module] = []
    for a, b in pairwise(widths):
        made += [nn.Linear(a, b, bias=bias), nn.ReLU()]
    return nn.Sequential(*made[:-1])


def vectors(count: int, width: int, classes: int) -> Batch:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(count, width, generator=generator)
    labels = torch.arange(count) % classes
    return Batch(images, labels, F.cross_entropy, labels)


# -- what holds for every one ----------------------------------------------------------


def snapshot(made: nn.Module) -> list[Tensor]:
    kept = [t.clone() for t in made.state_dict().values()]
    return [*kept, torch.tensor([m.training for m in made.modules()])]


@pytest.mark.parametrize("name", ALL)
def test_measuring_changes_nothing_and_repeats(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zen, "REPEATS", 2)
    made = network().eval()
    given, before = batch(), snapshot(made)
    images = given.images.clone()
    torch.manual_seed(5)
    chance = torch.random.get_rng_state()
    first = score(name, made, given)
    assert math.isfinite(first)
    assert torch.equal(chance, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(before, snapshot(made), strict=True))
    assert all(p.grad is None for p in made.parameters())
    assert torch.equal(images, given.images)
    torch.manual_seed(6)
    assert score(name, made, given) == first


@pytest.mark.parametrize("name", ["zen", "nwot"])
def test_dropout_and_random_depth_are_off(name: str) -> None:
    made = network()
    quiet = score(name, made)
    made.nodes["last"] = nn.Sequential(nn.Dropout(0.9))
    assert score(name, made) == quiet


def test_the_members() -> None:
    wanted = (
        "epe_nas fisher grad_norm grasp jacob_cov l2_norm macs nwot params plain snip synflow zen"
    )
    assert wanted.split() == ALL


def test_the_page_has_them_all_and_one_of_one_s_own() -> None:
    text = (Path(__file__).parents[2] / "docs/methods/zero-cost-proxies.md").read_text()
    [block] = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    scope: dict[str, Any] = {}
    exec(block, scope)
    assert proxies.measure_one(scope["spread"], network(), batch(), 0) > 0
    table = text.partition("## Algorithm")[2].partition("## Options")[0]
    first = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    assert {name for cell in first for name in re.findall(r"`(\w+)`", cell)} == set(ALL)


# -- each by its formula ---------------------------------------------------------------


def test_synflow_is_conserved_from_layer_to_layer() -> None:
    """In a ReLU net without biases the sum over each layer is R (Tanaka et al. 2020, theorem 1)."""
    made = mlp(7, 5, 6, 3)
    given = vectors(4, 7, 3)
    total = score("synflow", made, given)
    ones = torch.ones(1, 7, dtype=torch.float64)
    for layer in layers(made):
        layer.weight.data.abs_()
    flow = float(made.double()(ones).sum().detach())
    assert total == pytest.approx(3 * flow, rel=1e-12)


def test_synflow_of_a_chain_is_its_flow_times_its_layers() -> None:
    """The same of a convolutional network, whose normalisation and input scaling are left out."""
    made = network()
    weighted = [*layers(made)]
    plain = network()
    without_normalisation(plain)
    assert not [m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)]
    plain = plain.double().eval()
    for parameter in plain.parameters():
        parameter.data.abs_()
    flow = float(plain(torch.ones(1, 1, 8, 8, dtype=torch.float64)).sum().detach())
    assert score("synflow", made) == pytest.approx(len(weighted) * flow, rel=1e-12)


def test_synflow_needs_no_data_and_its_overflow_is_seen() -> None:
    made = network()
    other = Batch(torch.zeros(1, 1, 8, 8), torch.zeros(1).long(), F.cross_entropy)
    assert score("synflow", made) == score("synflow", made, other)
    for layer in layers(made):
        layer.weight.data.fill_(1e38)
    wide = nn.Sequential(
        *[made.nodes[n] for n in made.nodes], *[nn.Linear(10, 10) for _ in range(9)]
    )
    for layer in layers(wide):
        layer.weight.data.fill_(1e38)
    assert not math.isfinite(synflow.measure(wide, batch(), 0))


def gradients(made: nn.Module, given: Batch) -> list[tuple[Tensor, Tensor]]:
    weights = [layer.weight for layer in layers(made)]
    loss = F.cross_entropy(made(given.images), given.targets)
    return [
        (w.detach(), g) for w, g in zip(weights, torch.autograd.grad(loss, weights), strict=True)
    ]


SUMS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "snip": lambda w, g: float((w * g).abs().sum()),
    "plain": lambda w, g: float((w * g).sum()),
    "grad_norm": lambda w, g: float((g**2).sum().sqrt()),
    "l2_norm": lambda w, g: float((w**2).sum().sqrt()),
}


@pytest.mark.parametrize("name", SUMS)
def test_sums_of_weights_and_gradients(name: str) -> None:
    made, given = mlp(7, 5, 3, bias=True), vectors(6, 7, 3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1)
    wanted = sum(SUMS[name](w, g) for w, g in gradients(made, given))
    assert score(name, made, given) == pytest.approx(wanted, rel=1e-5)


def test_snip_is_plain_without_signs() -> None:
    made, given = network().train(), batch()
    parts = [w * g for w, g in gradients(made, given)]
    assert score("snip", network(), given) == pytest.approx(
        sum(float(p.abs().sum()) for p in parts), rel=1e-4
    )
    assert score("plain", network(), given) == pytest.approx(
        sum(float(p.sum()) for p in parts), abs=1e-5
    )


def test_grasp_is_the_second_derivative_along_the_gradient() -> None:
    """H g by finite differences: the change of the gradient for a small step along it."""
    made, given = mlp(4, 6, 3).double(), vectors(5, 4, 3)
    given = Batch(given.images.double(), given.targets, given.loss)
    found = score("grasp", made, given)
    step, before = 1e-6, [g for _, g in gradients(made, given)]
    with torch.no_grad():
        for layer, g in zip(layers(made), before, strict=True):
            layer.weight.add_(g, alpha=step)
    after = gradients(made, given)
    wanted = -sum(
        float(((w - step * g) * (moved - g) / step).sum())
        for (w, moved), g in zip(after, before, strict=True)
    )
    assert found == pytest.approx(wanted, rel=1e-4)


def test_fisher_is_of_each_layer_s_outputs() -> None:
    made, given = mlp(7, 5, 3), vectors(6, 7, 3)
    first, relu, last = made
    hidden = first(given.images)
    logits = last(relu(hidden))
    grads = torch.autograd.grad(F.cross_entropy(logits, given.targets), [hidden, logits])
    wanted = sum(
        0.5 * float(((a * g) ** 2).mean(0).sum())
        for a, g in zip([hidden, logits], grads, strict=True)
    )
    assert score("fisher", made, given) == pytest.approx(wanted, rel=1e-5)


def test_fisher_sums_over_the_pixels_of_a_channel_first() -> None:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    given = batch(5, (1, 4, 4), 3)
    maps = made[0](given.images)
    logits = made[2](made[1](maps))
    g, h = torch.autograd.grad(F.cross_entropy(logits, given.targets), [maps, logits])
    wanted = 0.5 * float((maps * g).sum((2, 3)).pow(2).mean(0).sum())
    wanted += 0.5 * float((logits * h).pow(2).mean(0).sum())
    assert score("fisher", made, given) == pytest.approx(wanted, rel=1e-5)


def direct(made: nn.Module, given: Batch) -> np.ndarray[Any, Any]:
    """The Jacobians, a sample and an output at a time; there is no normalisation by the batch."""
    rows = []
    for image in given.images:
        full = torch.autograd.functional.jacobian(made, image[None])
        rows.append(full.sum((0, 1)).flatten().numpy())
    return np.array(rows, float)


def test_jacob_cov_of_the_direct_jacobians() -> None:
    made, given = mlp(7, 9, 3), vectors(5, 7, 3)
    values = np.linalg.eigvalsh(np.corrcoef(direct(made, given))) + 1e-5
    wanted = -(np.log(values) + 1 / values).sum()
    assert score("jacob_cov", made, given) == pytest.approx(wanted, rel=1e-4)


def test_jacob_cov_of_samples_that_are_alike() -> None:
    """One eigenvalue is N, the others are 0; a linear map has the same Jacobian everywhere."""
    torch.manual_seed(0)
    wanted = -(math.log(5 + 1e-5) + 1 / (5 + 1e-5) + 4 * (math.log(1e-5) + 1e5))
    assert score("jacob_cov", nn.Linear(7, 3), vectors(5, 7, 3)) == pytest.approx(wanted, rel=1e-6)
    dead = nn.Sequential(nn.Linear(7, 3), nn.Threshold(1e9, 0.0))
    assert math.isnan(jacob_cov.measure(dead, vectors(5, 7, 3), 0))  # no gradient at all


@pytest.mark.parametrize("width", [3, 101], ids=["few", "many"])
def test_epe_nas_by_class(width: int) -> None:
    made, given = mlp(7, 9, width), vectors(9, 7, 3)
    rows, scores = direct(made, given), []
    for label in range(3):
        own = rows[label::3]
        s = np.log(np.abs(np.corrcoef(own)) + 1e-5).sum()
        scores.append(s if width == 3 else s / 3)
    wanted = sum(map(abs, scores))
    if width == 101:
        wanted = sum(abs(a - b) for a in scores for b in scores) / 3
    assert score("epe_nas", made, given) == pytest.approx(wanted, rel=1e-4)


def test_epe_nas_of_a_class_of_one_sample() -> None:
    made = mlp(7, 9, 3)
    found = score("epe_nas", made, vectors(3, 7, 3))
    assert found == pytest.approx(3 * math.log(1 + 1e-5), rel=1e-6)


def test_nwot_of_two_samples_is_closed() -> None:
    """K = [[A, A - h], [A - h, A]] with A units of which h differ: log(A² - (A - h)²)."""
    made = nn.Sequential(nn.Linear(2, 4, bias=False), nn.ReLU(), nn.Linear(4, 3))
    made[0].weight.data = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [1, 1]])
    images = torch.tensor([[1.0, 1.0], [1.0, -2.0]])  # on: 0, 1, 3 and 0 alone
    given = Batch(images, torch.tensor([0, 1]), F.cross_entropy)
    assert score("nwot", made, given) == pytest.approx(math.log(4**2 - (4 - 2) ** 2))
    alike = Batch(images[:1].repeat(2, 1), given.targets, F.cross_entropy)
    assert nwot.measure(made, alike, 0) == -math.inf
    assert nwot.measure(nn.Linear(2, 3), given, 0) == -math.inf


def scaled(factor: float, normalised: bool) -> float:
    """Zen-score of two convolutions and a pooling, with the drawn weights of the first scaled."""
    torch.manual_seed(0)
    own = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4, eps=1e-12) if normalised else nn.Identity(),
        nn.ReLU(),
        nn.Conv2d(4, 3, 3, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    real = zen.draw_weights

    def drawing(made: nn.Module, generator: torch.Generator) -> None:
        real(made, generator)
        own[0].weight.data.mul_(factor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zen, "draw_weights", drawing)
        return zen.measure(own, batch(), 0)


@pytest.mark.parametrize("normalised", [False, True])
def test_zen_grows_by_the_logarithm_of_a_scale(normalised: bool) -> None:
    """What the normalisation takes away the second term gives back (Lin et al. 2021, theorem 1)."""
    assert scaled(8.0, normalised) - scaled(1.0, normalised) == pytest.approx(math.log(8), abs=1e-4)


def test_zen_of_a_linear_map_is_that_of_the_step() -> None:
    made = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    generator = torch.Generator().manual_seed(0)
    wanted = 0.0
    for _ in range(zen.REPEATS):
        weight = torch.randn(2, 1, 1, 1, generator=generator)
        torch.randn(zen.SAMPLES, 1, 8, 8, generator=generator)
        y = torch.randn(zen.SAMPLES, 1, 8, 8, generator=generator)
        wanted += math.log(0.01 * float(F.conv2d(y, weight).abs().sum((1, 2, 3)).mean()))
    assert score("zen", made) == pytest.approx(wanted / zen.REPEATS, rel=1e-4)


@pytest.mark.parametrize("made", [chain(), graph(DARTS, cell(np.random.default_rng(2)), FRAME)])
def test_params_and_macs_are_those_of_the_graph(made: Graph) -> None:
    assert score("params", network(made)) == made.params()
    assert score("macs", network(made)) == made.macs()


# -- as a trial measures them ----------------------------------------------------------


def part(count: int = 100) -> Part:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (count, 1, 8, 8), generator=generator).to(torch.uint8)
    return Part(images, torch.arange(count) % 10)


def test_every_network_sees_the_same_samples() -> None:
    task = Classification()
    first, second = (proxies.batch_of(part(), task) for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert len(first.images) == proxies.SAMPLES
    assert len(proxies.batch_of(part(9), task).images) == 9
    assert first.labels is not None


def test_what_has_no_value_is_said_and_the_rest_is_measured() -> None:
    made = network(chain({"layers": [SMALL["layers"][0]]}))
    made.nodes = nn.ModuleDict(
        {n: nn.Identity() if isinstance(m, nn.ReLU) else m for n, m in made.nodes.items()}
    )
    wanted = ("nwot", "epe_nas", "synflow")
    targets = torch.rand(100, 10)
    task = Regression()
    task.fit(task.prepare(targets))
    found, remarks = proxies.measure(wanted, made, Part(part().images, targets), task, 0)
    assert found["nwot"] is None
    assert found["epe_nas"] is None
    assert isinstance(found["synflow"], float)
    assert remarks == [
        "the proxy nwot has no value: it is -inf",
        "the proxy epe_nas has no value: it needs samples of one class each",
    ]


def test_an_unknown_proxy_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"no zero-cost proxy 'magic'; known: epe_nas, .*, zen"):
        proxies.measure(["magic"], network(), part(), Classification(), 0)
    assert proxies.measure([], network(), part(), Classification(), 0) == ({}, [])
