"""A manifest's spec with the defaults that depend on other fields, the task or a preset, so that
omitting a field equals setting its default."""

from __future__ import annotations

from typing import Any

from kinase.api.objective import Aim
from kinase.experiment.loop import Loop
from kinase.morphism.model import ROOM, Model
from kinase.space import Space
from kinase.space.cell import Cell
from kinase.space.tree import Tree


def resolved(loop: Loop) -> dict[str, Any]:
    """The spec that an experiment runs, as plain data, without unset fields that have no default
    value."""
    spec = loop.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    _goals(spec["objective"], loop.aims)
    space = spec["space"]
    for name, options in _space(loop.space).items():
        if name in space:
            space[name] = {**options, **space[name]}
    _epochs(spec, loop)
    for options in spec["training"]["optimizer"].values():
        if isinstance(options, dict):
            options.setdefault("decay", "weights")
    task = spec["task"]
    for name in ("typeOptions", "datasetOptions"):
        if task.get(name) == {}:
            del task[name]
    _, height, width = loop.info.input
    if height == width:
        task.setdefault("resolution", height)
        if (lower := spec["estimation"].get("lowerFidelity")) is not None:
            lower.setdefault("resolution", task["resolution"])
    return spec


def _goals(objective: dict[str, Any], aims: tuple[Aim, ...]) -> None:
    for measure, aim in zip((objective, *objective.get("also", ())), aims, strict=True):
        measure["goal"] = aim.goal


def _epochs(spec: dict[str, Any], loop: Loop) -> None:
    spec["finalists"].setdefault("epochs", loop.final_fidelity.epochs)
    estimation = spec["estimation"]
    if (lower := estimation.get("lowerFidelity")) is not None:
        lower.setdefault("epochs", loop.fidelity.epochs)
        if loop.fidelity.scale.cells is not None:
            lower.setdefault("cells", loop.fidelity.scale.cells)
    if (morphism := estimation.get("morphism")) is not None:
        morphism.setdefault("epochsPerChild", loop.child_fidelity.epochs)


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
    if isinstance(space, Model) and (root := space.begins_with) is not None:
        return {"model": {"maxParams": ROOM * root.params(), "maxMacs": ROOM * root.macs()}}
    return {}
