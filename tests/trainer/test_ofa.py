"""Progressive shrinking: phases, the teacher, sorted channels."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kinase.api.mobile import MobileNetSpace, MobileNetStage
from kinase.api.space import ChainSpace
from kinase.api.supernet import OFA, Relaxation, SupernetPlan
from kinase.api.task import Task, Training
from kinase.space import Frame
from kinase.space.chain import Chain
from kinase.space.mobilenet import MobileNet
from kinase_trainer.data import open_splits
from kinase_trainer.supernet.elastic import ElasticNetwork
from kinase_trainer.supernet.make import make_choices, make_extras
from kinase_trainer.supernet.ofa import Ofa, Shrinking, begins, phase_of, sort
from kinase_trainer.supernet.run import SupernetRun
from kinase_trainer.train import make_optimizer

SPLITS = open_splits(Task.model_validate({"dataset": "digits"}))
TRAINING = Training.model_validate({"epochs": 6, "batchSize": 64, "device": "cpu"})
STAGES = (MobileNetStage(width=4, max_depth=2), MobileNetStage(width=6, stride=2, max_depth=2))
SPACE = MobileNet(
    MobileNetSpace(stages=STAGES, stem=4, first=0, head=8, kernels=(3, 5), expansions=(1, 2, 3))
)
EACH = {"largest": 1, "kernel": 1, "depth": [1, 1], "width": [1, 1]}
"""One epoch of six each."""
IMAGES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def network(seed: int = 0, *, transforms: bool = True) -> ElasticNetwork:
    """The tensors of the largest network."""
    torch.manual_seed(seed)
    elastic = SPACE.elastic(Frame((1, 8, 8), 10))
    made = ElasticNetwork(elastic, transforms=transforms)
    for name, tensor in made.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_()
        if name.endswith(("running_var", "bn.weight")):
            tensor.uniform_(0.5, 2)
    return made


def a_run(seed: int = 0, **options: Any) -> SupernetRun:
    """A run on a few digits."""
    model = network(seed)
    plan = Relaxation.model_validate({"type": "OFA", "ofa": EACH | options})
    choices = make_choices(plan, None, SPACE, 0)
    part = SPLITS.train.subset(torch.arange(96))
    return SupernetRun(
        model=model,
        optimizer=make_optimizer(model, TRAINING, paths=True),
        task=SPLITS.learning,
        training=TRAINING,
        device=torch.device("cpu"),
        train=part,
        validation=SPLITS.validation.subset(torch.arange(32)),
        epochs=6,
        seed=1,
        relaxation=choices.relaxation,
        held=part,
        chooser=choices.chooser,
        order=choices.order,
        extras=make_extras(SupernetPlan(relaxation=plan), choices.relaxation),
    )


def shrinking(run: SupernetRun) -> Shrinking:
    """What teaches a run."""
    [found] = [each for each in run.extras if isinstance(each, Shrinking)]
    return found


def test_phases_have_the_lengths_of_the_paper() -> None:
    # of 590 epochs: 180 of the largest network, 120 of kernels, 25 + 120 of depths and of widths
    names = [phase_of(OFA(), epoch, 590).name for epoch in range(590)]
    assert {name: names.count(name) for name in names} == {
        "largest": 180,
        "kernel": 120,
        "depth": 145,
        "width": 145,
    }
    assert [phase_of(OFA(), epoch, 590).networks for epoch in (0, 180, 300, 589)] == [1, 1, 2, 4]
    assert phase_of(OFA(), 300, 590).free["depth"] == 2
    assert phase_of(OFA(), 325, 590).free["depth"] > 100
    assert "width" not in phase_of(OFA(), 444, 590).free
    starts = [e for e in range(590) for name in ("kernel", "width") if begins(OFA(), name, e, 590)]
    assert starts == [180, 445]


@pytest.mark.parametrize("epochs", range(1, 12))
def test_few_epochs_end_in_the_last_phase(epochs: int) -> None:
    assert phase_of(OFA(), epochs - 1, epochs).free["width"] > 100
    for name in ("kernel", "width"):
        assert sum(begins(OFA(), name, epoch, epochs) for epoch in range(epochs)) == 1


def test_a_network_that_is_trained_already_begins_to_shrink_at_once() -> None:
    options = OFA(largest=0.0)
    assert phase_of(options, 0, 10).name == "kernel"
    assert begins(options, "kernel", 0, 10)
    with pytest.raises(ValueError, match="no phase is left"):
        OFA(largest=0.0, kernel=0.0, depth=(0.0, 0.0), width=(0.0, 0.0))


def drawn(run: SupernetRun, epoch: int, count: int) -> list[Any]:
    """What a step's networks are."""
    found: list[Any] = []
    run.relaxation.begin(epoch, 6)
    model = run.model
    assert isinstance(model, ElasticNetwork)
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        run.relaxation.choose(run.network, generator)
        assert model._plan is not None
        found.append(model._plan.graph.params())
    return found


def test_the_sandwich_trains_the_largest_and_the_smallest_in_each_step() -> None:
    run = a_run(sandwich=True)
    frame = Frame((1, 8, 8), 10)
    largest, smallest = (
        SPACE.graph(each, frame).params() for each in (SPACE.largest, SPACE.smallest)
    )
    last = drawn(run, 5, 8)
    assert [last[0], last[1], last[4], last[5]] == [largest, smallest] * 2
    assert len(set(last)) > 3
    assert run.relaxation.paths_at(5, 6) == 4
    assert set(drawn(run, 0, 4)) == {largest}
    assert run.relaxation.paths_at(0, 6) == 1


def test_the_largest_network_equals_its_teacher_before_others_are_trained() -> None:
    run = a_run()
    run.train_epoch()
    teacher = shrinking(run)
    assert teacher._teacher is None
    model = run.model
    assert isinstance(model, ElasticNetwork)
    teacher.begin(run)  # of the next epoch
    assert teacher._teacher is not None
    model.eval().follow(SPACE.largest)
    torch.testing.assert_close(model(IMAGES), teacher._teacher(IMAGES))
    assert not any(p.requires_grad for p in teacher._teacher.parameters())
    before = {n: t.clone() for n, t in teacher._teacher.state_dict().items()}
    run.train_epoch()
    for name, tensor in teacher._teacher.state_dict().items():
        assert torch.equal(tensor, before[name]), "it stays as it was"
    assert not torch.equal(model.eval()(IMAGES), teacher._teacher(IMAGES))


def test_labels_and_teacher_are_added() -> None:
    run = a_run(largest=0, distillation=2.0)
    run.prepare(IMAGES, torch.arange(4), 0.1)
    teacher = shrinking(run)
    teacher.begin(run)
    assert teacher._teacher is not None
    output = torch.randn(4, 10)
    wanted = teacher._teacher(IMAGES).softmax(1)
    soft = -(wanted * output.log_softmax(1)).sum(1).mean()
    hard = run.task.loss(output, torch.arange(4), 0.0)
    torch.testing.assert_close(run._loss(output, torch.arange(4)), hard + 2.0 * soft)


def test_sorted_channels_leave_the_output_as_it_is() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.eval().follow(SPACE.largest)
    model(IMAGES).sum().backward()
    optimizer.step()
    before = model(IMAGES)
    key = "nodes.stage0_block1_expand_conv.weight"
    weight = model.get_parameter(key)
    rows = {row.sum().item(): slot for row, slot in _pairs(weight, optimizer)}
    sort(model, optimizer, SPACE.largest)
    torch.testing.assert_close(model(IMAGES), before, atol=1e-5, rtol=1e-5)
    read = model.get_parameter("nodes.stage0_block1_project_conv.weight").abs().sum((0, 2, 3))
    assert bool((read.diff() <= 0).all())
    moved = {row.sum().item(): slot for row, slot in _pairs(weight, optimizer)}
    assert list(moved) != list(rows), "rows moved"
    assert all(torch.equal(moved[row], rows[row]) for row in rows), "and the momentum with them"


def _pairs(weight: torch.Tensor, optimizer: torch.optim.Optimizer) -> Any:
    slot = optimizer.state[weight]["momentum_buffer"]
    # in the order of their inputs, which move as well, a sum could differ in its last digit
    return [
        (row.detach().flatten().sort().values.double(), each.flatten().sort().values.clone())
        for row, each in zip(weight, slot, strict=True)
    ]


def test_a_pause_after_each_epoch_changes_no_bit() -> None:
    whole, part = a_run(), a_run()
    for epoch in range(6):
        whole.train_epoch()
        part.train_epoch()
        other = a_run(seed=5)
        other.unpack(part.pack())
        part = other
        assert part.epoch == epoch + 1
    for name, tensor in whole.pack().tensors.items():
        assert torch.equal(tensor, part.pack().tensors[name]), name


def test_passes_count_all_networks_of_a_step() -> None:
    run = a_run()
    passes = []
    for _ in range(6):
        expected = run.passes
        assert run.train_epoch() == expected
        passes.append(expected // 96)
    assert passes == [1, 1, 2, 2, 4, 4]


def test_a_space_without_a_largest_network_is_refused() -> None:
    with pytest.raises(ValueError, match="Chain has none; use Uniform, or the space MobileNet"):
        Ofa(Chain(ChainSpace()), OFA())
