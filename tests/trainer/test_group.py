"""Several workers train what one would: shares, sums, orders, and what happens when one is lost."""

from __future__ import annotations

import copy
import itertools
import socket
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kinase.api.task import Augmentation, ClassificationTask, Task, Training
from kinase.api.trial import WORKER_LOST_EXIT, Outcome, TrialJob
from kinase.store.memory import MemoryStore
from kinase_trainer import checkpoint, trial
from kinase_trainer.data import Part, batches, open_splits, plain_batches
from kinase_trainer.ending import Ending, Terminated, Terminator
from kinase_trainer.epochs import follow_epochs, train_epochs
from kinase_trainer.errors import ConfigError, WorkerLost
from kinase_trainer.group import ALONE, Group, Share, join
from kinase_trainer.ledger import Meter, read_ledger
from kinase_trainer.place import Place
from kinase_trainer.process import end_of
from kinase_trainer.supernet.darts import Darts
from kinase_trainer.supernet.gdas import Gdas
from kinase_trainer.supernet.relaxation import Learned
from kinase_trainer.supernet.run import SupernetRun
from kinase_trainer.tasks import Classification, LearningTask
from kinase_trainer.train import Run, make_optimizer
from tests.trainer.groups import together
from tests.trainer.helpers import job
from tests.trainer.supernets import a_run
from tests.trainer.test_supernet_trial import training

SPLITS = open_splits(Task.model_validate({"dataset": "digits"}))
CPU = torch.device("cpu")


class Plain(nn.Module):
    """A network without batch normalization, with the methods of `Network` that a run uses."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
        )
        self.register_buffer("mean", torch.full((1, 1, 1, 1), 0.3))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images - self.mean)

    def set_drop_path(self, rate: float) -> None:
        pass


torch.manual_seed(3)
MODEL = Plain()


def plain_run(
    group: Group = ALONE, count: int = 150, task: LearningTask | None = None, **training: Any
) -> Run:
    """A run of the digits, with the same weights each time."""
    given = Training.model_validate(
        {
            "epochs": 2,
            "batchSize": 64,
            "device": "cpu",
            "clipNorm": 1,
            "labelSmoothing": 0.1,
            "augmentation": {"crop": 1, "flip": True, "cutout": 3},
            **training,
        }
    )
    model: Any = copy.deepcopy(MODEL)  # torch's generator is one for all threads
    return Run(
        model=model,
        optimizer=make_optimizer(model, given),
        task=task or SPLITS.learning,
        training=given,
        device=CPU,
        train=SPLITS.train.subset(torch.arange(count)),
        validation=SPLITS.validation.subset(torch.arange(101)),
        epochs=2,
        seed=1,
        group=group,
    )


def trained(run: Run, epochs: int = 1) -> Run:
    """The run after some epochs."""
    for _ in range(epochs):
        run.train_epoch()
    return run


def weighted() -> Classification:
    """A task whose classes have different weights."""
    task = Classification(ClassificationTask(weights=tuple(range(1, 11))))
    task.fit(SPLITS.train.targets)
    return task


@pytest.mark.parametrize(("count", "size"), list(itertools.product((1, 3, 4, 7, 64), (1, 2, 3))))
def test_shares_cover_a_batch_once_and_have_two_samples(count: int, size: int) -> None:
    shares = [Share(rank, size).of(count) for rank in range(size)]
    samples = [list(range(count))[each] for each in shares]
    if count < 2 * size:
        assert samples == [list(range(count))] * size
    else:
        assert list(itertools.chain(*samples)) == list(range(count))
        assert min(map(len, samples)) >= 2
    rows = [list(range(count))[Share(rank, size).rows(count)] for rank in range(size)]
    assert set(itertools.chain(*rows)) == set(range(count))
    assert len({len(each) for each in rows}) == 1


def test_the_workers_see_each_batch_and_each_augmentation_once() -> None:
    part = SPLITS.train.subset(torch.arange(50))
    options = Augmentation(crop=1, flip=True, cutout=3)

    def read(share: Share) -> list[tuple[Tensor, Tensor]]:
        return list(batches(part, 16, torch.Generator().manual_seed(5), options, None, share))

    whole = read(Share())
    halves = zip(read(Share(0, 2)), read(Share(1, 2)), strict=True)
    for (images, targets), (first, second) in zip(whole, halves, strict=True):
        if len(targets) < 4:
            assert torch.equal(first[0], images)
            continue
        assert torch.equal(torch.cat([first[0], second[0]]), images)
        assert torch.equal(torch.cat([first[1], second[1]]), targets)
    rows = [y for _, y in plain_batches(part, Share(1, 3))]
    assert torch.equal(rows[0], part.targets[17:34])


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("task", [None, weighted()], ids=["equal", "weighted"])
@pytest.mark.parametrize("count", [150, 131], ids=["divided", "last batch of 3"])
def test_an_epoch_of_several_workers_is_that_of_one(
    size: int, task: LearningTask | None, count: int
) -> None:
    """Without batch normalization, to rounding: weights, momenta, metrics and samples."""
    alone = plain_run(count=count, task=task)
    seen = alone.train_epoch()
    runs = together(lambda group: trained(plain_run(group, count, task)), size)
    for run in runs:
        assert run.epoch == 1
        for name, tensor in alone.pack().tensors.items():
            assert torch.allclose(run.pack().tensors[name], tensor, atol=1e-6), name
            assert torch.equal(run.pack().tensors[name], runs[0].pack().tensors[name]), name
    scores = together(lambda group: scored(runs[group.rank], group), size)
    assert scores == [pytest.approx(alone.score(), abs=1e-6)] * size
    assert seen == count


def scored(run: Run, group: Group) -> dict[str, float]:
    run.group = group
    return run.score()


def test_running_statistics_are_the_mean_of_the_workers() -> None:
    def settled(group: Group) -> nn.BatchNorm2d:
        norm = nn.BatchNorm2d(2)
        norm.running_mean = torch.tensor([1.0, 2.0]) * (group.rank + 1)
        norm.running_var = torch.tensor([1.0, 4.0]) * (group.rank + 1)
        with torch.no_grad():
            norm.weight += 1e-7 * group.rank
        group.settle(norm)
        return norm

    for norm in together(settled):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.running_mean.tolist() == [1.5, 3.0]
        assert norm.running_var.tolist() == [1.5, 6.0]
        assert norm.weight.tolist() == [1.0, 1.0], "those of worker 0"


@pytest.mark.parametrize(("kind", "order"), [(Darts, 1), (Darts, 2), (Gdas, 0)])
def test_a_supernets_choices_are_the_same_at_all_workers(kind: type[Learned], order: int) -> None:
    """Paths, draws and gradients agree, so choices and weights are equal, bit for bit."""

    runs = [a_run(kind, order=order) for _ in range(2)]

    def run(group: Group) -> dict[str, Tensor]:
        made = runs[group.rank]
        made.group = group
        made.train_epoch()
        made.score()
        return made.pack().tensors

    first, second = together(run)
    for name, tensor in first.items():
        assert torch.equal(second[name], tensor), name
    assert any(name.startswith("choices.") for name in first)


def test_a_supernets_choices_learn_from_the_whole_batch() -> None:
    """Where no layer normalizes by its batch, a step of the choices is that of one worker."""
    runs = [a_run(Darts, order=2) for _ in range(3)]
    before = choices(runs[0])
    for run in runs:
        without_statistics(run)
    runs[2].train_epoch()

    def train(group: Group) -> int:
        runs[group.rank].group = group
        return runs[group.rank].train_epoch()

    assert together(train) == [128 * 5] * 2, "all workers' passes, in each"
    assert torch.allclose(choices(runs[0]), choices(runs[2]), atol=1e-6)
    assert not torch.allclose(choices(runs[0]), before, atol=1e-5)


def choices(run: SupernetRun) -> Tensor:
    return torch.cat([p.detach().flatten() for p in run.relaxation.parameters()])


def without_statistics(run: SupernetRun) -> None:
    """Let batch normalizations pass on what they get."""
    for module in run.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = lambda x: x  # type: ignore[method-assign]


# -- orders ----------------------------------------------------------------------------


def led(
    group: Group, *, until: int = 2, stop_after: int = 9, asked: int | None = None
) -> tuple[int, MemoryStore]:
    """The epochs that a worker trains. `asked`: the worker whose process is to end, after one."""
    store, run = MemoryStore(), plain_run(group, 64)
    if asked == group.rank:
        group.asked = lambda: run.epoch >= 1
    try:
        if group.leads:
            meter = Meter(store, "t", 1, group.size)
            with checkpoint.Uploads(store, "t", meter.kept) as uploads:
                train_epochs(
                    run,
                    until,
                    uploads,
                    meter,
                    lambda point: point.epoch < stop_after,
                    lambda done: None,
                    group=group,
                )
        else:
            follow_epochs(run, lambda done: None, lambda done: None, group)
    except Terminated:
        assert asked is not None
    return run.epoch, store


def test_no_worker_is_an_epoch_ahead_wherever_the_leader_ends() -> None:
    """Only worker 0 knows `until` and the order to stop: the others train what it orders."""
    for options in ({"until": 1}, {"until": 2}, {"stop_after": 1}):
        (first, _), (second, store) = together(lambda group, o=options: led(group, **o))
        assert first == second == options.get("until", 1)
        assert not list(store.list("")), "only worker 0 writes"


@pytest.mark.parametrize("asked", [0, 1])
def test_all_end_after_the_epoch_in_which_one_was_asked_to(asked: int) -> None:
    (first, store), (second, _) = together(lambda group: led(group, asked=asked))
    assert first == second == 1
    ledger = read_ledger(store, "t")
    assert (ledger.epochs_begun, ledger.epochs_done) == (1, 1), "charged once, and kept"


def test_a_loss_that_is_not_a_number_ends_all_workers() -> None:
    def run(group: Group) -> int:
        made = plain_run(group, 64)
        if group.rank == 1:  # it alone has a damaged sample
            part = made.train
            assert isinstance(part.images, Tensor)
            images = part.images.float() / 16
            images[:] = torch.nan
            made.train = Part(images, part.targets)
        if not group.leads:
            follow_epochs(made, lambda done: None, lambda done: None, group)
            return made.epoch
        meter = Meter(MemoryStore(), "t", 1)
        with checkpoint.Uploads(MemoryStore(), "t", meter.kept) as uploads:
            ended = train_epochs(
                made, 2, uploads, meter, lambda p: True, lambda d: None, group=group
            )
        assert ended.diverged
        return made.epoch

    assert together(run) == [0, 0]


def test_a_worker_that_is_lost_ends_the_others() -> None:
    """At the second epoch one leaves without a word, as if it were killed."""

    def run(group: Group) -> str:
        made = plain_run(group, 64)
        made.train_epoch()
        if group.rank == 1:
            group._processes = None
            return "left"
        try:
            made.train_epoch()
        except WorkerLost as error:
            return str(error)
        return "went on"

    said, left = together(run, seconds=1)
    assert left == "left"
    assert said.startswith("worker 0 lost its connection to another worker of the trial: ")


TWO = {"epochs": 2}


@pytest.mark.parametrize(
    "asked",
    [job(training={**TWO, "device": "cpu"}, fidelity=TWO), training("DARTS")],
    ids=["architecture", "supernet"],
)
def test_a_trial_of_two_workers_is_one_trial(asked: TrialJob) -> None:
    """Its result, its ledger and its checkpoint are written once."""
    store = MemoryStore()

    def run(group: Group) -> Any:
        if group.leads:
            return trial.run(asked, store, group=group)
        return trial.follow(asked, Unwritable(store), lambda d: None, lambda d: None, group)

    result, nothing = together(run)
    assert nothing is None
    assert result.outcome is Outcome.SUCCEEDED
    assert result.cost.epochs == 2
    assert result.metrics == result.curve[-1].metrics
    assert len(result.curve) == 2
    assert result.cost.device_seconds >= result.curve[-1].device_seconds > 0


class Unwritable(MemoryStore):
    """The same objects, which cannot be changed."""

    def __init__(self, of: MemoryStore) -> None:
        super().__init__()
        self.__dict__.update(of.__dict__)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        raise AssertionError(f"{key} was written by another worker than the first")

    def delete(self, key: str) -> None:
        raise AssertionError(f"{key} was deleted by another worker than the first")


# -- joining ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rank", "message"),
    [
        (0, "workers 1, 2 of 3 did not join within 0.2 s; see whether their pods run"),
        (2, "worker 2 of 3 did not reach worker 0 at 127.0.0.1:"),
    ],
)
def test_a_worker_that_never_joins_is_named(rank: int, message: str) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    with pytest.raises(WorkerLost, match=message) as raised:
        join(Place(rank, 3, "127.0.0.1", port, 0.2), CPU)
    code, said = end_of(raised.value, Terminator(Ending({})))
    assert code == WORKER_LOST_EXIT
    assert message in said


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as server:
        server.bind(("", 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(WorkerLost, match=f"worker 0 cannot listen on port {port}"):
            join(Place(0, 2, "127.0.0.1", port, 0.2), CPU)


# -- the environment -------------------------------------------------------------------


def test_without_its_variables_a_trial_has_one_worker() -> None:
    assert Place.of({}) is None
    assert Place.of({"KINASE_WORLD": "1"}) is None
    assert ALONE.tell("x") == "x"
    assert ALONE.send(b"x") == b"x"
    assert ALONE.leads


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"KINASE_WORLD": "two"}, "KINASE_WORLD is 'two'; it must be a whole number in 1..64"),
        ({"KINASE_WORLD": "65"}, "in 1..64"),
        ({"KINASE_RANK": ""}, "KINASE_RANK is ''; it must be a whole number in 0..1"),
        ({"KINASE_RANK": "2"}, "KINASE_RANK is '2'"),
        ({"KINASE_RENDEZVOUS": "host"}, "KINASE_RENDEZVOUS is 'host'; it must be HOST:PORT"),
        ({"KINASE_RENDEZVOUS": "host:0"}, "it must be HOST:PORT"),
        ({"KINASE_JOIN_SECONDS": "soon"}, "KINASE_JOIN_SECONDS is 'soon'; it must be a number"),
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(
    change: dict[str, str], message: str
) -> None:
    given = {"KINASE_WORLD": "2", "KINASE_RANK": "1", "KINASE_RENDEZVOUS": "[::1]:29500"}
    place = Place.of(given)
    assert place == Place(1, 2, "::1", 29500)
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        Place.of({**given, **change})
