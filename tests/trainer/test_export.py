from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from kinase.api.space import Space as SpaceModel
from kinase.space import make_space
from kinase.store import NotFound, Store
from kinase.store.memory import MemoryStore
from kinase_trainer import export as package
from kinase_trainer import load, trial
from kinase_trainer.export import FORMATS, ExportError
from tests.trainer.helpers import SMALL, job

PREFIX = "trials/00007"
DARTS = {
    "type": "Cell",
    "cell": {"preset": "darts", "nodes": 2, "search": {"cells": 3, "filters": 4}},
}
FABRIC = {"type": "Fabric", "fabric": {"layers": 3, "scales": 3, "channels": 4}}
NB201 = {
    "type": "Cell",
    "cell": {"preset": "nasbench201", "search": {"cells": 3, "filters": 4}},
}


def trained(name: str) -> Store:
    """A network trained for a moment, so that the statistics of its normalization are its own."""
    store = MemoryStore()
    scale = {"cells": 3, "filters": 4}
    changes: dict[str, Any] = {
        "chain": {"architecture": SMALL},
        "cells": {
            "space": DARTS,
            "architecture": make_space(SpaceModel.model_validate(DARTS)).sample(
                np.random.default_rng(4)
            ),
            "fidelity": {"epochs": 1, "dataFraction": 0.2, "scale": scale},
        },
        "nasbench201": {
            "space": NB201,
            "architecture": make_space(SpaceModel.model_validate(NB201)).sample(
                np.random.default_rng(0)
            ),
            "fidelity": {"epochs": 1, "dataFraction": 0.2, "scale": scale},
        },
        "fabric": {
            "space": FABRIC,
            "architecture": {
                "layers": [
                    [["same"], ["finer", "same"], []],
                    [["same", "coarser"], ["same", "above"], ["above"]],
                ]
            },
        },
    }[name]
    trial.run(job(kind="Final", keepWeights=True, **{"fidelity": {"epochs": 1}, **changes}), store)
    return store.sub(PREFIX)


@pytest.fixture(scope="module")
def chain() -> Store:
    return trained("chain")


def batches(shape: list[int]) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(77)
    return [torch.rand(n, *shape, generator=rng) for n in (1, 2, 17)]


def onnx(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].name == "images"
    assert session.get_outputs()[0].name == "logits"
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


READERS: dict[str, Callable[[Path], Callable[[torch.Tensor], torch.Tensor]]] = {
    "model.torchscript.pt": lambda path: torch.jit.load(str(path)),
    "model.pt2": lambda path: torch.export.load(path).module(),
    "model.onnx": onnx,
}


@pytest.mark.parametrize("name", ["chain", "cells", "nasbench201", "fabric"])
def test_every_format_gives_the_same_logits_at_any_batch_size(
    chain: Store, tmp_path: Path, name: str
) -> None:
    """All formats are the default; those of torch take longer, and are seen of two spaces."""
    source = chain if name == "chain" else trained(name)
    formats = () if name in ("chain", "cells") else ("onnx",)
    written = {path.name for path in trial.export(source, tmp_path, formats)}
    assert {path.name for path in tmp_path.iterdir()} == written
    assert written >= ({*READERS, "weights.safetensors"} if not formats else {"model.onnx"})
    network, card = load(source)
    loaded = [read(tmp_path / name) for name, read in READERS.items() if name in written]
    for images in batches(card["input"]):
        with torch.no_grad():
            wanted = network(images)
            for other in loaded:
                torch.testing.assert_close(other(images), wanted, rtol=0, atol=1e-5)


def test_safetensors_with_card_load_anew(chain: Store, tmp_path: Path) -> None:
    written = trial.export(chain, tmp_path / "new" / "folder", ("safetensors",))
    assert [path.name for path in written] == [
        "weights.safetensors",
        "model.json",
        "architecture.json",
        "README.md",
    ]
    network, card = load(tmp_path / "new" / "folder")
    images = torch.rand(3, *card["input"])
    assert torch.equal(network(images), load(chain)[0](images))
    assert json.loads(written[2].read_text()) == SMALL
    text = written[3].read_text()
    assert f"{card['params']:,} parameters" in text
    assert "1 epoch, SGD, learning rate 0.1, weight decay 0.0005, batches of 64." in text
    assert card["training"]["optimizer"]["sgd"]["momentum"] == 0.9
    assert "val_accuracy" in text
    assert "from kinase_trainer import load" in text


def test_a_format_that_computes_something_else_is_an_error(
    chain: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = onnxruntime.InferenceSession

    class Wrong:
        def __init__(self, *arguments: Any, **named: Any) -> None:
            self.inner = session(*arguments, **named)

        def get_inputs(self) -> Any:
            return self.inner.get_inputs()

        def run(self, names: Any, feeds: Any) -> Any:
            return [self.inner.run(names, feeds)[0] + 1e-3]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Wrong)
    with pytest.raises(ExportError, match=r"onnx: logits differ by 1\.00e-03, above 1e-05"):
        trial.export(chain, tmp_path, ("onnx",))


def test_an_unknown_format_is_refused_before_anything_is_written(
    chain: Store, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="format 'keras' is not known; use safetensors"):
        trial.export(chain, tmp_path / "out", ("onnx", "keras"))
    assert not (tmp_path / "out").exists()


def test_nothing_to_export_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        trial.export(MemoryStore(), tmp_path)


def test_formats_are_those_that_the_command_line_names() -> None:
    assert list(FORMATS) == ["safetensors", "torchscript", "exported-program", "onnx"]
    assert package.TOLERANCE == 1e-5


@pytest.mark.parametrize(
    ("task", "outputs", "said"),
    [
        ("Classification", "logits", "- Output: 10 logits, whose softmax is"),
        ("MultiLabel", "logits", "- Output: 10 logits, whose sigmoids are"),
        ("Regression", "predictions", "- Output: 10 numbers in the units of the data"),
        ("Angle", "outputs", "- Output: 10 outputs, as the task Angle takes them"),
    ],
)
def test_the_outputs_are_called_by_the_task(
    chain: Store, tmp_path: Path, task: str, outputs: str, said: str
) -> None:
    source = MemoryStore()
    source.put("weights.safetensors", chain.get("weights.safetensors"))
    card = {**json.loads(chain.get("model.json")), "task": task}
    source.put("model.json", json.dumps(card).encode())
    trial.export(source, tmp_path, ("safetensors", "onnx"))
    text = (tmp_path / "README.md").read_text()
    assert said in text
    assert f"in ONNX it is called `{outputs}`" in text
    assert f"\n{outputs} = model(images)\n" in text
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    assert [each.name for each in session.get_outputs()] == [outputs]
