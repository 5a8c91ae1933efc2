from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

from kinase.api.task import Task, Training
from kinase.space import Frame
from kinase_trainer.data import Part, open_splits
from kinase_trainer.errors import ConfigError
from kinase_trainer.network import DropPath, Network
from kinase_trainer.tasks import Classification
from kinase_trainer.trace import trace
from kinase_trainer.train import (
    Diverged,
    Run,
    autocast,
    evaluate,
    learning_rate,
    make_optimizer,
    pick_device,
    seed_of,
    warmup_of,
)
from tests.trainer.helpers import CHAIN, SMALL, graph

CPU = torch.device("cpu")


def training(**fields: Any) -> Training:
    return Training.model_validate({"device": "cpu", **fields})


def part(count: int = 64) -> Part:
    generator = torch.Generator().manual_seed(0)
    return Part(
        torch.rand(count, 1, 8, 8, generator=generator),
        torch.randint(0, 10, (count,), generator=generator),
    )


def run(t: Training, data: Part | None = None, epochs: int = 3) -> Run:
    torch.manual_seed(0)
    network = Network(graph(CHAIN, SMALL, Frame((1, 8, 8), 10)))
    data = data or part()
    return Run(network, make_optimizer(network, t), Classification(), t, CPU, data, data, epochs, 5)


def rates(t: Training, epochs: int, steps: int = 4) -> list[float]:
    return [learning_rate(t, step, steps, epochs) for step in range(epochs * steps)]


def test_learning_rate_rises_then_falls_along_a_half_cosine() -> None:
    t = training(warmupEpochs=2, optimizer={"type": "SGD", "sgd": {"learningRate": 0.4}}, epochs=10)
    found = rates(t, 10)
    assert found[:8] == pytest.approx([0.4 * (step + 1) / 8 for step in range(8)])
    assert found[8] == pytest.approx(0.4)
    assert found[24] == pytest.approx(0.2)
    assert found[16] == pytest.approx(0.4 * (1 + math.cos(math.pi / 4)) / 2)
    assert 0 < found[-1] < 0.001
    assert rates(training(schedule="constant"), 10) == [0.1] * 40


@pytest.mark.parametrize(("epochs", "warm"), [(3, 3), (5, 5), (20, 20), (40, 20)])
def test_a_shorter_training_warms_up_for_the_same_share(epochs: int, warm: int) -> None:
    """Five epochs of twenty; of a longer training five."""
    t = training(warmupEpochs=5, epochs=20)
    assert warmup_of(t, epochs) == warm / 4
    found = rates(t, epochs, 40)
    assert min(found) > 0
    assert found.index(max(found)) == 10 * warm - 1


@pytest.mark.parametrize("warm", [0, 2])
def test_learning_rate_is_that_of_torch_s_own_schedules(warm: int) -> None:
    """torch's LinearLR from a step's share of the rate, then its cosine."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    lr = torch.optim.lr_scheduler
    rise = 4 * warm
    schedule: Any = lr.CosineAnnealingLR(optimizer, T_max=40 - rise)
    if warm:
        linear = lr.LinearLR(optimizer, start_factor=1 / rise, total_iters=rise - 1)
        schedule = lr.SequentialLR(optimizer, [linear, schedule], milestones=[rise])
    for rate in rates(training(warmupEpochs=warm, epochs=10), 10):
        assert rate == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


def test_all_parameters_decay_where_the_manifest_says_so() -> None:
    """As torch's own optimizer of all parameters, which is what DARTS' code makes."""
    t = training(optimizer={"type": "SGD", "sgd": {"weightDecay": 3e-4, "decay": "all"}})
    network = Network(graph(CHAIN, SMALL, Frame((1, 8, 8), 10)))
    (group,) = make_optimizer(network, t).param_groups
    theirs = torch.optim.SGD(network.parameters(), lr=0.1, weight_decay=3e-4).param_groups[0]
    assert group["weight_decay"] == theirs["weight_decay"]
    assert [id(p) for p in group["params"]] == [id(p) for p in theirs["params"]]


def test_class_tokens_positions_and_scales_do_not_decay() -> None:
    found = trace(VisionTransformer(8, 4, 1, 2, 16, 32, num_classes=10), (3, 8, 8)).graph
    network = Network(found)
    decayed = make_optimizer(network, training()).param_groups[0]["params"]
    names = {n for n, p in network.named_parameters() if any(p is each for each in decayed)}
    spared = {n for n, p in network.named_parameters() if p.ndim > 1} - names
    assert len(spared) == 2, spared
    assert all(name.endswith(("weight", "in_proj_weight")) for name in names)


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_weight_decay_spares_normalization_and_biases(kind: str) -> None:
    t = training(optimizer={"type": kind, kind.lower(): {"weightDecay": 0.5}})
    network = Network(graph(CHAIN, SMALL, Frame((1, 8, 8), 10)))
    optimizer = make_optimizer(network, t)
    decay = {
        id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    for name, parameter in network.named_parameters():
        spared = "_bn." in name or name.endswith("bias")
        assert decay[id(parameter)] == (0.0 if spared else 0.5), name


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_an_epoch_equals_a_loop_by_hand(kind: str) -> None:
    """The same steps, written as one writes them, with plain torch."""
    t = training(
        batchSize=16,
        labelSmoothing=0.1,
        clipNorm=0.5,
        optimizer={"type": kind, kind.lower(): {"learningRate": 0.05, "weightDecay": 0.1}},
    )
    ours = run(t)
    theirs = run(t).model
    decayed = [p for p in theirs.parameters() if p.ndim > 1]
    rest = [p for p in theirs.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": 0.1}, {"params": rest}]
    optimizer: torch.optim.Optimizer = (
        torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True)
        if kind == "SGD"
        else torch.optim.AdamW([groups[0], {"params": rest, "weight_decay": 0.0}], lr=0.05)
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    data = part()
    assert isinstance(data.images, torch.Tensor)
    for epoch in range(3):
        assert ours.train_epoch() == 64
        order = torch.randperm(64, generator=torch.Generator().manual_seed(seed_of(5, 1, epoch)))
        theirs.train()
        for chosen in order.split(16):
            optimizer.zero_grad()
            criterion(theirs(data.images[chosen]), data.targets[chosen]).backward()
            nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
            optimizer.step()
            schedule.step()
    for (name, one), other in zip(
        ours.model.state_dict().items(), theirs.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=name)


def test_a_small_set_is_learnt_by_heart() -> None:
    whole = run(
        training(batchSize=16, optimizer={"type": "AdamW", "adamw": {"learningRate": 0.02}}),
        open_splits(Task()).train.subset(torch.arange(48)),
        epochs=60,
    )
    before = whole.score()
    for _ in range(60):
        whole.train_epoch()
    after = whole.score()
    assert before["val_accuracy"] < 0.5 < 0.95 < after["val_accuracy"]
    assert after["val_loss"] < before["val_loss"] / 4


def test_drop_path_rises_linearly_to_its_last_epoch() -> None:
    whole = run(training(dropPath=0.3))
    drop = DropPath()
    whole.model.drop_paths = [drop]
    rates = []
    for _ in range(3):
        whole.train_epoch()
        rates.append(drop.rate)
    assert rates == pytest.approx([0.0, 0.15, 0.3])


def test_label_smoothing_is_that_of_the_paper() -> None:
    """Szegedy et al. 2016: the target is (1 - s) onehot + s / K."""
    output, target = torch.randn(6, 5), torch.arange(6) % 5
    smooth = 0.8 * torch.eye(5)[target] + 0.2 / 5
    wanted = -(smooth * output.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(Classification().loss(output, target, 0.2), wanted)


def test_auxiliary_loss_is_weighed() -> None:
    whole = run(training(auxiliary=0.4))
    main, head, target = torch.randn(6, 5), torch.randn(6, 5), torch.arange(6) % 5
    criterion = nn.CrossEntropyLoss()
    wanted = criterion(main, target) + 0.4 * criterion(head, target)
    torch.testing.assert_close(whole._loss((main, head), target), wanted)


def test_scores_do_not_depend_on_the_batches() -> None:
    whole, data = run(training()), part(2500)
    measured = evaluate(whole.model, Classification(), data, whole.training, CPU)
    with torch.no_grad():
        output = whole.model.eval()(data.images)
    assert measured["accuracy"] == float((output.argmax(1) == data.targets).double().mean())
    wanted = float(nn.functional.cross_entropy(output.double(), data.targets))
    assert measured["loss"] == pytest.approx(wanted, rel=1e-5)


def test_scoring_leaves_the_network_as_it_is() -> None:
    whole = run(training())
    before = {name: tensor.clone() for name, tensor in whole.model.state_dict().items()}
    whole.score()
    assert all(torch.equal(before[n], t) for n, t in whole.model.state_dict().items())


def test_a_loss_that_is_no_number_stops_the_epoch_at_once() -> None:
    poisoned = part()
    assert isinstance(poisoned.images, torch.Tensor)
    poisoned.images[:] = math.nan
    whole = run(training(batchSize=16), poisoned)
    with pytest.raises(Diverged, match="the loss is nan in epoch 1") as caught:
        whole.train_epoch()
    assert caught.value.samples == 16
    assert whole.epoch == 0


def test_a_metric_that_is_no_number_is_left_out() -> None:
    whole = run(training())
    with torch.no_grad():
        next(iter(whole.model.parameters())).fill_(math.nan)
    left = set(whole.score())
    assert left == {"val_accuracy", "val_balanced_accuracy", "val_f1"}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_close_to_single(precision: str) -> None:
    options: dict[str, Any] = {"optimizer": {"type": "SGD", "sgd": {"learningRate": 0.01}}}
    single, half = run(training(**options)), run(training(precision=precision, **options))
    assert (half.scaler is not None) == (precision == "float16")
    for whole in (single, half):
        for _ in range(3):
            whole.train_epoch()
    assert all(p.dtype == torch.float32 for p in half.model.parameters())
    assert single.score()["val_loss"] == pytest.approx(half.score()["val_loss"], rel=0.03)


def test_auto_precision_is_single_on_a_cpu() -> None:
    with autocast(training(precision="auto"), CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with autocast(training(precision="bfloat16"), CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_a_device_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"training.device is 'cuda', but .* use cpu or auto"):
        pick_device("cuda")
    with pytest.raises(ConfigError, match=r"training.device is 'mps'"):
        pick_device("mps")
    assert pick_device("auto") == CPU


def test_slots_share_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [pick_device("auto", slot).index for slot in range(3)] == [0, 1, 0]


def test_seeds_of_different_purposes_differ() -> None:
    seeds = {
        seed_of(seed, *labels) for seed in range(5) for labels in [(0,), (1, 0), (1, 1), (2, 0)]
    }
    assert len(seeds) == 20
    assert seed_of(3, 1, 4) == seed_of(3, 1, 4)
