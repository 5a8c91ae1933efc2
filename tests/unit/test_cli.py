"""The commands, and what they say to bad input."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from kinase.api import NASExperiment, forms
from kinase.api.quantity import QUANTITY
from kinase.cli import app
from kinase.space import InfeasibleError
from kinase.store.file import FileStore

MANIFEST = """\
apiVersion: kinase.dev/v1alpha1
kind: NASExperiment
metadata:
  name: tiny
spec:
  task: {dataset: digits}
  training: {epochs: 2, device: cpu}
  space: {type: Chain, chain: {maxDepth: 3}}
  strategy: {type: Random}
  budget: {trials: 3}
  finalists: {count: 1}
"""


def write(tmp_path: Path, text: str = MANIFEST, **changes: Any) -> Path:
    """A manifest, with dotted fields of its spec replaced; None takes one out."""
    document = yaml.safe_load(text)
    for dotted, value in changes.items():
        place = document["spec"]
        *parents, last = dotted.split("__")
        for name in parents:
            place = place.setdefault(name, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    document["spec"].setdefault("storage", {"uri": f"file://{tmp_path}/runs"})
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown field": (
        {"budgett": {"trials": 3}},
        r"spec\.budgett: unknown field 'budgett'; did you mean 'budget'\?",
    ),
    "a missing field": ({"strategy": None}, r"spec\.strategy: is missing; it must be set"),
    "a struct that does not fit the type": (
        {"space": {"type": "Chain", "cell": {}}},
        r"type is Chain, so the struct 'cell' must not be set",
    ),
    "an empty space": (
        {"space__chain": {"minDepth": 4, "maxDepth": 2}},
        r"minDepth 4 is above maxDepth 2: the space is empty",
    ),
    "no operations": ({"space__chain": {"ops": []}}, r"ops: has too few items; give 1 or more"),
    "a budget of nothing": ({"budget__trials": 0}, r"trials: 0 is too small; use at least 1"),
    "no budget": ({"budget": {"parallelism": 1}}, r"no limit is set: set at least one of"),
    "a budget too small for one trial": (
        {"budget": {"epochs": 3}},
        r"budget\.epochs 3 is too small.*it must be at least 4",
    ),
    "more at once than trials": (
        {"budget__parallelism": 4},
        r"parallelism 4 is above trials 3",
    ),
    "a fidelity above the full one": (
        {"estimation": {"type": "LowerFidelity", "lowerFidelity": {"epochs": 5}}},
        r"lowerFidelity\.epochs 5 is above the full fidelity's 2",
    ),
    "a folder of images without a size": (
        {"task": {"dataset": "folder", "path": "/data"}},
        r"spec\.task\.dataset: dataset is folder, so resolution must be set: the height and width",
    ),
    "a folder of images without a place": (
        {"task": {"dataset": "folder", "resolution": 8}},
        r"spec\.task\.dataset: dataset is folder, so path must be set",
    ),
    "a published data set without a place": (
        {"task": {"dataset": "mnist"}},
        r"spec\.task\.path: is not set; task\.dataset mnist needs the folder of its data",
    ),
    "a resolution above the full one": (
        {
            "task__resolution": 8,
            "estimation": {"type": "LowerFidelity", "lowerFidelity": {"resolution": 16}},
        },
        r"resolution 16 is above the full fidelity's 8",
    ),
    "cells of a chain": (
        {"estimation": {"type": "LowerFidelity", "lowerFidelity": {"cells": 2}}},
        r"cells requires the space type Cell; space\.type is Chain",
    ),
    "a metric that the task does not have": (
        {"objective": {"metric": "val_bleu", "target": 0.9}},
        r"'val_bleu' is not measured by task\.type Classification",
    ),
    "a target out of reach": (
        {"objective": {"target": 99.0}},
        r"target 99 is out of range: val_accuracy is a share in 0\.\.1; "
        r"use a value above 0 and at most 1",
    ),
    "a target that any network reaches": (
        {"objective": {"target": 0}},
        r"target 0 is out of range: val_accuracy is a share in 0\.\.1; "
        r"use a value above 0 and at most 1",
    ),
    "an error below 0": (
        {"objective": {"metric": "val_loss", "target": -1}},
        r"target -1 is out of range: val_loss is 0 or more$",
    ),
    "a data set that nobody knows": (
        {"task__dataset": "digitz"},
        r"spec\.task\.dataset: 'digitz' is not known; known: .*digits",
    ),
    "a population smaller than its sample": (
        {"strategy": {"type": "Evolution", "evolution": {"population": 5, "sample": 9}}},
        r"sample 9 is above population 5",
    ),
    "a strategy that nobody registers": (
        {"strategy": {"type": "Custom", "custom": {"name": "mine"}}},
        r"'mine' is not registered in the entry point group 'kinase\.strategies'",
    ),
    "a baseline that is not of the space": (
        {"baselines": [{"name": "b", "architecture": {"layers": [{"op": "conv3d"}]}}]},
        r"baselines\[0\]\.architecture: layers\[0\]\.op is 'conv3d'; use one of conv",
    ),
    "a published cell by a wrong name": (
        {
            "space": {"type": "Cell", "cell": {"preset": "nasnet"}},
            "baselines": [{"name": "b", "architecture": {"named": "NASNet"}}],
        },
        r"baselines\[0\]\.architecture: named is 'NASNet'; use one of NASNet-A, AmoebaNet-A",
    ),
    "a start that is not of the space": (
        {
            "strategy": {
                "type": "Evolution",
                "evolution": {"start": [{"layers": []}]},
            }
        },
        r"evolution\.start\[0\]: layers is 0; use a list of",
    ),
    "an even kernel": ({"space__chain": {"kernels": [4]}}, r"kernel sizes must be odd"),
    "a mistyped choice": (
        {"strategy": {"type": "Evolutoin"}},
        r"'Evolutoin' is not one of .*; did you mean 'Evolution'\?",
    ),
    "splits that leave nothing": (
        {"task__split": {"validation": 0.6, "test": 0.5}},
        r"leave nothing to train on",
    ),
    "not a number": (
        {"training__epochs": "many"},
        r"training\.epochs: 'many' is not a whole number",
    ),
    "a duration that is none": ({"budget__duration": "2 days"}, r"written like 90s, 5m or 1h30m"),
    "a URI that is none": ({"storage": {"uri": "/tmp/x"}}, r"storage\.uri: '/tmp/x' does not"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_with_a_reason(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = write(tmp_path, **changes)
    code, output = invoke("validate", path)
    assert code == 2
    assert re.search(message, output), output
    assert re.match(rf"{re.escape(str(path))}:\d+: spec", output), output
    code, output = invoke("run", path)
    assert code == 2
    assert re.search(message, output), output
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training__epochs": "many"}, "spec.training.epochs: 'many' is not a whole number"),
        ({"training__epochs": 1.5}, "spec.training.epochs: 1.5 is not a whole number"),
        ({"training__dropPath": "x"}, "spec.training.dropPath: 'x' is not a number"),
        ({"suspend": "yes"}, "spec.suspend: 'yes' is not true or false"),
        ({"task__path": 7}, "spec.task.path: 7 is not text; put it in quotes"),
        ({"training": 7}, "spec.training: 7 is not a mapping; write its fields below it"),
        ({"space__chain__ops": "conv"}, "spec.space.chain.ops: 'conv' is not a list; write [a, b]"),
        ({"task__path": ""}, "spec.task.path: is empty; it must have a value"),
        (
            {"objective": {"metric": "Top1"}},
            "spec.objective.metric: 'Top1' does not have the form of a metric: lower-case letters",
        ),
        (
            {"storage": {"uri": "/tmp/x"}},
            "spec.storage.uri: '/tmp/x' does not have the form of file://FOLDER or s3://BUCKET",
        ),
    ],
)
def test_a_value_of_another_type_is_said_in_plain_words(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    code, output = invoke("validate", "--no-data", write(tmp_path, **changes))
    assert code == 2
    assert message in output, output


def _patterns(node: Any) -> set[str]:
    found: set[str] = set()
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if key == "pattern" and isinstance(value, str):
            found.add(value)
        elif isinstance(value, dict | list):
            found |= _patterns(value)
    return found


def test_every_pattern_of_a_manifest_is_said_in_words() -> None:
    patterns = _patterns(NASExperiment.model_json_schema()) - {QUANTITY}  # says it itself
    assert len(patterns) > 5
    for pattern in patterns:
        assert forms.of(pattern) != pattern, pattern


def test_a_problem_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(MANIFEST.replace("trials: 3", "trials: -3"))
    code, output = invoke("validate", path)
    assert (code, output) == (
        2,
        f"{path}:10: spec.budget.trials: -3 is too small; use at least 1\n",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", r":1: is not valid YAML"),
        ("[" * 5000, r": lists or mappings are nested too deeply"),
        ("- 1\n", r"a manifest is a mapping"),
        (MANIFEST + "metadata: {name: twice}\n", r":12: metadata: is given twice, first in line 3"),
        (MANIFEST + "---\n" + MANIFEST, r"holds 2 documents of kind NASExperiment"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n" * 1, r"apiVersion: is missing"),
    ],
)
def test_a_file_that_is_no_manifest(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    code, output = invoke("validate", path)
    assert code == 2
    assert re.search(message, output), output


def test_aliases_do_not_blow_up(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    path = tmp_path / "m.yaml"
    path.write_text("\n".join(lines))
    code, output = invoke("validate", path)
    assert code == 2
    assert "aliases make the document too large" in output


def test_a_file_that_is_not_there() -> None:
    code, output = invoke("validate", "/nowhere/m.yaml")
    assert (code, output) == (2, "/nowhere/m.yaml: cannot be read: no such file or directory\n")


@pytest.mark.parametrize(
    ("task", "options", "line"),
    [
        ({}, (), "1,797 samples of 1x8x8 (channels, height, width): 1,079 training"),
        ({}, ("--no-data",), "the data was not read: --no-data was given"),
        (
            {"dataset": "npz", "path": "/nowhere/d.npz"},
            (),
            "the data was not read: task.path '/nowhere/d.npz' is not on this machine",
        ),
        (
            {"dataset": "cifar10", "path": "{tmp}", "download": True},
            (),
            "the data was not read: task.download is true, and it cannot be read from task.path "
            "'{tmp}' yet",
        ),
    ],
)
def test_validate_says_what_it_read(
    tmp_path: Path, task: dict[str, Any], options: tuple[str, ...], line: str
) -> None:
    task = {k: v.format(tmp=tmp_path) if isinstance(v, str) else v for k, v in task.items()}
    path = write(tmp_path, task=task, training__device="cuda")
    code, output = invoke("validate", path, *options)
    assert code == 0, output
    assert output.startswith(f"{path}: NASExperiment tiny is valid\n")
    assert f"\n{path}: {line.format(tmp=tmp_path)}" in output


def test_validate_refuses_data_that_run_would_refuse(tmp_path: Path) -> None:
    x, y = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2
    good, one_class, damaged = (tmp_path / name for name in ("g.npz", "o.npz", "d.npz"))
    np.savez(good, x=x, y=y, z=x)
    np.savez(one_class, x=x, y=0 * y)
    damaged.write_text("text")

    def said(data: Path) -> tuple[int, str, Path]:
        path = write(tmp_path, task={"dataset": "npz", "path": str(data)})
        return *invoke("validate", path), path

    code, output, path = said(good)
    assert code == 0, output
    assert f"{path}: 20 samples of 1x8x8" in output
    assert f"{path}: note: arrays that were passed over: z" in output
    code, output, path = said(one_class)
    assert code == 2
    assert output.startswith(f"{path}:6: spec.task: task.dataset 'npz'"), output
    assert output.count("\n") == 1
    code, output, path = said(damaged)
    assert code == 2
    assert output.startswith(f"{path}:8: spec.task.path: {damaged}"), output


def test_good_and_bad_files_in_one_call(tmp_path: Path) -> None:
    good = write(tmp_path)
    code, output = invoke("validate", good, "/nowhere/m.yaml")
    assert code == 2
    assert "NASExperiment tiny is valid" in output


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("", ["KIND:     NASExperiment", "spec", "<Object> -required-"]),
        ("spec.strategy", ["localSearch", "Type of the strategy."]),
        ("spec.budget.trials", ["<integer>", "BOUNDS:   >= 1, <= 1000000"]),
        ("spec.control.share", ["<number>", "DEFAULT:  0.2", "<= 0.5"]),
        ("spec.space.chain.ops", ["<[]string>", "sepconv"]),
    ],
)
def test_explain_prints_what_the_models_say(field: str, wanted: list[str]) -> None:
    code, output = invoke("explain", field)
    assert code == 0
    for text in wanted:
        assert text in output


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("spec.strategi", "spec has no field 'strategi'; did you mean spec.strategy?"),
        ("objective", "NASExperiment has no field 'objective'; did you mean spec.objective?"),
        ("objectiv.metric", "no field 'objectiv'; did you mean spec.objective?"),
        (
            "spec.batch_size",
            "spec has no field 'batch_size'; did you mean spec.training.batchSize or "
            "spec.space.training.batchSize?",
        ),
        ("spec.objective.trials", "no field 'trials'; did you mean spec.budget.trials"),
        ("spec.qqqq", "spec has no field 'qqqq'; fields: task, training, objective"),
    ],
)
def test_explain_helps_with_a_wrong_name(field: str, hint: str) -> None:
    code, output = invoke("explain", field)
    assert code == 2
    assert hint in output
    assert output.count("\n") == 1


def test_run_and_report(tmp_path: Path) -> None:
    """With a trainer that trains nothing; docs/quickstart-laptop.md is run with torch's."""
    path = write(tmp_path, budget={"trials": 5})
    code, output = invoke("run", path, "--trainer", "tests.fake_trainer")
    assert code == 0, output
    plain = " ".join(output.split())
    for text in ("winner", "test_accuracy", "random control", "kinase_trainer import load"):
        assert text in plain
    run = tmp_path / "runs/default/tiny"
    assert (run / "report.html").read_text().startswith("<!doctype html>")
    code, output = invoke("report", path, "--out", tmp_path / "again.html")
    assert code == 0, output
    assert "tiny" in (tmp_path / "again.html").read_text()


def test_the_accuracy_is_shown_where_the_loss_is_the_objective(tmp_path: Path) -> None:
    path = write(tmp_path, budget={"trials": 1}, objective={"metric": "val_loss"})
    code, output = invoke("run", path, "--trainer", "tests.fake_trainer")
    assert code == 0, output
    assert re.search(r"val_loss \d\.\d{4}, val_accuracy \d\.\d{4}", output), output
    assert re.search(r"validation +val_accuracy \d", output), output


def test_export(tmp_path: Path) -> None:
    """The winner, another trial, or what lies in a folder."""
    from kinase_trainer import load, trial
    from tests.trainer.helpers import job

    path = write(tmp_path)
    run = FileStore(tmp_path / "runs/default/tiny")
    for place in ("final", "trials/00003"):
        trial.run(job(kind="Final", keepWeights=True, prefix=place), run)
    card = json.loads(run.get("final/model.json"))
    folder = tmp_path / "runs/default/tiny/final"
    for source in ((path,), (path, "--trial", 3), (folder,)):
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        code, output = invoke("export", *source, "--format", "safetensors", "--out", out)
        assert code == 0, output
        names = ["weights.safetensors", "model.json", "architecture.json", "README.md"]
        assert output.split() == [f"{out}/{name}" for name in names]
        network, read = load(out)
        assert sum(p.numel() for p in network.parameters()) == read["params"] == card["params"]
    code, output = invoke("export", path, "--format", "keras", "--out", tmp_path / "none")
    assert code == 2
    assert "format 'keras' is not known" in output


def test_data_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path, task={"dataset": "cifar10", "path": str(tmp_path / "none")})
    code, output = invoke("run", path)
    assert code == 2
    assert f"task.path '{tmp_path}/none' does not exist" in output


def test_a_gpu_asked_for_where_none_is(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.xfail("this machine has a GPU")
    code, output = invoke("run", write(tmp_path, training__device="cuda"))
    assert code == 2
    assert "training.device is 'cuda', but torch finds no CUDA device here" in output


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = write(tmp_path, storage={"uri": f"file://{tmp_path}/file/runs"})
    code, output = invoke("run", path)
    assert code == 2
    assert "storage.uri" in output
    assert "file" in output
    assert "Traceback" not in output


def test_suspended_is_not_run(tmp_path: Path) -> None:
    code, output = invoke("run", write(tmp_path, suspend=True))
    assert code == 2
    assert "spec.suspend is true" in output


FAKE = ("--trainer", "tests.fake_trainer")


def test_a_larger_budget_goes_on_with_a_finished_search(tmp_path: Path) -> None:
    path = write(tmp_path, budget={"trials": 2})
    code, output = invoke("run", path, *FAKE)
    assert code == 0, output
    code, output = invoke("run", path, *FAKE, "--trials", 4)
    assert code == 0, output
    plain = " ".join(output.split())
    assert "resuming after 3 finished trials and an earlier end" in plain
    assert "4 trials were run" in plain
    run = tmp_path / "runs/default/tiny"
    entries = [e for f in sorted((run / "journal").iterdir()) for e in f.read_text().splitlines()]
    assert sum('"type":"finished"' in entry for entry in entries) == 2


def test_a_fresh_start_keeps_the_earlier_run(tmp_path: Path) -> None:
    path = write(tmp_path, budget={"trials": 2})
    for _ in range(2):
        code, output = invoke("run", path, "--fresh", *FAKE)
        assert code == 0, output
    assert f"the earlier run is kept in {tmp_path}/runs/default/tiny.1" in output
    assert "going on" not in output
    code, output = invoke("run", write(tmp_path, budget={"trials": 2}, seed=5), *FAKE)
    assert code == 2
    assert "spec.seed is 0 there and 5 here" in output
    assert "or start from scratch with --fresh" in output
    code, output = invoke("run", path, "--fresh", *FAKE)
    assert code == 0, output
    names = sorted(p.name for p in (tmp_path / "runs/default").iterdir())
    assert names == ["tiny", "tiny.1", "tiny.2"]


def test_a_task_that_could_not_be_described_can_be_corrected(tmp_path: Path) -> None:
    code, output = invoke("run", write(tmp_path, task__dataset="absent"), *FAKE)
    assert code == 2
    assert "task.dataset 'absent' does not exist" in output
    code, output = invoke("run", write(tmp_path, task__dataset="ok", training__epochs=1), *FAKE)
    assert code == 0, output


def test_init_refuses_a_path_that_is_not_utf8() -> None:
    code, output = invoke("init", "--data", os.fsdecode(b"a\xff"))
    assert (code, output) == (2, "--data 'a\\udcff' is not UTF-8, as a manifest is; rename it\n")


def test_init_refuses_images_that_are_too_small(tmp_path: Path, monkeypatch: Any) -> None:
    def infeasible(*_: Any) -> Any:
        raise InfeasibleError("a stride of 2 on 1x1")

    monkeypatch.setattr("kinase.cli.starting._look", lambda *_: None)
    monkeypatch.setattr("kinase.starter.plan", infeasible)
    code, output = invoke("init", "--data", "digits", "--out", tmp_path / "x.yaml")
    assert code == 2
    assert output.startswith("kinase: images of this size are too small: a stride of 2 on 1x1;")
