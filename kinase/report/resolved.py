"""A manifest's spec with the defaults that depend on other fields, the task or a preset, so that
omitting a field equals setting its default."""

from __future__ import annotations

from typing import Any

from kinase.api.objective import Aim
from kinase.experiment.record import Record
from kinase.morphism.model import ROOM, Model
from kinase.space import Space
from kinase.space.cell import Cell
from kinase.space.mobilenet import MobileNet
from kinase.space.tree import Tree


def resolved(record: Record) -> dict[str, Any]:
    """The spec that an experiment runs, as plain data; what is not set and has no value that could
    be written out is left out."""
    spec = record.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    _goals(spec["objective"], record.aims)
    space = spec["space"]
    for name, options in _space(record.space.networks).items():
        if name in space:
            space[name] = {**options, **space[name]}
    _epochs(spec, record)
    for options in spec["training"]["optimizer"].values():
        if isinstance(options, dict):
            options.setdefault("decay", "weights")
    task = spec["task"]
    for name in ("typeOptions", "datasetOptions"):
        if task.get(name) == {}:
            del task[name]
    _, height, width = record.info.input
    if height == width:
        task.setdefault("resolution", height)
        if (lower := spec["estimation"].get("lowerFidelity")) is not None:
            lower.setdefault("resolution", task["resolution"])
    return spec


def _goals(objective: dict[str, Any], aims: tuple[Aim, ...]) -> None:
    for measure, aim in zip((objective, *objective.get("also", ())), aims, strict=True):
        measure["goal"] = aim.goal


def _epochs(spec: dict[str, Any], record: Record) -> None:
    spec["finalists"].setdefault("epochs", record.final_fidelity.epochs)
    estimation = spec["estimation"]
    if (lower := estimation.get("lowerFidelity")) is not None:
        lower.setdefault("epochs", record.fidelity.epochs)
        if record.fidelity.scale.cells is not None:
            lower.setdefault("cells", record.fidelity.scale.cells)
    if (morphism := estimation.get("morphism")) is not None:
        morphism.setdefault("epochsPerChild", record.child_fidelity.epochs)
    if (inherit := estimation.get("inherit")) is not None and record.estimator.child is not None:
        inherit.setdefault("epochsPerChild", record.child_fidelity.epochs)
        inherit.setdefault("firstEpochs", record.estimator.child.until)


def _space(space: Space) -> dict[str, dict[str, Any]]:
    """Defaults of a space's options, under the name of their struct."""
    if isinstance(space, Cell):
        scales = {"search": False, "evaluation": True}
        return {
            "cell": {
                "nodes": space.form.nodes,
                "ops": list(space.form.ops),
                "sameSource": space.form.same_source,
                "concat": space.form.concat,
                **{
                    name: {"cells": scale.cells, "filters": scale.filters}
                    for name, final in scales.items()
                    if (scale := space.scale(final=final)).cells is not None
                },
            }
        }
    if isinstance(space, Tree):
        o = space.options
        return {"tree": {"stem": o.widths[0], "evaluationCells": o.cells}}
    if isinstance(space, MobileNet):
        stages = [stage.model_dump(mode="json", by_alias=True) for stage in space.stages]
        return {"mobileNet": {"stages": stages, "expansions": list(space.options.all_expansions)}}
    if isinstance(space, Model) and (root := space.begins_with) is not None:
        return {"model": {"maxParams": ROOM * root.params(), "maxMacs": ROOM * root.macs()}}
    return {}
