"""Sub-networks of a trained network, found with a supernet, against uniform width scaling.

    python -m bench.sub_networks --seeds 3
    python -m bench.sub_networks --samples 1000 --epochs 3 --candidates 20   # a quick look

torchvision's resnet18 is trained on a part of Fashion-MNIST (see bench/fashion.py). Then two ways
lead to a network of at most half of its multiply-adds, with equal numbers of samples that are
passed forward and backward:

- sub-networks: its tensors are shrunk in their widths (relaxation OFA, no other phase), candidates
  are scored with their slices on the validation part, and the best one is trained further;
- uniform: all widths are scaled by one factor, the channels with the largest weights stay
  (`prune`), and that network is trained.

Scoring is forward only; its samples are reported, and are not part of the equal cost. Printed is
the accuracy on the test part, once for each way and seed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench import fashion
from kinase.api.model_space import ModelSpace
from kinase.api.supernet import Relaxation, SupernetPlan
from kinase.api.task import Task, Training
from kinase.morphism import load_chain
from kinase.morphism.model import Model
from kinase.space import Frame, derive_rng, load_graph
from kinase.store.memory import MemoryStore
from kinase_trainer import root as roots
from kinase_trainer.data import Part, Splits, open_splits, open_test
from kinase_trainer.morphism import inherit
from kinase_trainer.network import Network
from kinase_trainer.supernet.elastic import ElasticNetwork
from kinase_trainer.supernet.make import make_choices, make_extras
from kinase_trainer.supernet.recalibrate import recalibrate
from kinase_trainer.supernet.run import SupernetRun
from kinase_trainer.train import Run, evaluate, make_optimizer

SPACE = {
    "from": "torchvision",
    "name": "resnet18",
    "operations": ["prune"],
    "factors": [1.25, 1.5, 2],
    "steps": 14,
    "maxMorphisms": 64,
}
DEVICE = torch.device("cpu")


def settings(epochs: int, rate: float) -> Training:
    """SGD with a cosine."""
    sgd = {"learningRate": rate, "momentum": 0.9, "weightDecay": 5e-4}
    return Training.model_validate(
        {
            "epochs": epochs,
            "batchSize": 100,
            "device": "cpu",
            "optimizer": {"type": "SGD", "sgd": sgd},
            "augmentation": {"flip": True},
        }
    )


def trained(
    network: Network, splits: Splits, train: Part, epochs: int, rate: float, seed: int
) -> int:
    """Train a network; return the samples passed."""
    training = settings(epochs, rate)
    run = Run(
        model=network,
        optimizer=make_optimizer(network, training),
        task=splits.learning,
        training=training,
        device=DEVICE,
        train=train,
        validation=splits.validation,
        epochs=epochs,
        seed=seed,
    )
    return sum(run.train_epoch() for _ in range(epochs))


def accuracy(network: Network, splits: Splits, part: Part) -> float:
    """Share of correct predictions."""
    return evaluate(network, splits.learning, part, settings(1, 0.1), DEVICE)["accuracy"]


class Comparison:
    """One seed."""

    def __init__(self, options: argparse.Namespace, splits: Splits, test: Part, seed: int) -> None:
        """Build the network and its space."""
        self.options, self.splits, self.test, self.seed = options, splits, test, seed
        self.train = splits.train.subset(torch.arange(options.samples))
        space = ModelSpace.model_validate({**SPACE, "seed": seed})
        _, channels, height, width = self.train.images.shape
        root = roots.make_root(space, (channels, height, width), splits.outputs, MemoryStore())
        self.graph = load_graph(root.graph)
        self.space = Model(space).rooted(self.graph)
        self.frame = Frame((channels, height, width), splits.outputs)
        self.most = self.graph.macs() // 2

    def run(self) -> dict[str, Any]:
        """Both ways."""
        o = self.options
        torch.manual_seed(self.seed)
        first = Network(self.graph, self.splits.mean, self.splits.deviation)
        trained(first, self.splits, self.train, o.epochs, 0.05, self.seed)
        state = {name: tensor.clone() for name, tensor in first.state_dict().items()}
        found: dict[str, Any] = {
            "seed": self.seed,
            "macs": self.graph.macs(),
            "trained": accuracy(first, self.splits, self.test),
        }
        passed, more = self._sub_network(state)
        found |= more
        epochs = round(passed / len(self.train))
        scaled, share = self._scaled(state)
        trained(scaled, self.splits, self.train, epochs, 0.02, self.seed)
        return found | {
            "uniform": accuracy(scaled, self.splits, self.test),
            "uniform macs": share,
            "samples": passed,
        }

    def _sub_network(self, state: dict[str, Tensor]) -> tuple[int, dict[str, Any]]:
        o = self.options
        elastic = self.space.elastic(self.frame)
        assert elastic is not None
        network = ElasticNetwork(elastic, self.splits.mean, self.splits.deviation)
        network.load_state_dict(state)
        ofa = {"largest": 0, "kernel": 0, "depth": [0, 0], "width": [0, 1], "networks": [1, 1, 2]}
        plan = Relaxation.model_validate({"type": "OFA", "ofa": ofa})
        choices = make_choices(plan, None, self.space, self.seed)
        training = settings(o.shrink, 0.02)
        run = SupernetRun(
            model=network,
            optimizer=make_optimizer(network, training, paths=True),
            task=self.splits.learning,
            training=training,
            device=DEVICE,
            train=self.train,
            validation=self.splits.validation,
            epochs=o.shrink,
            seed=self.seed,
            relaxation=choices.relaxation,
            held=self.train,
            extras=make_extras(SupernetPlan(relaxation=plan), choices.relaxation)[:1],
        )
        passed = sum(run.train_epoch() for _ in range(o.shrink))
        best, count, draw = (-1.0, {}), 0, 0
        while count < o.candidates:
            architecture = self.space.sample(derive_rng(self.seed, draw))
            draw += 1
            macs = self.space.graph(architecture, self.frame).macs()
            if not 0.8 * self.most <= macs <= self.most:
                continue
            count += 1
            network.follow(architecture)
            alone = network.standing_alone()
            recalibrate(alone, [images for images, _ in self._some()])
            best = max(
                best,
                (accuracy(alone, self.splits, self.splits.validation), architecture),
                key=lambda each: each[0],
            )
        network.follow(best[1])
        alone = network.standing_alone()
        recalibrate(alone, [images for images, _ in self._some()])
        at_once = accuracy(alone, self.splits, self.test)
        passed += trained(alone, self.splits, self.train, o.further, 0.02, self.seed)
        macs = self.space.graph(best[1], self.frame).macs()
        return passed, {
            "sub-network, not trained further": at_once,
            "sub-network": accuracy(alone, self.splits, self.test),
            "sub-network macs": macs / self.graph.macs(),
            "scored": count,
        }

    def _some(self) -> list[tuple[Tensor, Tensor]]:
        """Training images for the statistics."""
        return list(self.train.read(torch.arange(min(500, len(self.train))), 250))

    def _scaled(self, state: dict[str, Tensor]) -> tuple[Network, float]:
        """The network with all widths scaled by the largest factor that halves its cost."""
        widths = {
            place["node"]: int(node.attrs["out"])
            for place in self.space._candidates({"morphisms": []})["prune"]
            for node in self.graph
            if node.name == place["node"]
        }
        for percent in range(75, 0, -1):
            chain: list[dict[str, Any]] = []
            graph = self.graph
            for name, width in widths.items():
                to = round(width * percent / 100)
                now = next(int(n.attrs["out"]) for n in graph if n.name == name)
                if to < now:  # not tied to one that was scaled before
                    chain.append({"op": "prune", "node": name, "to": to})
                    graph = self.space.graph({"morphisms": chain}, self.frame)
            if graph.macs() <= self.most:
                break
        child = inherit(self.graph, state, load_chain(chain))
        network = Network(child.graph, self.splits.mean, self.splits.deviation)
        network.load_state_dict(child.state)
        return network, child.graph.macs() / self.graph.macs()


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--samples", type=int, default=fashion.SAMPLES, help="of the training part")
    parser.add_argument("--epochs", type=int, default=6, help="of the whole network")
    parser.add_argument("--shrink", type=int, default=4, help="epochs of the supernet")
    parser.add_argument("--further", type=int, default=4, help="epochs of the sub-network")
    parser.add_argument("--candidates", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = fashion.whole_test(Path(folder))
        task = Task.model_validate({"dataset": "npz", "path": str(path)})
        splits, (test, _) = open_splits(task), open_test(task)
        for seed in range(options.seeds):
            print(json.dumps(Comparison(options, splits, test, seed).run()), flush=True)


if __name__ == "__main__":
    main()
