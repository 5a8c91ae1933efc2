"""Export of trained networks: safetensors with a card, TorchScript, an exported program, and ONNX,
checked against the network."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinase.api import limits
from kinase.api.task import output_name
from kinase.store import NotFound, Store
from kinase.words import counted
from kinase_trainer.model import CARD, WEIGHTS, load
from kinase_trainer.network import Network

TOLERANCE = 1e-5
"""Largest difference of an output that an exported network may show, relative to the largest."""
BATCHES = (1, 3, 8)
"""Batch sizes with which an exported network is checked."""


class ExportError(RuntimeError):
    """An exported network does not compute what the trained one does."""


def export_network(source: Store, out: Path, formats: tuple[str, ...] = ()) -> list[Path]:
    """Write a trained network in each format.

    Args:
        source: store that holds `weights.safetensors` and `model.json`.
        out: folder, made if it does not exist.
        formats: any of `FORMATS`. Default: all.

    Raises:
        ValueError: a format is unknown.
        NotFound, CorruptModel: the network does not exist, or differs from its card.
        ExportError: an exported network computes something else.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ValueError(f"format {unknown[0]!r} is not known; use {', '.join(FORMATS)}")
    network, card = load(source)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name in formats or FORMATS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            written += FORMATS[name](network, card, source, out)
    return written


def _inputs(card: dict[str, Any]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(n, *card["input"], generator=generator) for n in BATCHES]


def _check(name: str, network: Network, card: dict[str, Any], run: Callable[[Tensor], Any]) -> None:
    """Compare with the trained network on random batches of several sizes."""
    outputs = output_name(card["task"])
    for images in _inputs(card):
        with torch.no_grad():
            wanted = network(images)
            found = torch.as_tensor(run(images))
        if found.shape != wanted.shape:
            raise ExportError(
                f"{name}: {outputs} of shape {tuple(found.shape)}, not {tuple(wanted.shape)}"
            )
        difference = float((found - wanted).abs().max())
        if not difference <= TOLERANCE * max(1.0, float(wanted.abs().max())):
            raise ExportError(f"{name}: {outputs} differ by {difference:.2e}, above {TOLERANCE:g}")


def _safetensors(network: Network, card: dict[str, Any], source: Store, out: Path) -> list[Path]:
    """Copy the weights and the card, and write the architecture and a README."""
    files = {
        WEIGHTS: source.get(WEIGHTS),
        CARD: source.get(CARD, limits.CARD),
        "architecture.json": json.dumps(card["architecture"], indent=1).encode(),
        "README.md": _readme(card, _measured(source)).encode(),
    }
    for name, data in files.items():
        (out / name).write_bytes(data)
    _check("safetensors", network, card, load(str(out))[0])
    return [out / name for name in files]


def _torchscript(network: Network, card: dict[str, Any], source: Store, out: Path) -> list[Path]:
    path = out / "model.torchscript.pt"
    traced = torch.jit.trace(network, _inputs(card)[-1])  # type: ignore[no-untyped-call]
    traced.save(str(path))
    loaded = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    _check("torchscript", network, card, loaded)
    return [path]


def _program(network: Network, card: dict[str, Any]) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    return torch.export.export(
        network, (_inputs(card)[1],), dynamic_shapes=({0: batch},), strict=False
    )


def _exported(network: Network, card: dict[str, Any], source: Store, out: Path) -> list[Path]:
    path = out / "model.pt2"
    torch.export.save(_program(network, card), path)
    _check("exported-program", network, card, torch.export.load(path).module())
    return [path]


def _onnx(network: Network, card: dict[str, Any], source: Store, out: Path) -> list[Path]:
    import onnxruntime

    path = out / "model.onnx"
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        _program(network, card),
        input_names=["images"],
        output_names=[output_name(card["task"])],
        verbose=False,
        external_data=False,
    )
    assert program is not None
    program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    _check("onnx", network, card, lambda x: session.run(None, {name: x.numpy()})[0])
    return [path]


FORMATS: dict[str, Callable[[Network, dict[str, Any], Store, Path], list[Path]]] = {
    "safetensors": _safetensors,
    "torchscript": _torchscript,
    "exported-program": _exported,
    "onnx": _onnx,
}


def _measured(source: Store) -> dict[str, Any]:
    """Additional facts about the winner from the experiment."""
    try:
        document: dict[str, Any] = json.loads(source.get("result.json"))
    except NotFound:
        return {}
    return document


TASKS = {
    "Classification": "classification",
    "MultiLabel": "several labels a sample",
    "Regression": "regression",
}
"""Names of the built-in tasks."""


def _outputs(card: dict[str, Any]) -> str:
    """How many outputs there are, and what they are."""
    task, count = card["task"], card["outputs"]
    if task == "Regression":
        return f"{counted(count, 'number')} in the units of the data"
    if task == "MultiLabel":
        return f"{counted(count, 'logit')}, whose sigmoids are probabilities"
    if task == "Classification":
        return f"{counted(count, 'logit')}, whose softmax is the probabilities of the classes"
    return f"{counted(count, 'output')}, as the task {task} takes them"


def _settings(training: dict[str, Any] | None) -> str:
    """The main settings of a training; nothing of an older card."""
    if training is None:
        return ""
    kind = training["optimizer"]["type"]
    options = training["optimizer"][kind.lower()]
    return (
        f", {kind}, learning rate {options['learningRate']:.4g}, weight decay "
        f"{options['weightDecay']:.4g}, batches of {training['batchSize']}"
    )


def _readme(card: dict[str, Any], measured: dict[str, Any]) -> str:
    """The model card for people."""
    channels, height, width = card["input"]
    outputs = output_name(card["task"])
    results = {**card["metrics"], **measured.get("test", measured.get("metrics", {}))}
    lines = [
        f"# {card['experiment']}, trial {card['trial']}",
        "",
        f"A network for {TASKS.get(card['task'], card['task'])} on {card['dataset']}, found by "
        f"Kinase {card['kinase']} in a {card['space']['type']} space.",
        "",
        f"- Input: float images in 0..1, shape (N, {channels}, {height}, {width}); the "
        "normalization is a part of the network.",
        f"- Output: {_outputs(card)}; in ONNX it is called `{outputs}`.",
        f"- Size: {card['params']:,} parameters, {card['macs']:,} multiply-adds an image.",
        f"- Training: {counted(card['epochs'], 'epoch')}{_settings(card.get('training'))}.",
        *(f"- {name}: {value:.4f}" for name, value in sorted(results.items())),
        "",
        "```python",
        "from kinase_trainer import load",
        'model, card = load(".")',
        f"{outputs} = model(images)",
        "```",
        "",
    ]
    return "\n".join(lines)
