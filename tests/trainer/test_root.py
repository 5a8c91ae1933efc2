"""A search that begins with a network that one has: its weights, in every trial."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from kinase.api import Kind, Outcome, TaskJob, TrialJob
from kinase.api.model_space import ModelSpace
from kinase.api.task import Task, Training
from kinase.space import dump_graph
from kinase.store import open_uri
from kinase.store.memory import MemoryStore
from kinase_trainer import load, process, trial
from kinase_trainer import root as roots
from kinase_trainer.data import open_splits
from kinase_trainer.errors import ConfigError, CorruptModel
from tests.trainer.helpers import job, search

DIGITS = Task(dataset="digits")
TRAINING = Training.model_validate(
    {"epochs": 1, "device": "cpu", "optimizer": {"type": "SGD", "sgd": {"learningRate": 1e-9}}}
)
"""Learns nothing, so that what a network begins with is what is measured."""


class Small(nn.Module):
    """A small residual network, without statistics that a training moves."""

    def __init__(self, width: int = 6, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.body(x))
        out: Tensor = self.head(F.relu(self.last(x)).mean((2, 3)))
        return out


instance = Small()
nothing = "no network"


def broken() -> nn.Module:
    raise RuntimeError("out of paint")


def a_number() -> int:
    return 3


HERE = f"{__name__}:Small"


def options(**fields: Any) -> ModelSpace:
    return ModelSpace.model_validate({"from": "module", "name": HERE, **fields})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Weights that know the digits, and their accuracy on the validation part."""
    splits = open_splits(DIGITS)
    torch.manual_seed(0)
    network = Small()
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    x, y = splits.train.images, splits.train.targets
    for _ in range(8):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        found = network(splits.validation.images).argmax(1)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(network.state_dict(), path)
    return path, float((found == splits.validation.targets).float().mean())


def space(path: Path | None, **fields: Any) -> dict[str, Any]:
    own = {"from": "module", "name": HERE, "mean": [0], "deviation": [1], "noise": 0, **fields}
    return {"type": "Model", "model": own | ({"weights": str(path)} if path else {})}


def rooted(store: MemoryStore, made: dict[str, Any], **changes: Any) -> TrialJob:
    """A job whose root is there."""
    plain = job(space=made, training=TRAINING.model_dump(by_alias=True))
    info = trial.describe(plain.task, plain.training, plain.space, store)
    assert info.root is not None
    document = plain.model_dump(by_alias=True) | {"fidelity": {"epochs": 1}}
    document |= {"architecture": {"morphisms": []}, "root": info.root.files.model_dump()}
    return TrialJob.model_validate({**document, **changes})


def test_a_search_begins_at_the_accuracy_of_the_file(trained: tuple[Path, float]) -> None:
    path, accuracy = trained
    assert accuracy > 0.6
    store = MemoryStore()
    result = trial.run(rooted(store, space(path), keepWeights=True), store)
    assert result.metrics["val_accuracy"] == pytest.approx(accuracy)
    assert result.inherited is not None
    assert result.inherited.root
    assert result.inherited.share == 1.0
    assert result.inherited.morphisms == 0
    assert result.cost.epochs == 1

    grown = [
        {"op": "widen", "node": "stem", "to": 9},
        {"op": "kernel", "node": "last", "to": 5},
        {"op": "skip", "source": "relu", "node": "relu_1"},
    ]
    result = trial.run(rooted(store, space(path), architecture={"morphisms": grown}), store)
    assert result.metrics["val_accuracy"] == pytest.approx(accuracy)
    assert result.inherited is not None
    assert result.inherited.morphisms == 3


def test_the_exported_winner_needs_no_module(trained: tuple[Path, float]) -> None:
    store = MemoryStore()
    chain = [{"op": "widen", "node": "last", "to": 16}]
    own = rooted(store, space(trained[0]), architecture={"morphisms": chain}, keepWeights=True)
    trial.run(own, store)
    for key in list(store.list("root/")):
        store.delete(key)
    network, card = load(store.sub(own.prefix))
    assert card["root"]["output"] == "head"
    with torch.no_grad():
        assert network(torch.rand(3, 1, 8, 8)).shape == (3, 10)
    document = json.loads(store.get(f"{own.prefix}/model.json"))
    document["root"]["nodes"][1]["inputs"] = ["head"]
    store.put(f"{own.prefix}/model.json", json.dumps(document).encode())
    with pytest.raises(CorruptModel, match="cycle"):
        load(store.sub(own.prefix))


def test_a_search_grows_and_shrinks_it(trained: tuple[Path, float]) -> None:
    path, accuracy = trained
    loop = search(
        "model",
        training=TRAINING.model_dump(by_alias=True),
        space=space(path, steps=1, operations=["widen", "prune", "skip", "kernel"]),
        strategy={"type": "Evolution", "evolution": {"population": 3, "sample": 3}},
        estimation={
            "type": "Morphism",
            "morphism": {"noise": 0, "approximate": True, "distilEpochs": 1},
        },
        budget={"trials": 7},
        control={"share": 0.2},
        finalists={"count": 1, "epochs": 1},
        baselines=[{"name": "as-it-is", "architecture": {"morphisms": []}}],
    )
    children = 0
    for each in loop.state.told:
        assert each.outcome is Outcome.SUCCEEDED
        assert each.inherited is not None
        approximate = any(m["op"] == "prune" for m in each.architecture["morphisms"])
        if not approximate:  # exact all the way from the file
            assert each.metrics["val_accuracy"] == pytest.approx(accuracy, abs=0.003)
        if each.parents and each.kind is Kind.SEARCH:
            children += 1
            assert each.inherited.trial == each.parents[0]
            assert each.inherited.morphisms == 1
        else:
            assert each.inherited.root
            assert each.inherited.morphisms == len(each.architecture["morphisms"])
    assert children >= 2
    [baseline] = loop.state.of_kind(Kind.BASELINE)
    assert baseline.metrics["val_accuracy"] == pytest.approx(accuracy)


def test_another_task_has_another_end_and_beginning() -> None:
    """The digits have one channel and ten classes; this network is for three and seven."""
    store = MemoryStore()
    arguments = {"channels": 3, "classes": 7}
    own = options(arguments=arguments, seed=4)
    root = roots.make_root(own, (1, 8, 8), 10, store)
    state = load_tensors(store.get(f"root/{root.weights}.safetensors"))
    torch.manual_seed(4)
    module = Small(**arguments)
    assert torch.equal(state["nodes.body.weight"], module.body.weight)
    assert state["nodes.head.weight"].shape == (10, 12)
    assert 0.005 < float(state["nodes.head.weight"].std()) < 0.02
    assert not state["nodes.head.bias"].any()
    grey = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        found = F.conv2d(grey, state["nodes.stem.weight"], state["nodes.stem.bias"], padding=1)
        torch.testing.assert_close(found, module.stem(grey.expand(-1, 3, -1, -1)))
    assert roots.make_root(own, (1, 8, 8), 10, store) == root
    kept = roots.make_root(options(arguments={"channels": 3}, seed=4), (3, 8, 8), 10, store)
    state = load_tensors(store.get(f"root/{kept.weights}.safetensors"))
    torch.manual_seed(4)
    assert torch.equal(state["nodes.head.weight"], Small(channels=3).head.weight)


def test_a_network_may_be_written_in_the_manifest(tmp_path: Path) -> None:
    store = MemoryStore()
    root = roots.make_root(options(seed=4), (1, 8, 8), 10, store)
    state = load_tensors(store.get(f"root/{root.weights}.safetensors"))
    plain = {name.removeprefix("nodes."): tensor for name, tensor in state.items()}
    save_file(plain, tmp_path / "w.safetensors")
    inline = ModelSpace.model_validate(
        {"from": "graph", "graph": root.graph, "weights": f"file://{tmp_path}/w.safetensors"}
    )
    assert roots.make_root(inline, (1, 8, 8), 10, store) == root
    damaged = json.loads(root.text)
    damaged["nodes"][1]["inputs"] = ["head"]
    inline = ModelSpace.model_validate({"from": "graph", "graph": damaged})
    with pytest.raises(ConfigError, match=r"space\.model\.graph: the graph has a cycle"):
        roots.make_root(inline, (1, 8, 8), 10, store)


def test_a_network_of_torchvision(tmp_path: Path) -> None:
    fields = {
        "from": "torchvision",
        "name": "mobilenet_v2",
        "arguments": {"width_mult": 0.1, "inverted_residual_setting": [[1, 8, 1, 1]]},
    }
    store = MemoryStore()
    root = roots.make_root(ModelSpace.model_validate(fields), (1, 8, 8), 10, store)
    ops = {node["op"] for node in root.graph["nodes"]}
    assert {"conv", "batch_norm", "relu6", "dropout", "linear"} <= ops
    assert set(store.list("root/")) == {
        f"root/{root.files.graph}.json",
        f"root/{root.weights}.safetensors",
    }


class Averaged(nn.Module):
    """Ends as SqueezeNet does, in a convolution whose map is averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.end = nn.Conv2d(1, 4, 3, 2), nn.Conv2d(4, 7, 1)
        self.pool, self.drop = nn.MaxPool2d(2, ceil_mode=True), nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.end(self.drop(self.pool(F.leaky_relu(self.stem(x))))))
        return F.adaptive_avg_pool2d(x, 1).flatten(1)


def test_an_end_that_is_a_convolution_is_made_for_the_task() -> None:
    store = MemoryStore()
    own = ModelSpace.model_validate({"from": "module", "name": f"{__name__}:Averaged", "seed": 4})
    root = roots.make_root(own, (1, 8, 8), 10, store)
    state = load_tensors(store.get(f"root/{root.weights}.safetensors"))
    torch.manual_seed(4)
    module = Averaged()
    assert torch.equal(state["nodes.stem.weight"], module.stem.weight)
    assert state["nodes.end.weight"].shape == (10, 4, 1, 1)
    assert 0.005 < float(state["nodes.end.weight"].std()) < 0.02
    assert not state["nodes.end.bias"].any()


def test_auxiliary_heads_of_torchvision_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the network, and of a file of weights that has them."""
    made: dict[str, Any] = {}

    def make(**arguments: Any) -> nn.Module:
        made.update(arguments)
        return Small()

    monkeypatch.setattr(roots, "_torchvision", lambda name: make)
    own = Small().state_dict()
    save_file({**own, "aux1.fc2.weight": torch.zeros(3), "aux2.x": torch.ones(1)}, tmp_path / "w")
    fields = {"from": "torchvision", "name": "googlenet", "weights": f"{tmp_path}/w"}
    root = roots.make_root(ModelSpace.model_validate(fields), (1, 8, 8), 10, MemoryStore())
    assert made == {"weights": None, "aux_logits": False, "init_weights": True}
    assert not any("aux" in node["name"] for node in root.graph["nodes"])
    for name, message in (
        ("resnet18", "has 'aux1.fc2.weight', which the network has not"),
        ("inception_v3", "has 'aux1.fc2.weight', which the network has not"),
    ):
        other = ModelSpace.model_validate({**fields, "name": name})
        with pytest.raises(CorruptModel, match=message):
            roots.make_root(other, (1, 8, 8), 10, MemoryStore())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"from": "torchvision", "name": "googlenet", "arguments": {"aux_logits": True}},
            "aux_logits is true; .* leave it out",
        ),
        (
            {"from": "torchvision", "name": "googlenet", "arguments": {"transform_input": True}},
            r"transform_input is true; leave it out, .*mean: \[0.5\] and deviation: \[0.5\]",
        ),
        (
            {"from": "torchvision", "name": "resnet5"},
            "not a classifier of torchvision; use .*resnet50",
        ),
        ({"from": "torchvision", "name": "fcn_resnet50"}, "not a classifier of torchvision"),
        (
            {"from": "torchvision", "name": "resnet18", "arguments": {"weights": "DEFAULT"}},
            "nothing is downloaded",
        ),
        (
            {"from": "torchvision", "name": "resnet18", "arguments": {"wide": 3}},
            "cannot be made with arguments .*TypeError",
        ),
        ({"name": "no_such_package:make"}, "cannot be imported where the trainer runs"),
        ({"name": f"{__name__}:Smal"}, "there is no Smal; use one like Small"),
        ({"name": f"{__name__}:nothing"}, "is a str; use a torch.nn.Module"),
        ({"name": f"{__name__}:a_number"}, "made a int; it must return a torch.nn.Module"),
        ({"name": f"{__name__}:broken"}, "RuntimeError: out of paint"),
        ({"name": f"{__name__}:instance", "arguments": {"width": 3}}, "is a module already"),
        ({"mean": [0.1, 0.2, 0.3]}, "mean has 3 numbers; the images have 1 channels"),
        ({"weights": "/no/such/file.safetensors"}, "there is not a file /no/such/file.safetensors"),
    ],
)
def test_a_network_that_is_not_there(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        roots.make_root(options(**fields), (1, 8, 8), 10, MemoryStore())


class Bomb:
    """Goes off when it is unpickled."""

    def __reduce__(self) -> Any:
        return (sys.exit, ("unpickled",))


def test_weights_of_another_kind(tmp_path: Path) -> None:
    own = Small().state_dict()
    path = tmp_path / "w.safetensors"

    def refused(message: str) -> None:
        with pytest.raises(CorruptModel, match=message) as error:
            roots.make_root(options(weights=str(path)), (1, 8, 8), 10, MemoryStore())
        assert len(str(error.value)) < 600

    torch.save({"stem.weight": Bomb()}, path)
    refused("pickled file, which is never opened; use a safetensors file.*save_file")
    path.write_bytes(pickle.dumps(Bomb()))
    refused("pickled file, which is never opened")
    path.write_bytes(b"not much")
    refused("holds no tensors")
    save_file({**own, "head.weight": torch.zeros(5, 12)}, path)
    refused(r"'head.weight' of shape \(5, 12\), the network's is \(10, 12\)")
    save_file({n: t for n, t in own.items() if n != "body.bias"}, path)
    refused("has no 'body.bias', which the network has")
    save_file({**own, "extra": torch.zeros(1)}, path)
    refused("has 'extra', which the network has not")
    save_file({**own, "last.bias": torch.full((12,), float("nan"))}, path)
    refused("'last.bias' with a value that is not finite")
    save_file(own, path)
    path.write_bytes(path.read_bytes()[:-4])
    refused("is not the file|at bytes|other than")


def test_weights_may_lie_in_s3(
    trained: tuple[Path, float], s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ("KINASE_STORE", "KINASE_STORE_ENDPOINT", "KINASE_STORE_REGION")
    folder, endpoint, region = (s3[name] for name in place)
    monkeypatch.setenv("KINASE_STORE_ENDPOINT", endpoint)
    monkeypatch.setenv("KINASE_STORE_REGION", region)
    open_uri(folder, endpoint, region).put("small.safetensors", trained[0].read_bytes())
    store = MemoryStore()
    root = roots.make_root(options(weights=f"{folder}/small.safetensors"), (1, 8, 8), 10, store)
    assert root == roots.make_root(options(weights=str(trained[0])), (1, 8, 8), 10, store)
    with pytest.raises(ConfigError, match=r"there is not a file s3://.*/other\.safetensors"):
        roots.make_root(options(weights=f"{folder}/other.safetensors"), (1, 8, 8), 10, store)
    with pytest.raises(
        ConfigError, match=r"space\.model\.weights: 'ftp://.*' is not a URI of a store"
    ):
        roots.make_root(options(weights="ftp://host/w.safetensors"), (1, 8, 8), 10, store)


def test_what_lies_in_the_store_is_not_believed(trained: tuple[Path, float]) -> None:
    store = MemoryStore()
    own = rooted(store, space(trained[0]))
    assert own.root is not None
    weights, graph = (
        f"root/{own.root.weights}.safetensors",
        f"root/{own.root.graph}.json",
    )
    kept = store.get(weights)
    store.put(weights, kept[:-8] + b"\0" * 8)
    result = trial.run(own, store)
    assert result.inherited is not None
    assert not result.inherited.root
    assert "the first network's weights cannot be used" in result.inherited.message
    store.put(weights, kept)
    store.put(graph, store.get(graph).replace(b'"out":6', b'"out":7'))
    with pytest.raises(CorruptModel, match="is not the graph that the job names"):
        trial.run(own.model_copy(update={"prefix": "trials/00008"}), store)


@pytest.mark.parametrize(
    ("morphism", "message"),
    [
        ({"op": "widen", "node": "nowhere", "to": 8}, r"morphisms\[0\]: 'nowhere' is not a node"),
        ({"op": "widen", "node": "head", "to": 11}, "the number of classes is the task's"),
        ({"op": "cut", "node": "add", "input": "relu"}, r"op is cut; this space has"),
    ],
)
def test_a_morphism_that_does_not_fit_is_infeasible(morphism: dict[str, Any], message: str) -> None:
    store = MemoryStore()
    result = trial.run(rooted(store, space(None), architecture={"morphisms": [morphism]}), store)
    assert result.outcome is Outcome.INFEASIBLE
    assert message.replace("\\", "") in result.message


def test_the_process_answers_with_the_root(
    trained: tuple[Path, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = TaskJob.model_validate(
        {
            "experiment": "test",
            "task": {"dataset": "digits"},
            "training": {"device": "cpu"},
            "space": space(trained[0]),
        }
    )
    (tmp_path / "job.json").write_text(asked.model_dump_json(by_alias=True))
    at = ["--job", str(tmp_path / "job.json"), "--store", f"file://{tmp_path}/store"]
    assert process.main(at) == 0
    told = json.loads((tmp_path / "store/trainer.json").read_text())
    assert (tmp_path / f"store/root/{told['root']['weights']}.safetensors").is_file()
    assert told["root"]["graph"] == dump_graph(roots.trace(Small(), (1, 8, 8)).graph)
    wrong = asked.model_dump(by_alias=True)
    wrong["space"]["model"]["name"] = f"{__name__}:broken"
    (tmp_path / "job.json").write_text(json.dumps(wrong))
    assert process.main(at) == 2
    assert "out of paint" in capsys.readouterr().err
