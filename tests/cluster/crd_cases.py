"""Manifests that are accepted and manifests that are refused, for each rule of the API.

The models and the API server must agree on all of them.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kinase.api import NASExperiment
from kinase.api._base import struct_name
from kinase.api.crd import Schema, schema
from kinase.api.ladder import LADDERS
from kinase.api.supernet import LEARNED, Sampling

Manifest = dict[str, Any]
Changes = dict[str, Any]
"""Values by dotted field; `spec.` is left out where the field is not one of the metadata."""

BASE: Manifest = {
    "apiVersion": "kinase.dev/v1alpha1",
    "kind": "NASExperiment",
    "metadata": {"name": "case"},
    "spec": {
        "space": {"type": "Chain"},
        "strategy": {"type": "Random"},
        "budget": {"trials": 10},
    },
}


SPEC = schema(NASExperiment)["properties"]["spec"]


def manifest(changes: Changes) -> Manifest:
    """The smallest manifest, with changes."""
    result = copy.deepcopy(BASE)
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        place = result if parents[:1] == ["metadata"] else result["spec"]
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = copy.deepcopy(value)
    return result


@dataclass(frozen=True)
class Case:
    """A rule, by a manifest that keeps it and one that does not."""

    accepted: Changes
    refused: Changes
    names: str
    """What the refusal must name: the end of the field's path."""


IMAGES: Changes = {"task.dataset": "folder", "task.path": "/data", "task.resolution": 32}
ARRAYS: Changes = {"task.dataset": "npz", "task.path": "/data/d.npz"}
GRAPH = {"nodes": [{"name": "input"}, {"name": "out"}], "output": "out"}
"""As far as a manifest is checked."""


def network(**options: Any) -> Changes:
    own = {"from": "torchvision", "name": "resnet18", **options}
    return {"space": {"type": "Model", "model": {k: v for k, v in own.items() if v is not None}}}


def shrinking(**options: Any) -> Changes:
    """A supernet that is shrunk."""
    sampling = {"type": "OFA", "ofa": options}
    return {"estimation": {"type": "OneShot", "oneShot": {"sampling": sampling}}}


def mobile(**options: Any) -> Changes:
    """Stages of bottlenecks."""
    return {"space": {"type": "MobileNet", "mobileNet": options}}


def searched(**settings: Any) -> Changes:
    """A search for settings of the training."""
    return {"space.training": settings}


RATES = {"min": 0.001, "max": 0.1}


def morphism(**options: Any) -> dict[str, Any]:
    return {"type": "Morphism", "morphism": options}


def lemonade(**options: Any) -> Changes:
    strategy = {"type": "LEMONADE", "lemonade": options}
    return {"strategy": strategy, "objective.also": [{"metric": "params"}]}


def lower(**options: Any) -> Changes:
    return {"estimation": {"type": "LowerFidelity", "lowerFidelity": options}}


def rungs(kind: str, **options: Any) -> Changes:
    """An estimation that has a ladder."""
    return {"estimation": {"type": kind, LADDERS[kind]: options}}


def template(**fields: Any) -> Changes:
    return {f"trialTemplate.{name}": value for name, value in fields.items()}


def volume(**source: Any) -> Changes:
    return template(volumes=[{"name": "data", **source}])


def mount(path: str, **more: Any) -> Changes:
    scratch = [{"name": "data", "emptyDir": {}}]
    return template(volumes=scratch, volumeMounts=[{"name": "data", "mountPath": path}], **more)


def variable(**fields: Any) -> Changes:
    return template(env=[{"name": "A", **fields}])


SECRET = {"secretKeyRef": {"name": "s", "key": "k"}}
CLAIM = {"persistentVolumeClaim": {"claimName": "data"}}
DARTS = {"type": "Cell", "cell": {"preset": "darts"}}


def task(kind: str, metric: str, **fields: Any) -> Changes:
    """Of one of our tasks, with a metric of its own."""
    return {"task": {"type": kind, **fields}, "objective": {"metric": metric}}


def aimed(kind: str, metric: str, **objective: Any) -> Changes:
    return {"task": {"type": kind}, "objective": {"metric": metric, **objective}}


def further(kind: str, metric: str, **measure: Any) -> Changes:
    return aimed(kind, "params", also=[{"metric": metric, **measure}])


CASES: dict[str, Case] = {
    # limits of the networks
    "a limit is of what is counted before training": Case(
        {"objective.limits": [{"metric": "params", "most": 1_000_000}]},
        {"objective.limits": [{"metric": "val_accuracy", "most": 1}]},
        "objective.limits[0].metric",
    ),
    "a limit is at least 1": Case(
        {"objective.limits": [{"metric": "macs", "most": 1}]},
        {"objective.limits": [{"metric": "macs", "most": 0}]},
        "objective.limits[0].most",
    ),
    "limits are of different metrics": Case(
        {"objective.limits": [{"metric": "params", "most": 9}, {"metric": "macs", "most": 9}]},
        {"objective.limits": [{"metric": "params", "most": 9}, {"metric": "params", "most": 8}]},
        "objective.limits",
    ),
    "limits are left out or given": Case(
        {"objective": {"metric": "val_accuracy"}}, {"objective.limits": []}, "objective.limits"
    ),
    # tasks
    "classes are weighed where there are classes": Case(
        {"task": {"classification": {"weighting": "balanced"}}},
        task("Regression", "val_mae", classification={"weighting": "balanced"}),
        "task",
    ),
    "labels are weighed where there are labels": Case(
        task("MultiLabel", "val_map", multiLabel={"weighting": "balanced", "threshold": 0.3}),
        {"task": {"multiLabel": {"threshold": 0.3}}},
        "task",
    ),
    "numbers have a loss where there are numbers": Case(
        task("Regression", "val_rmse", regression={"loss": "huber"}),
        {"task": {"regression": {"loss": "huber"}}},
        "task",
    ),
    "a loss of numbers is known": Case(
        task("Regression", "val_r2", regression={"loss": "mae"}),
        task("Regression", "val_r2", regression={"loss": "l1"}),
        "loss",
    ),
    "weights are listed or balanced, classes": Case(
        {"task": {"classification": {"weights": [1, 2.5]}}},
        {"task": {"classification": {"weights": [1, 2.5], "weighting": "balanced"}}},
        "weights",
    ),
    "weights are listed or balanced, labels": Case(
        task("MultiLabel", "val_f1", multiLabel={"weights": [1, 2.5]}),
        task("MultiLabel", "val_f1", multiLabel={"weights": [1, 2], "weighting": "balanced"}),
        "weights",
    ),
    "a weight is above zero": Case(
        {"task": {"classification": {"weights": [0.1]}}},
        {"task": {"classification": {"weights": [1, 0]}}},
        "weights",
    ),
    "numbers have no labels to smooth": Case(
        {**task("Regression", "val_mae"), "training.labelSmoothing": 0},
        {**task("Regression", "val_mae"), "training.labelSmoothing": 0.1},
        "labelSmoothing",
    ),
    "a step of freeze-thaw ends before the training": Case(
        {"estimation": {"type": "FreezeThaw", "freezeThaw": {"every": 19}}},
        {"estimation": {"type": "FreezeThaw", "freezeThaw": {"every": 20}}},
        "freezeThaw.every",
    ),
    "settings are named": Case(searched(flip=True), searched(flip=False), "space.training"),
    "a setting has a range or values": Case(
        searched(learningRate={"values": [0.1, 0.01]}),
        searched(learningRate={**RATES, "values": [0.1, 0.01]}),
        "learningRate.values",
    ),
    "a range has both ends": Case(
        searched(batchSize={"min": 8, "max": 9}), searched(batchSize={"min": 8}), "batchSize.values"
    ),
    "the ends of a range are in order": Case(
        searched(weightDecay=RATES),
        searched(weightDecay={"min": 0.1, "max": 0.1}),
        "weightDecay.min",
    ),
    "zero has no logarithm": Case(
        searched(weightDecay={"min": 0, "max": 0.1, "scale": "linear"}),
        searched(weightDecay={"min": 0, "max": 0.1}),
        "weightDecay.min",
    ),
    "values differ": Case(
        searched(crop={"values": [0, 1]}), searched(crop={"values": [1, 1]}), "crop.values"
    ),
    "momentum is of SGD": Case(
        searched(momentum={"min": 0, "max": 0.9}),
        {
            **searched(momentum={"min": 0, "max": 0.9}),
            "training.optimizer": {"type": "AdamW"},
        },
        "space.training.momentum",
    ),
    "edges of cells are dropped": Case(
        {"space.type": "Cell", **searched(dropPath={"min": 0, "max": 0.3})},
        searched(dropPath={"min": 0, "max": 0.3}),
        "space.training.dropPath",
    ),
    "numbers have no labels to smooth in a search either": Case(
        {**task("Regression", "val_mae"), **searched(cutout={"min": 0, "max": 4})},
        {**task("Regression", "val_mae"), **searched(labelSmoothing={"min": 0, "max": 0.2})},
        "space.training.labelSmoothing",
    ),
    "a policy is of networks alone": Case(
        {"strategy": {"type": "Evolution"}, **searched(learningRate=RATES)},
        {"strategy": {"type": "EAS"}, **searched(learningRate=RATES)},
        "space.training",
    ),
    "a balanced accuracy is of classes": Case(
        aimed("Classification", "val_balanced_accuracy"),
        aimed("MultiLabel", "val_balanced_accuracy"),
        "objective.metric",
    ),
    "an error is of numbers": Case(
        aimed("Regression", "val_mae", goal="minimize"),
        aimed("Regression", "val_accuracy"),
        "objective.metric",
    ),
    "a further metric is of labels": Case(
        further("MultiLabel", "val_map"), further("MultiLabel", "val_mae"), "objective.also"
    ),
    "a further metric is of numbers": Case(
        further("Regression", "val_r2"), further("Regression", "val_f1"), "objective.also"
    ),
    "labels: shares are to be maximized": Case(
        aimed("MultiLabel", "val_auc", goal="maximize"),
        aimed("MultiLabel", "val_auc", goal="minimize"),
        "objective.goal",
    ),
    "labels: a loss is to be minimized": Case(
        aimed("MultiLabel", "val_loss", goal="minimize"),
        aimed("MultiLabel", "val_loss", goal="maximize"),
        "objective.goal",
    ),
    "labels: a share within reach": Case(
        aimed("MultiLabel", "val_map", target=0.9),
        aimed("MultiLabel", "val_map", target=90),
        "objective.target",
    ),
    "labels: a loss within reach": Case(
        aimed("MultiLabel", "val_loss", target=0),
        aimed("MultiLabel", "val_loss", target=-1),
        "objective.target",
    ),
    "labels: further shares are to be maximized": Case(
        further("MultiLabel", "val_f1", goal="maximize"),
        further("MultiLabel", "val_f1", goal="minimize"),
        "objective.also",
    ),
    "labels: a further loss is to be minimized": Case(
        further("MultiLabel", "val_loss", goal="minimize"),
        further("MultiLabel", "val_loss", goal="maximize"),
        "objective.also",
    ),
    "labels: enough of a share": Case(
        further("MultiLabel", "val_f1", enough=0.9),
        further("MultiLabel", "val_f1", enough=1.1),
        "objective.also",
    ),
    "labels: enough of a loss": Case(
        further("MultiLabel", "val_loss", enough=0.1),
        further("MultiLabel", "val_loss", enough=-0.1),
        "objective.also",
    ),
    "numbers: errors are to be minimized": Case(
        aimed("Regression", "val_rmse", goal="minimize"),
        aimed("Regression", "val_rmse", goal="maximize"),
        "objective.goal",
    ),
    "numbers: r2 is to be maximized": Case(
        aimed("Regression", "val_r2", goal="maximize"),
        aimed("Regression", "val_r2", goal="minimize"),
        "objective.goal",
    ),
    "numbers: an error within reach": Case(
        aimed("Regression", "val_mae", target=0),
        aimed("Regression", "val_mae", target=-0.5),
        "objective.target",
    ),
    "numbers: r2 within reach": Case(
        aimed("Regression", "val_r2", target=-3),
        aimed("Regression", "val_r2", target=1.5),
        "objective.target",
    ),
    "numbers: further errors are to be minimized": Case(
        further("Regression", "val_mae", goal="minimize"),
        further("Regression", "val_mae", goal="maximize"),
        "objective.also",
    ),
    "numbers: a further r2 is to be maximized": Case(
        further("Regression", "val_r2", goal="maximize"),
        further("Regression", "val_r2", goal="minimize"),
        "objective.also",
    ),
    "numbers: enough of an error": Case(
        further("Regression", "val_mae", enough=2),
        further("Regression", "val_mae", enough=-2),
        "objective.also",
    ),
    "numbers: enough of r2": Case(
        further("Regression", "val_r2", enough=1),
        further("Regression", "val_r2", enough=2),
        "objective.also",
    ),
    "r2 is no share for a policy's reward": Case(
        {
            **aimed("Regression", "val_r2"),
            "strategy": {"type": "EAS", "eas": {"reward": "identity"}},
        },
        {**aimed("Regression", "val_r2"), "strategy": {"type": "EAS"}},
        "reward",
    ),
    # names
    "a name of 46 characters": Case(
        {"metadata.name": "n" * 46}, {"metadata.name": "n" * 47}, "metadata.name"
    ),
    "a name that is a DNS label": Case(
        {"metadata.name": "a-1"}, {"metadata.name": "a.1"}, "metadata.name"
    ),
    # unions
    "a space's struct is that of its type": Case(
        {"space": {"type": "Cell", "cell": {}}}, {"space": {"type": "Chain", "cell": {}}}, "space"
    ),
    "a space has one struct": Case(
        {"space": {"type": "MultiBranch", "multiBranch": {}}},
        {"space": {"type": "MultiBranch", "multiBranch": {}, "chain": {}}},
        "space",
    ),
    "branches are of their own type": Case(
        {"space": {"type": "MultiBranch"}}, {"space": {**DARTS, "multiBranch": {}}}, "space"
    ),
    "a first network is of its own type": Case(
        network(), {"space": {**network()["space"], "type": "Chain"}}, "space"
    ),
    "a first network is named": Case(network(), {"space": {"type": "Model"}}, "space.model"),
    "a space of another package has a name": Case(
        {"space": {"type": "Custom", "custom": {"name": "towers"}}},
        {"space": {"type": "Custom"}},
        "space.custom",
    ),
    "a name beside a space of ours": Case(
        {
            "space": {
                "type": "Custom",
                "custom": {"name": "t", "options": {"any": [1, {"x": None}]}},
            }
        },
        {"space": {"type": "Chain", "custom": {"name": "t"}}},
        "space",
    ),
    "a strategy's struct is that of its type": Case(
        {"strategy": {"type": "Random", "random": {}}},
        {"strategy": {"type": "Evolution", "random": {}}},
        "strategy",
    ),
    "no hill climbing in an evolution": Case(
        {"strategy": {"type": "NASH", "nash": {"neighbours": 4}}},
        {"strategy": {"type": "Evolution", "nash": {}}},
        "strategy",
    ),
    "no large-scale evolution in a smaller one": Case(
        {"strategy": {"type": "LargeScaleEvolution", "largeScaleEvolution": {"population": 9}}},
        {"strategy": {"type": "Evolution", "largeScaleEvolution": {}}},
        "strategy",
    ),
    "no evolution in a local search": Case(
        {"strategy": {"type": "LocalSearch", "localSearch": {"initial": 3}}},
        {"strategy": {"type": "LocalSearch", "evolution": {}}},
        "strategy",
    ),
    "no local search in an evolution": Case(
        {"strategy": {"type": "Evolution"}},
        {"strategy": {"type": "Evolution", "localSearch": {}}},
        "strategy",
    ),
    "a strategy of another package has a name": Case(
        {"strategy": {"type": "Custom", "custom": {"name": "mine"}}},
        {"strategy": {"type": "Custom"}},
        "strategy.custom",
    ),
    "a name beside a strategy of ours": Case(
        {"strategy": {"type": "Custom", "custom": {"name": "mine", "options": {}}}},
        {"strategy": {"type": "Random", "custom": {"name": "mine"}}},
        "strategy",
    ),
    "full training has no lower fidelity": Case(
        lower(), {"estimation": {"type": "Full", "lowerFidelity": {}}}, "estimation"
    ),
    "lower fidelity is not full": Case(
        {"estimation": {"type": "Full", "full": {}}},
        {"estimation": {"type": "LowerFidelity", "full": {}}},
        "estimation",
    ),
    "what is chosen has no options of a type": Case(
        {"estimation": {"auto": {}}}, {"estimation": {"asha": {}}}, "estimation"
    ),
    "full training inherits nothing": Case(
        {"estimation": morphism()},
        {"estimation": {"type": "Full", "morphism": {}}},
        "estimation",
    ),
    "full training stops by learning curves": Case(
        {"estimation": {"type": "Full", "stopping": {"type": "LCNet", "lcNet": {"networks": 3}}}},
        {"estimation": {"type": "Full", "stopping": {"type": "LCNet", "baker": {}}}},
        "estimation.stopping",
    ),
    "what judges learning curves itself takes no rule": Case(
        {"estimation": {"type": "ASHA", "stopping": {"type": "Median", "probability": 0.01}}},
        {"estimation": {"type": "FreezeThaw", "stopping": {"type": "Median"}}},
        "estimation",
    ),
    "weights are inherited under a ladder": Case(
        {"estimation": {"type": "ASHA", "inherit": {"firstEpochs": 1, "epochsPerChild": 2}}},
        {"estimation": {"type": "Full", "inherit": {}}},
        "inherit",
    ),
    "weights are inherited where epochs rise": Case(
        {"estimation": {"type": "Hyperband", "inherit": {}}},
        {"estimation": {"type": "ASHA", "asha": {"axis": "data", "least": 0.1}, "inherit": {}}},
        "inherit",
    ),
    "a child is compared before its end": Case(
        {"estimation": {"type": "ASHA", "inherit": {"firstEpochs": 2, "epochsPerChild": 2}}},
        {"estimation": {"type": "ASHA", "inherit": {"firstEpochs": 3, "epochsPerChild": 2}}},
        "firstEpochs",
    ),
    "a child under a ladder trains for less than a beginner": Case(
        {"estimation": {"type": "ASHA", "inherit": {"epochsPerChild": 2}}},
        {"estimation": {"type": "ASHA", "inherit": {"epochsPerChild": 2000}}},
        "epochsPerChild",
    ),
    "a rule of another package has a name": Case(
        {"estimation": {"stopping": {"type": "Custom", "custom": {"name": "mine"}}}},
        {"estimation": {"stopping": {"type": "Custom"}}},
        "estimation.stopping",
    ),
    "an estimator of another package has a name": Case(
        {"estimation": {"type": "Custom", "custom": {"name": "mine"}}},
        {"estimation": {"type": "Custom"}},
        "estimation.custom",
    ),
    "a name beside an estimator of ours": Case(
        {"estimation": {}}, {"estimation": {"custom": {"name": "mine"}}}, "estimation"
    ),
    "an optimizer's struct is that of its type": Case(
        {"training.optimizer": {"type": "AdamW", "adamw": {"betas": [0.9, 0.99]}}},
        {"training.optimizer": {"adamw": {}}},
        "optimizer",
    ),
    "no momentum for AdamW": Case(
        {"training.optimizer": {"sgd": {}}},
        {"training.optimizer": {"type": "AdamW", "sgd": {}}},
        "optimizer",
    ),
    # the task and its metrics
    "a folder's own struct": Case(
        {**IMAGES, "task.folder": {"fit": "crop", "background": "#00ff7F"}},
        {**ARRAYS, "task.folder": {}},
        "folder",
    ),
    "a colour": Case(
        {**IMAGES, "task.folder": {"background": "#000000"}},
        {**IMAGES, "task.folder": {"background": "white"}},
        "background",
    ),
    "an archive's own struct": Case(
        {**ARRAYS, "task.npz": {"channels": "last"}},
        {**IMAGES, "task.npz": {}},
        "npz",
    ),
    "an order of axes": Case(
        {**ARRAYS, "task.npz": {"channels": "first"}},
        {**ARRAYS, "task.npz": {"channels": "NCHW"}},
        "channels",
    ),
    "where an archive lies": Case(ARRAYS, {"task.dataset": "npz"}, "path"),
    "where a folder lies": Case(IMAGES, {"task.dataset": "folder", "task.resolution": 32}, "path"),
    "the size of a folder's images": Case(
        IMAGES, {"task.dataset": "folder", "task.path": "/data"}, "resolution"
    ),
    "parts that leave something to train on": Case(
        {"task.split": {"validation": 0.5, "test": 0.49}},
        {"task.split": {"validation": 0.5, "test": 0.5}},
        "validation",
    ),
    "one large part": Case(
        {"task.split": {"validation": 0.7}}, {"task.split": {"test": 0.8}}, "split"
    ),
    "the task's metric": Case(
        {"objective": {"metric": "val_loss", "goal": "minimize"}},
        {"objective": {"metric": "val_bleu"}},
        "objective.metric",
    ),
    "a counted metric": Case(
        {"objective": {"metric": "params", "also": [{"metric": "val_accuracy"}]}},
        {"objective": {"metric": "latency"}},
        "objective.metric",
    ),
    "a loss is to be minimized": Case(
        {"objective": {"metric": "val_loss"}},
        {"objective": {"metric": "val_loss", "goal": "maximize"}},
        "objective.goal",
    ),
    "an accuracy is to be maximized": Case(
        {"objective.goal": "maximize"}, {"objective.goal": "minimize"}, "objective.goal"
    ),
    "another package's metric has any goal": Case(
        {"task.type": "Translation", "objective": {"metric": "val_loss", "goal": "maximize"}},
        {"task.type": "Translation", "objective": {"metric": "val_loss", "goal": "more"}},
        "objective.goal",
    ),
    "parameters are to be minimized": Case(
        {"objective": {"metric": "params", "goal": "minimize"}},
        {"task.type": "Translation", "objective": {"metric": "params", "goal": "maximize"}},
        "objective.goal",
    ),
    "a network has a parameter": Case(
        {"objective": {"metric": "params", "target": 1}},
        {"objective": {"metric": "params", "target": 0}},
        "objective.target",
    ),
    "a further accuracy is to be maximized": Case(
        {"objective": {"metric": "val_loss", "also": [{"metric": "val_accuracy"}]}},
        {
            "objective": {
                "metric": "val_loss",
                "also": [{"metric": "val_accuracy", "goal": "minimize"}],
            }
        },
        "objective.also",
    ),
    "enough of a share": Case(
        {
            "objective": {
                "metric": "val_loss",
                "also": [{"metric": "val_accuracy", "enough": 0.95}],
            }
        },
        {"objective": {"metric": "val_loss", "also": [{"metric": "val_accuracy", "enough": 95}]}},
        "objective.also",
    ),
    "a further loss is to be minimized": Case(
        {"objective.also": [{"metric": "val_loss", "goal": "minimize"}]},
        {"objective.also": [{"metric": "val_loss", "goal": "maximize"}]},
        "objective.also",
    ),
    "enough of a loss": Case(
        {"objective.also": [{"metric": "val_loss", "enough": 0}]},
        {"objective.also": [{"metric": "val_loss", "enough": -1}]},
        "objective.also",
    ),
    "further parameters are to be minimized": Case(
        {"objective.also": [{"metric": "params", "goal": "minimize"}]},
        {"objective.also": [{"metric": "params", "goal": "maximize"}]},
        "objective.also",
    ),
    "enough parameters": Case(
        {"objective.also": [{"metric": "macs", "enough": 1}]},
        {"objective.also": [{"metric": "macs", "enough": 0}]},
        "objective.also",
    ),
    "another package's task has its own metrics": Case(
        {"task.type": "Translation", "objective": {"metric": "val_bleu", "target": 30}},
        {"task.type": "Classification", "objective": {"metric": "val_bleu", "target": 30}},
        "objective.metric",
    ),
    "a further metric of the task": Case(
        {"objective.also": [{"metric": "val_loss"}, {"metric": "macs"}]},
        {"objective.also": [{"metric": "latency"}]},
        "objective.also",
    ),
    "a metric twice": Case(
        {"objective.also": [{"metric": "params"}]},
        {"objective.also": [{"metric": "val_accuracy"}]},
        "metric",
    ),
    "a further metric twice": Case(
        {"objective.also": [{"metric": "params"}, {"metric": "macs"}]},
        {"objective.also": [{"metric": "params"}, {"metric": "params", "enough": 3}]},
        "objective.also",
    ),
    "a target that is a share": Case(
        {"objective.target": 1}, {"objective.target": 1.01}, "objective.target"
    ),
    "a target above nothing": Case(
        {"objective.target": 0.001}, {"objective.target": 0}, "objective.target"
    ),
    "a loss below zero": Case(
        {"objective": {"metric": "val_loss", "target": 0}},
        {"objective": {"metric": "val_loss", "target": -3.5}},
        "objective.target",
    ),
    # spaces
    "depths": Case(
        {"space.chain": {"minDepth": 8}}, {"space.chain": {"minDepth": 9}}, "chain.minDepth"
    ),
    "odd kernels": Case(
        {"space.chain": {"kernels": [1, 15]}}, {"space.chain": {"kernels": [3, 4]}}, "chain.kernels"
    ),
    "nodes": Case(
        {"space": {"type": "MultiBranch", "multiBranch": {"minNodes": 2, "maxNodes": 2}}},
        {"space": {"type": "MultiBranch", "multiBranch": {"minNodes": 3, "maxNodes": 2}}},
        "multiBranch.minNodes",
    ),
    "odd kernels of branches": Case(
        {"space": {"type": "MultiBranch", "multiBranch": {"kernels": [1]}}},
        {"space": {"type": "MultiBranch", "multiBranch": {"kernels": [2]}}},
        "multiBranch.kernels",
    ),
    "a cell's inputs from one source": Case(
        {"space": {"type": "Cell", "cell": {"preset": "nasnet", "sameSource": False}}},
        {"space": {"type": "Cell", "cell": {"preset": "nasbench201", "sameSource": False}}},
        "cell.sameSource",
    ),
    "what a cell ends in": Case(
        {"space": {"type": "Cell", "cell": {"preset": "darts", "concat": "chosen"}}},
        {"space": {"type": "Cell", "cell": {"preset": "nasbench201", "concat": "all"}}},
        "cell.concat",
    ),
    "no tree in a chain": Case(
        {"space": {"type": "Tree", "tree": {"cells": 3}}},
        {"space": {"type": "Chain", "tree": {}}},
        "space",
    ),
    "branches of a tree": Case(
        {"space": {"type": "Tree", "tree": {"maxBranches": 2, "merges": ["concat"], "stem": 5}}},
        {"space": {"type": "Tree", "tree": {"maxBranches": 1}}},
        "tree.maxBranches",
    ),
    "layers of a whole network": Case(
        {"space": {"type": "Macro", "macro": {"layers": 48, "ops": ["max_pool_3x3"]}}},
        {"space": {"type": "Macro", "macro": {"layers": 49}}},
        "macro.layers",
    ),
    "operations of a choice block": Case(
        {"space": {"type": "ChoiceBlocks", "choiceBlocks": {"ops": ["skip_connect"]}}},
        {"space": {"type": "ChoiceBlocks", "choiceBlocks": {"ops": ["conv_3x3"]}}},
        "choiceBlocks.ops",
    ),
    "layers of a fabric": Case(
        {"space": {"type": "Fabric", "fabric": {"layers": 2, "scales": 1}}},
        {"space": {"type": "Fabric", "fabric": {"layers": 1}}},
        "fabric.layers",
    ),
    "no whole network in a chain": Case(
        {"space": {"type": "Macro", "macro": {"filters": 3}}},
        {"space": {"type": "Chain", "macro": {}}},
        "space",
    ),
    "no choice blocks in a chain": Case(
        {"space": {"type": "ChoiceBlocks", "choiceBlocks": {"maxOps": 1}}},
        {"space": {"type": "Chain", "choiceBlocks": {}}},
        "space",
    ),
    "no fabric in a chain": Case(
        {"space": {"type": "Fabric", "fabric": {"channels": 3}}},
        {"space": {"type": "Chain", "fabric": {}}},
        "space",
    ),
    "a phase of shrinking": Case(
        shrinking(largest=0, kernel=0, depth=[0, 0], width=[0, 1]),
        shrinking(largest=0, kernel=0, depth=[0, 0], width=[0, 0]),
        "ofa.largest",
    ),
    "the depths of a stage": Case(
        mobile(stages=[{"width": 8, "minDepth": 2, "maxDepth": 2}]),
        mobile(stages=[{"width": 8, "minDepth": 3, "maxDepth": 2}]),
        "mobileNet.stages",
    ),
    "odd windows of blocks": Case(
        mobile(kernels=[3, 9]), mobile(kernels=[3, 4]), "mobileNet.kernels"
    ),
    "a network by its name": Case(network(), network(graph=GRAPH), "model.from"),
    "a network that is written down": Case(
        network(**{"from": "graph"}, name=None, graph=GRAPH),
        network(**{"from": "graph"}, name=None),
        "model.from",
    ),
    "a name of torchvision": Case(network(), network(name="ResNet18"), "model.name"),
    "what makes a module": Case(
        network(**{"from": "module"}, name="my_package.networks:make"),
        network(**{"from": "module"}, name="my_package.networks"),
        "model.name",
    ),
    "an import path": Case(
        network(**{"from": "module"}, name="a.b:c.d"),
        network(**{"from": "module"}, name="a.b:c()"),
        "model.name",
    ),
    "weights that are not pickled": Case(
        network(weights="s3://bucket/w.safetensors"),
        network(weights="s3://bucket/w.pth"),
        "model.weights",
    ),
    "statistics of the same channels": Case(
        network(mean=[0.5], deviation=[0.2, 0.2, 0.2]),
        network(mean=[0.5, 0.5], deviation=[0.2, 0.2, 0.2]),
        "model.mean",
    ),
    "a factor that enlarges": Case(network(factors=[1.5]), network(factors=[1.0]), "factors"),
    "filters that are there": Case(
        {**network(), **lower(filterFraction=1.0)},
        {**network(), **lower(filterFraction=0.5)},
        "lowerFidelity.filterFraction",
    ),
    # strategies
    "a tournament from the population": Case(
        {"strategy": {"type": "Evolution", "evolution": {"population": 8, "sample": 8}}},
        {"strategy": {"type": "Evolution", "evolution": {"population": 8, "sample": 9}}},
        "evolution.sample",
    ),
    "those that are trained are of the children": Case(
        lemonade(children=5, accepted=5),
        lemonade(children=5, accepted=6),
        "lemonade.accepted",
    ),
    "an objective that needs no training": Case(
        {"strategy": {"type": "LEMONADE"}, "objective.also": [{"metric": "macs"}]},
        {"strategy": {"type": "LEMONADE"}, "objective.also": [{"metric": "val_loss"}]},
        "objective.also",
    ),
    "an objective that needs training": Case(
        lemonade(),
        {
            "strategy": {"type": "LEMONADE"},
            "objective": {"metric": "params", "also": [{"metric": "macs"}]},
        },
        "objective.metric",
    ),
    "another objective": Case(lemonade(), {"strategy": {"type": "LEMONADE"}}, "objective.also"),
    "no lemonade in an evolution": Case(
        lemonade(initial=2), {"strategy": {"type": "Evolution", "lemonade": {}}}, "strategy"
    ),
    "an episode has a step": Case(
        {"strategy": {"type": "EAS", "eas": {"widerSteps": 0, "deeperSteps": 1}}},
        {"strategy": {"type": "EAS", "eas": {"widerSteps": 0, "deeperSteps": 0}}},
        "eas.widerSteps",
    ),
    "no policy in an evolution": Case(
        {"strategy": {"type": "EAS", "eas": {"architecture": {"layers": [{"op": "conv"}]}}}},
        {"strategy": {"type": "Evolution", "eas": {}}},
        "strategy",
    ),
    "chains are made wider and deeper": Case(
        {"strategy": {"type": "EAS"}},
        {"strategy": {"type": "EAS"}, "space": DARTS},
        "strategy.type",
    ),
    "a tangent of an accuracy": Case(
        {
            "strategy": {"type": "EAS", "eas": {"reward": "identity"}},
            "objective": {"metric": "val_loss", "goal": "minimize"},
        },
        {"strategy": {"type": "EAS"}, "objective": {"metric": "val_loss", "goal": "minimize"}},
        "eas.reward",
    ),
    "no unfolding in an evolution": Case(
        {
            "strategy": {"type": "PathLevel", "pathLevel": {"batch": 5}},
            "space": {"type": "Tree"},
        },
        {"strategy": {"type": "Evolution", "pathLevel": {}}},
        "strategy",
    ),
    "cells are unfolded": Case(
        {"strategy": {"type": "PathLevel"}, "space": {"type": "Tree"}},
        {"strategy": {"type": "PathLevel"}},
        "strategy.type",
    ),
    "fabrics are pruned": Case(
        {"strategy": {"type": "Pruning"}, "space": {"type": "Fabric"}},
        {"strategy": {"type": "Pruning"}, "space": {"type": "Macro"}},
        "strategy.type",
    ),
    "a share of the edges": Case(
        {
            "strategy": {"type": "Pruning", "pruning": {"shares": [1, 0.5]}},
            "space": {"type": "Fabric"},
        },
        {
            "strategy": {"type": "Pruning", "pruning": {"shares": [0.5, 1.5]}},
            "space": {"type": "Fabric"},
        },
        "pruning.shares",
    ),
    "no pruning in an evolution": Case(
        {"strategy": {"type": "Evolution"}},
        {"strategy": {"type": "Evolution", "pruning": {}}},
        "strategy",
    ),
    "chains are not unfolded, nor trees made wider": Case(
        {"strategy": {"type": "EAS", "eas": {"batch": 5}}},
        {"strategy": {"type": "EAS"}, "space": {"type": "Tree"}},
        "strategy.type",
    ),
    "a tangent of an accuracy over trees": Case(
        {
            "strategy": {"type": "PathLevel", "pathLevel": {"reward": "identity"}},
            "space": {"type": "Tree"},
            "objective": {"metric": "val_loss", "goal": "minimize"},
        },
        {
            "strategy": {"type": "PathLevel"},
            "space": {"type": "Tree"},
            "objective": {"metric": "val_loss", "goal": "minimize"},
        },
        "pathLevel.reward",
    ),
    # estimation
    "epochs of a distillation": Case(
        {"estimation": morphism(approximate=True, distilEpochs=0)},
        {"estimation": morphism(approximate=True, distilEpochs=-1)},
        "morphism.distilEpochs",
    ),
    "epochs below the full training's": Case(
        {**lower(epochs=7), "training.epochs": 7},
        {**lower(epochs=8), "training.epochs": 7},
        "lowerFidelity.epochs",
    ),
    "epochs below the finalists'": Case(
        {**lower(epochs=9), "training.epochs": 7, "finalists.epochs": 9},
        {**lower(epochs=6), "training.epochs": 7, "finalists.epochs": 5},
        "lowerFidelity.epochs",
    ),
    "what decays": Case(
        {"training.optimizer": {"type": "SGD", "sgd": {"decay": "all"}}},
        {"training.optimizer": {"type": "SGD", "sgd": {"decay": "biases"}}},
        "sgd.decay",
    ),
    "epochs of a child below the full training's": Case(
        {"estimation": morphism(epochsPerChild=7), "training.epochs": 7},
        {"estimation": morphism(epochsPerChild=8), "training.epochs": 7},
        "morphism.epochsPerChild",
    ),
    "a learning rate that is one": Case(
        {"estimation": morphism(learningRateFactor=0.1)},
        {"estimation": morphism(learningRateFactor=0)},
        "learningRateFactor",
    ),
    "resolution below the task's": Case(
        {**lower(resolution=8), "task.resolution": 8},
        {**lower(resolution=9), "task.resolution": 8},
        "lowerFidelity.resolution",
    ),
    "cells of a cell space": Case(
        {**lower(cells=2), "space": DARTS}, lower(cells=2), "lowerFidelity.cells"
    ),
    # the budget
    "a limit": Case({"budget": {"duration": "1h"}}, {"budget": {"parallelism": 1}}, "budget"),
    "device hours are a limit": Case(
        {"budget": {"deviceHours": 0.5}}, {"budget": {"deviceHours": None}}, "budget"
    ),
    "no more at once than trials": Case(
        {"budget": {"trials": 4, "parallelism": 4}},
        {"budget": {"trials": 4, "parallelism": 5}},
        "budget.parallelism",
    ),
    "epochs for a trial and the finalists": Case(
        {"estimation": {"type": "Full"}, "budget": {"epochs": 80}},
        {"estimation": {"type": "Full"}, "budget": {"epochs": 79}},
        "budget.epochs",
    ),
    "epochs for the first rung, where a ladder is chosen": Case(
        {"budget": {"epochs": 61}}, {"budget": {"epochs": 60}}, "budget.epochs"
    ),
    "epochs for a trial, where a rule stops trials": Case(
        {"estimation": {"stopping": {"type": "Median"}}, "budget": {"epochs": 80}},
        {"estimation": {"stopping": {"type": "Median"}}, "budget": {"epochs": 79}},
        "budget.epochs",
    ),
    "epochs for a trial, where a ladder is too short": Case(
        {"training": {"epochs": 8}, "budget": {"epochs": 32}},
        {"training": {"epochs": 8}, "budget": {"epochs": 31}},
        "budget.epochs",
    ),
    "epochs for a trial of a trainer of one's own": Case(
        {"trialTemplate": {"command": ["train"]}, "budget": {"epochs": 80}},
        {"trialTemplate": {"command": ["train"]}, "budget": {"epochs": 79}},
        "budget.epochs",
    ),
    "epochs for a trial, where there are two objectives": Case(
        {"objective": {"also": [{"metric": "params"}]}, "budget": {"epochs": 80}},
        {"objective": {"also": [{"metric": "params"}]}, "budget": {"epochs": 79}},
        "budget.epochs",
    ),
    "epochs for a trial, where the strategy grows networks": Case(
        {"strategy": {"type": "LargeScaleEvolution"}, "budget": {"epochs": 80}},
        {"strategy": {"type": "LargeScaleEvolution"}, "budget": {"epochs": 79}},
        "budget.epochs",
    ),
    "epochs for a supernet, the finalists and the rank check": Case(
        {"estimation": {"type": "OneShot", "oneShot": {"check": 2}}, "budget": {"epochs": 120}},
        {"estimation": {"type": "OneShot", "oneShot": {"check": 2}}, "budget": {"epochs": 119}},
        "budget.epochs",
    ),
    "a rank check of candidates that are scored": Case(
        {"estimation": {"type": "OneShot", "oneShot": {"check": 1}}},
        {
            "strategy": {"type": "PCDARTS"},
            "estimation": {"type": "OneShot", "oneShot": {"check": 1}},
        },
        "oneShot.check",
    ),
    "epochs for a supernet, a candidate that is trained and the finalists": Case(
        {
            "strategy": {"type": "PCDARTS"},
            "estimation": {"type": "OneShot", "oneShot": {"epochs": 2}},
            "training": {"epochs": 3},
            "budget": {"epochs": 2 + 3 + 2 * 3},
            "finalists": {"count": 2},
        },
        {
            "strategy": {"type": "PCDARTS"},
            "estimation": {"type": "OneShot", "oneShot": {"epochs": 2}},
            "training": {"epochs": 3},
            "budget": {"epochs": 1 + 3 + 2 * 3},
            "finalists": {"count": 2},
        },
        "budget.epochs",
    ),
    "epochs for a cheap trial, the finalists and a baseline": Case(
        {
            **lower(epochs=2),
            "budget": {"epochs": 2 + 3 * 30},
            "finalists": {"count": 2, "epochs": 30},
            "baselines": [{"name": "b", "architecture": {}}],
        },
        {
            **lower(epochs=2),
            "budget": {"epochs": 1 + 3 * 30},
            "finalists": {"count": 2, "epochs": 30},
            "baselines": [{"name": "b", "architecture": {}}],
        },
        "budget.epochs",
    ),
    "a baseline's name": Case(
        {"baselines": [{"name": "a", "architecture": {"x": 1}}, {"name": "b", "architecture": {}}]},
        {"baselines": [{"name": "a", "architecture": {"x": 1}}, {"name": "a", "architecture": {}}]},
        "baselines",
    ),
    # durations
    **{
        f"a duration, not {bad!r}": Case(
            {"budget.duration": good}, {"budget.duration": bad}, "duration"
        )
        for good, bad in [
            ("90s", "90"),
            ("5m", "5 m"),
            ("1h30m", "1h-30m"),
            ("0h0m1s", "0h0m0s"),
            ("0.001s", "0.000s"),
            ("1.5s", "1.5h"),
            ("2h1s", "1s2h"),
            ("99999h", "100000h"),
            ("1m", "1d"),
            ("1s", ""),
            ("3s", "3s\n"),
            ("4s", "٤s"),
        ]
    },
    "a retention": Case({"retention.pods": "1h"}, {"retention.pods": "0s"}, "retention.pods"),
    "a trial's retention": Case(
        {"retention": {"trials": "24h", "experiment": "720h"}},
        {"retention": {"trials": "30d", "experiment": "720h"}},
        "retention.trials",
    ),
    "a time limit": Case(template(timeLimit="1s"), template(timeLimit="s"), "timeLimit"),
    # storage
    "a URI of a store": Case({"storage.uri": "s3://b/p"}, {"storage.uri": "/tmp"}, "storage.uri"),
    "a URL of a server": Case(
        {"storage.endpoint": "http://s3:9000"}, {"storage.endpoint": "s3:9000"}, "storage.endpoint"
    ),
    "a role or a Secret": Case(
        {"storage.roleArn": "arn:aws:iam::1:role/nas"},
        {"storage.roleArn": "arn:aws:iam::1:role/nas", "storage.credentialsSecret": "s3"},
        "storage.roleArn",
    ),
    "a role's token": Case(
        {"storage.roleArn": "arn:aws:iam::1:role/nas", "storage.tokenAudience": "nas"},
        {"storage.tokenAudience": "nas"},
        "storage.tokenAudience",
    ),
    "a role's service": Case(
        {"storage.roleArn": "arn:aws:iam::1:role/nas", "storage.stsEndpoint": "https://sts"},
        {"storage.stsEndpoint": "https://sts"},
        "storage.stsEndpoint",
    ),
    "a role": Case(
        {"storage.roleArn": "arn:aws:iam::1:role/nas"},
        {"storage.roleArn": "nas"},
        "storage.roleArn",
    ),
    # volumes
    "a volume of one source": Case(
        volume(**CLAIM), volume(**CLAIM, emptyDir={"medium": "Memory"}), "volumes"
    ),
    "a volume of any source": Case(
        volume(csi={"driver": "d", "volumeAttributes": {"a": "b"}}), volume(), "volumes"
    ),
    "a volume's name": Case(
        template(volumes=[{"name": "kinase", "emptyDir": {}}]),
        template(volumes=[{"name": "kinase-job", "emptyDir": {}}]),
        "name",
    ),
    "a volume twice": Case(
        template(volumes=[{"name": "a", **CLAIM}, {"name": "b", **CLAIM}]),
        template(volumes=[{"name": "a", **CLAIM}, {"name": "a", **CLAIM}]),
        "volumes",
    ),
    "a mount of a volume": Case(
        mount("/data"), template(volumeMounts=[{"name": "data", "mountPath": "/d"}]), "volumeMounts"
    ),
    "a mount of another volume": Case(
        {**mount("/data"), **volume(hostPath={"path": "/d", "type": "Directory"})},
        {**mount("/data"), "trialTemplate.volumes": [{"name": "other", "emptyDir": {}}]},
        "volumeMounts",
    ),
    "a place for a mount": Case(mount("/kinases"), mount("/kinase"), "mountPath"),
    "a place below ours": Case(mount("/data/kinase/"), mount("/kinase/job.json"), "mountPath"),
    "a place twice": Case(
        template(
            volumes=[{"name": "a", "emptyDir": {}}],
            volumeMounts=[{"name": "a", "mountPath": "/a"}, {"name": "a", "mountPath": "/b"}],
        ),
        template(
            volumes=[{"name": "a", "emptyDir": {}}],
            volumeMounts=[{"name": "a", "mountPath": "/a"}, {"name": "a", "mountPath": "/a"}],
        ),
        "volumeMounts",
    ),
    "shared memory by a volume": Case(
        mount("/dev/shm"), mount("/dev/shm", shmSize="1Gi"), "shmSize"
    ),
    "a cache in a volume that outlasts a pod": Case(
        {**volume(**CLAIM), "trialTemplate.cache": {"volume": "data"}},
        {**volume(emptyDir={}), "trialTemplate.cache": {"volume": "data"}},
        "cache.volume",
    ),
    "a cache that can be written to": Case(
        {**volume(hostPath={"path": "/d"}), "trialTemplate.cache": {"volume": "data"}},
        {
            **volume(persistentVolumeClaim={"claimName": "data", "readOnly": True}),
            "trialTemplate.cache": {"volume": "data", "size": "1Gi"},
        },
        "cache.volume",
    ),
    # the environment
    "a variable's value": Case(variable(value=""), variable(value="", valueFrom=SECRET), "value"),
    "a variable of no value": Case(variable(), template(env=[{"value": "x"}]), "name"),
    "a variable from a Secret": Case(
        variable(valueFrom=SECRET),
        variable(valueFrom={**SECRET, "fieldRef": {"fieldPath": "metadata.name"}}),
        "valueFrom",
    ),
    "a variable from a resource": Case(
        variable(valueFrom={"resourceFieldRef": {"resource": "limits.cpu"}}),
        variable(valueFrom={}),
        "valueFrom",
    ),
    "a variable's name": Case(
        template(env=[{"name": "MY_KINASE_"}]), template(env=[{"name": "KINASE_JOB"}]), "name"
    ),
    "a variable twice": Case(
        template(env=[{"name": "A"}, {"name": "B"}]),
        template(env=[{"name": "A"}, {"name": "A", "value": "1"}]),
        "env",
    ),
    "variables of a Secret": Case(
        template(envFrom=[{"prefix": "P_", "secretRef": {"name": "s"}}]),
        template(envFrom=[{"secretRef": {"name": "s"}, "configMapRef": {"name": "c"}}]),
        "envFrom",
    ),
    "variables of something": Case(
        template(envFrom=[{"configMapRef": {"name": "c", "optional": True}}]),
        template(envFrom=[{"prefix": "P_"}]),
        "envFrom",
    ),
    # scheduling
    "a toleration of any value": Case(
        template(tolerations=[{"key": "gpu", "operator": "Exists"}]),
        template(tolerations=[{"key": "gpu", "operator": "Exists", "value": "h100"}]),
        "value",
    ),
    "a toleration of everything": Case(
        template(tolerations=[{"operator": "Exists"}]),
        template(tolerations=[{"value": "h100"}]),
        "key",
    ),
    "a toleration for a while": Case(
        template(tolerations=[{"key": "a", "effect": "NoExecute", "tolerationSeconds": 60}]),
        template(tolerations=[{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 60}]),
        "tolerationSeconds",
    ),
    "a toleration of what is executed": Case(
        template(tolerations=[{"key": "a", "value": ""}]),
        template(tolerations=[{"key": "a", "tolerationSeconds": 60}]),
        "tolerationSeconds",
    ),
    "a resource's amount": Case(
        template(resources={"limits": {"nvidia.com/gpu": 1, "memory": "4Gi", "cpu": "1.5"}}),
        template(resources={"limits": {"nvidia.com/gpu": "one"}}),
        "nvidia.com/gpu",
    ),
    "a resource's request": Case(
        template(resources={"requests": {"cpu": "500m", "memory": "1e9"}}),
        template(resources={"requests": {"cpu": -1}}),
        "requests",
    ),
    "a resource's name": Case(
        template(resources={"limits": {"cpu": 0}}),
        template(resources={"limits": {"nvidia.com/": 1}}),
        "limits",
    ),
    # labels
    "a label": Case(
        template(labels={"kueue.x-k8s.io/queue-name": "team-a"}),
        template(labels={"kinase.dev/trial": "7"}),
        "labels",
    ),
    "an annotation": Case(
        template(annotations={"kinase.development/x": "any text: ü"}),
        template(annotations={"kinase.dev/job": "{}"}),
        "annotations",
    ),
    "a label's key": Case(
        template(labels={"a" * 63: ""}), template(labels={"a" * 64: ""}), "labels"
    ),
    "a label's value": Case(
        template(labels={"a": "B_1.c"}), template(labels={"a": "b c"}), "labels"
    ),
    "a node's label": Case(
        template(nodeSelector={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}),
        template(nodeSelector={"nvidia.com/gpu product": "x"}),
        "nodeSelector",
    ),
    "an empty key": Case(
        template(annotations={"a": ""}), template(annotations={"": "a"}), "annotations"
    ),
    # one type a value
    "a number is not text": Case({"budget.trials": 10}, {"budget.trials": "10"}, "budget.trials"),
    "a number with a fraction is not text": Case(
        {"training.labelSmoothing": 0}, {"training.labelSmoothing": "0.1"}, "labelSmoothing"
    ),
    "a number is no truth value": Case({"seed": 1}, {"seed": True}, "seed"),
    "a truth value is not text": Case({"suspend": False}, {"suspend": "yes"}, "suspend"),
    "a truth value is no number": Case({"suspend": True}, {"suspend": 1}, "suspend"),
    "a whole number": Case({"training.epochs": 20}, {"training.epochs": 20.5}, "epochs"),
    "text is no number": Case({"task.path": "7"}, {"task.path": 7}, "path"),
    "an amount is no fraction": Case(template(shmSize=1), template(shmSize=1.5), "shmSize"),
    "a missing struct": Case({"budget.epochs": 10_000}, {"space": {}}, "space.type"),
}

CASES |= {
    # ladders
    "an axis of its own has a least value": Case(
        rungs("ASHA", axis="data", least=0.1), rungs("ASHA", axis="data"), "least"
    ),
    "a proxy is named once": Case(
        {"estimation.screen": {"proxies": ["nwot", "synflow"]}},
        {"estimation.screen": {"proxies": ["nwot", "nwot"]}},
        "proxies",
    ),
    "rungs are listed or counted": Case(
        rungs("ASHA", rungs=[1, 4]), rungs("ASHA", rungs=[1, 4], least=1), "least"
    ),
    "the least of what is counted": Case(
        rungs("Hyperband", least=2), rungs("Hyperband", least=1.5), "least"
    ),
    "rungs of what is counted": Case(
        rungs("Hyperband", rungs=[2, 4]), rungs("Hyperband", rungs=[0.5, 4]), "rungs"
    ),
    "the least share": Case(
        rungs("ASHA", axis="filters", least=0.33),
        rungs("ASHA", axis="filters", least=0.34),
        "least",
    ),
    "rungs that are shares": Case(
        rungs("ASHA", axis="data", rungs=[0.1, 0.5]),
        rungs("ASHA", axis="data", rungs=[0.1, 1]),
        "rungs",
    ),
    "rungs ascend": Case(rungs("ASHA", rungs=[1, 2]), rungs("ASHA", rungs=[2, 1]), "rungs"),
    "a rung is given once": Case(
        rungs("SuccessiveHalving", rungs=[3]), rungs("SuccessiveHalving", rungs=[3, 3]), "rungs"
    ),
    "a horizon of epochs": Case(
        rungs("ASHA", horizon="rung"),
        rungs("ASHA", axis="data", least=0.1, horizon="rung"),
        "horizon",
    ),
    "a budget that pays for the first rung": Case(
        {**rungs("ASHA", least=4), "budget": {"epochs": 64 + 4}, "finalists.count": 1}
        | {"training.epochs": 64},
        {**rungs("ASHA", least=4), "budget": {"epochs": 64 + 3}, "finalists.count": 1}
        | {"training.epochs": 64},
        "budget.epochs",
    ),
    "a budget that pays for the first of the rungs": Case(
        {**rungs("Hyperband", rungs=[5, 9]), "budget": {"epochs": 64 + 5}, "finalists.count": 1}
        | {"training.epochs": 64},
        {**rungs("Hyperband", rungs=[5, 9]), "budget": {"epochs": 64 + 4}, "finalists.count": 1}
        | {"training.epochs": 64},
        "budget.epochs",
    ),
}
for kind, struct in LADDERS.items():
    CASES |= {
        f"{kind} of cells": Case(
            {**rungs(kind, axis="cells", least=1), "space": DARTS},
            rungs(kind, axis="cells", least=1),
            f"{struct}.axis",
        ),
        f"{kind} of filters": Case(
            rungs(kind, axis="filters", least=0.1),
            {**network(), **rungs(kind, axis="filters", least=0.1)},
            f"{struct}.axis",
        ),
        f"{kind} below the full epochs": Case(
            {**rungs(kind, rungs=[1, 6]), "training.epochs": 7},
            {**rungs(kind, rungs=[1, 7]), "training.epochs": 7},
            f"{struct}.rungs",
        ),
        f"{kind} below the full resolution": Case(
            {**rungs(kind, axis="resolution", rungs=[8]), "task.resolution": 9},
            {**rungs(kind, axis="resolution", rungs=[9]), "task.resolution": 9},
            f"{struct}.rungs",
        ),
        f"{kind} of two rungs of epochs": Case(
            {**rungs(kind, least=3, eta=5), "training.epochs": 15},
            {**rungs(kind, least=3, eta=5), "training.epochs": 14},
            f"{struct}.least",
        ),
        f"{kind} of two rungs of resolution": Case(
            {**rungs(kind, axis="resolution", least=3, eta=5), "task.resolution": 15},
            {**rungs(kind, axis="resolution", least=3, eta=5), "task.resolution": 14},
            f"{struct}.least",
        ),
    }
CASES |= {
    "a ladder that is left to its defaults": Case(
        {"estimation": {"type": "ASHA"}, "training.epochs": 3},
        {"estimation": {"type": "ASHA"}, "training.epochs": 2},
        "asha.least",
    ),
    "a ladder of whole rungs that is left to its defaults": Case(
        {"estimation": {"type": "Hyperband"}, "training.epochs": 3},
        {"estimation": {"type": "Hyperband"}, "training.epochs": 2},
        "hyperband.least",
    ),
}

UNTRAINED: dict[str, Any] = {"stopping": {"type": "Median"}, "screen": {"pool": 2}}
"""What is of candidates that are trained."""


def drawn(**sampling: Any) -> Changes:
    """A supernet whose architectures are drawn in a way."""
    return {"estimation": {"type": "OneShot", "oneShot": {"sampling": sampling}}}


CASES |= {
    f"the struct of another estimation, {struct}": Case(
        {"estimation": {"type": kind, struct: {}}},
        {"estimation": {"type": "Full", struct: {}}},
        struct,
    )
    for kind, struct in {
        **LADDERS,
        "FreezeThaw": "freezeThaw",
        "OneShot": "oneShot",
        "Auto": "auto",
    }.items()
}
CASES |= {
    f"the struct of another rule, {struct}": Case(
        {"estimation": {"stopping": {"type": kind, struct: {}}}},
        {"estimation": {"stopping": {"type": other, struct: {}}}},
        struct,
    )
    for kind, struct, other in (
        ("Domhan", "domhan", "Median"),
        ("LCNet", "lcNet", "Median"),
        ("Baker", "baker", "Median"),
        ("Median", "median", "Baker"),
    )
}
CASES |= {
    f"the struct of another strategy, {struct_name(kind)}": Case(
        {"strategy": {"type": kind, struct_name(kind): {}}},
        {"strategy": {"type": "Random", struct_name(kind): {}}},
        struct_name(kind),
    )
    for kind in ("BOHB", *(each for each in LEARNED if each != "Pruning"))
}
CASES |= {
    f"candidates that are not trained, {name}": Case(
        {"estimation": {"type": "Full", name: value}},
        {"estimation": {"type": "OneShot", name: value}},
        name,
    )
    for name, value in UNTRAINED.items()
}
CASES |= {
    f"a strategy that trains no candidates, {name}": Case(
        {"strategy": {"type": "DARTS"}, "estimation": {"type": "Auto"}},
        {"strategy": {"type": "DARTS"}, "estimation": {"type": "Auto", name: value}},
        name,
    )
    for name, value in UNTRAINED.items()
}
CASES |= {
    "choices are learned in a supernet": Case(
        {"strategy": {"type": "DARTS"}, "estimation": {"type": "OneShot"}},
        {"strategy": {"type": "DARTS"}, "estimation": {"type": "Full"}},
        "estimation.type",
    ),
    "what has no weights in the supernet begins from scratch": Case(
        {"strategy": {"type": "PCDARTS"}, "estimation": {"type": "OneShot"}},
        {
            "strategy": {"type": "PCDARTS"},
            "estimation": {"type": "OneShot", "oneShot": {"finalists": "inherit"}},
        },
        "oneShot.finalists",
    ),
    "the strategy says how choices are made": Case(
        drawn(type="Uniform"),
        {"strategy": {"type": "DARTS"}} | drawn(type="Uniform"),
        "oneShot.sampling",
    ),
}
CASES |= {
    f"the struct of another sampling, {struct_name(kind)}": Case(
        drawn(type=kind, **{struct_name(kind): {}}),
        drawn(type="Uniform", **{struct_name(kind): {}}),
        struct_name(kind),
    )
    for kind in Sampling.members()
}
CASES["the struct of another space, mobileNet"] = Case(
    {"space": {"type": "MobileNet", "mobileNet": {}}},
    {"space": {"type": "Chain", "mobileNet": {}}},
    "mobileNet",
)

UNKNOWN: dict[str, tuple[Changes, str]] = {
    "at the top": ({"budgett": {"trials": 1}}, "budgett"),
    "in a struct": ({"budget.trails": 10}, "trails"),
    "in an item": (template(env=[{"name": "A", "valeu": "1"}]), "valeu"),
    "of a pod": (template(securityContext={"runAsUser": 0}), "securityContext"),
}
"""Fields that there are none of."""

FREE = {"options", "architecture", "affinity", "csi", "ephemeral", "projected"}
"""Fields of free form."""


def beyond_bounds() -> Iterator[tuple[str, Manifest]]:
    """For every bound of a field of the spec, the field and a manifest that is beyond it."""
    for path, values in _beyond(SPEC, ()):
        for bound, value in values.items():
            yield f"{'.'.join(path)} {bound}", _with(SPEC, path, value)


def _beyond(node: Schema, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Changes]]:
    for name, below in node.get("properties", {}).items():
        yield from _beyond(below, (*path, name))
    if "items" in node:
        yield from _beyond(node["items"], (*path, "[]"))
    values: Changes = {}
    if "enum" in node:
        values["enum"] = "Nothing"
    if "minimum" in node:
        least = node["minimum"]
        values["minimum"] = least if node.get("exclusiveMinimum") else least - 1
    if "maximum" in node:
        most = node["maximum"]
        values["maximum"] = most if node.get("exclusiveMaximum") else most + 1
    if node.get("minLength"):
        values["minLength"] = ""
    if "maxLength" in node:
        values["maxLength"] = "a" * (node["maxLength"] + 1)
    if node.get("minItems"):
        values["minItems"] = []
    if "maxItems" in node:
        item = example(node["items"])
        values["maxItems"] = [copy.deepcopy(item) for _ in range(node["maxItems"] + 1)]
    if "maxProperties" in node:
        few = range(node["maxProperties"] + 1)
        values["maxProperties"] = {f"k{i}": example(node.get("additionalProperties")) for i in few}
    if values:
        yield path, values


def _with(node: Schema, path: tuple[str, ...], value: Any) -> Any:
    """A manifest of what must be there, and of a value at a path."""
    result = copy.deepcopy(BASE)

    def put(node: Schema, there: Any, path: tuple[str, ...]) -> Any:
        if not path:
            return value
        name, *rest = path
        if name == "[]":
            return [put(node["items"], example(node["items"]), tuple(rest))]
        below = node["properties"][name]
        result = {**there, name: put(below, there.get(name) or example(below), tuple(rest))}
        kind = name[0].upper() + name[1:]
        types = {t.lower(): t for t in node["properties"].get("type", {}).get("enum", ())}
        if kind.lower() in types:
            result["type"] = types[kind.lower()]
        return result

    result["spec"] = put(node, result["spec"], path)
    return result


def example(node: Schema | None) -> Any:
    """The smallest value of a schema."""
    if node is None:
        return 1
    if "enum" in node:
        return node["enum"][0]
    match node.get("type"):
        case "integer" | "number":
            return max(node.get("minimum", 1), 1)
        case "string":
            return "/a" if node.get("pattern", "").startswith("^/") else "a"
        case "array":
            return [example(node["items"])] * node.get("minItems", 0)
        case "object":
            return {name: example(node["properties"][name]) for name in node.get("required", ())}
    return 1


def random_manifest(rng: random.Random) -> Manifest:
    """A manifest of random fields, of which some break a rule."""
    result = copy.deepcopy(BASE)
    for name in rng.sample(list(SPEC["properties"]), rng.randint(1, 4)):
        result["spec"][name] = _random(SPEC["properties"][name], rng)
    return result


def _random(node: Schema, rng: random.Random) -> Any:
    if "enum" in node:
        return rng.choice(node["enum"])
    if "x-kubernetes-int-or-string" in node:
        return rng.choice([1, 0, "4Gi", "500m", "1.5", "1e3"])
    match node.get("type"):
        case "boolean":
            return rng.random() < 0.5
        case "integer":
            least, most = node.get("minimum", 0), node.get("maximum", 9)
            return rng.choice([least, most, *rng.choices(range(least, least + 40), k=8)])
        case "number":
            return rng.choice([0.1, 0.2, 0.5, 0.9, 1])
        case "string":
            fit = [w for w in _WORDS if re.search(node.get("pattern", ""), w)]
            return rng.choice(fit or _WORDS) if rng.random() < 0.99 else rng.choice(_WORDS)
        case "array":
            few = rng.randint(node.get("minItems", 0), min(node.get("maxItems", 3), 3))
            return [_random(node["items"], rng) for _ in range(few)]
        case "object" if "properties" in node:
            likely = rng.choice([0.1, 0.3, 0.5])
            found = {
                name: _random(below, rng)
                for name, below in node["properties"].items()
                if name in node.get("required", ()) or rng.random() < likely
            }
            structs = {n[0].upper() + n[1:]: n for n in node["properties"]}
            if found.get("type") in structs and rng.random() < 0.9:  # a union that fits
                mine = {"type", structs[found["type"]]}
                found = {n: value for n, value in found.items() if n in mine}
            return found
        case "object" if "type" in node.get("additionalProperties", ()):
            keys = rng.sample(_WORDS, rng.randint(0, 2))
            return {key: _random(node["additionalProperties"], rng) for key in keys}
    return {}


_WORDS = [
    "a",
    "b",
    "a-1",
    "A_1",
    "B",
    "1m",
    "90s",
    "1.5s",
    "/a",
    "/b",
    "example.com/a",
    "limits.cpu",
]
_WORDS += ["val_accuracy", "val_loss", "params", "macs", "Classification", "file://r", "s3://b"]
_WORDS += ["", "0s", "/kinase", "KINASE_A", "kinase-a", "x y", "kinase.dev/a", "http://s3"]
