"""Checks of a manifest that need the members it names: spaces, strategies, architectures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kinase import registry
from kinase.api._base import struct_name
from kinase.api.experiment import NASExperiment
from kinase.api.ladder import ladder_of
from kinase.api.load import Document, ManifestError, Problem, parts, read_document, validate
from kinase.api.spec import ExperimentSpec
from kinase.api.task import PUBLISHED
from kinase.estimation import make_estimator
from kinase.estimation.rules import make_rule
from kinase.experiment.setting import setting_of
from kinase.space import ArchitectureError, make_space
from kinase.strategy import make_strategy
from kinase.strategy.base import FRAME

MEMBER_ERRORS = (registry.UnknownMember, ImportError, ValueError, TypeError)
"""Exceptions of a member that cannot be used."""


def check(experiment: NASExperiment, document: Document, trainer: str = "torch") -> list[Problem]:
    """Problems that the models cannot detect: a member that no package registers, options that it
    rejects, a baseline that is not in the space. Tasks and data sets are only checked for Kinase's
    own trainer."""
    spec = experiment.spec.settled()
    problems = []

    def problem(path: str, error: Exception) -> None:
        problems.append(document.problem(parts(path), str(error)))

    space = None
    try:
        space = make_space(spec.space)
        if spec.space.architecture is not None:
            space.validate(space.resolve(spec.space.architecture))
    except ArchitectureError as error:
        space = None
        problem("spec.space.architecture", error)
    except MEMBER_ERRORS as error:
        problem("spec.space.custom.name", error)
    if space is not None:
        begins = spec.strategy.evolution or spec.strategy.local_search
        begun = len(problems)
        for index, architecture in enumerate(begins.start if begins is not None else ()):
            try:
                space.validate(space.resolve(architecture))
            except ArchitectureError as error:
                problem(f"spec.strategy.{struct_name(spec.strategy.type)}.start.{index}", error)
        try:
            if len(problems) == begun:
                make_strategy(spec.strategy, space, spec.seed)
        except MEMBER_ERRORS as error:
            field = "type" if spec.strategy.custom is None else "custom.name"
            if isinstance(error, ArchitectureError) and spec.strategy.custom is None:
                field = f"{struct_name(spec.strategy.type)}.architecture"
            problem(f"spec.strategy.{field}", error)
        for index, baseline in enumerate(spec.baselines):
            try:
                space.validate(space.resolve(baseline.architecture))
            except ArchitectureError as error:
                problem(f"spec.baselines.{index}.architecture", error)
    stopping = spec.estimation.stopping
    try:
        if stopping is not None:
            make_rule(stopping, spec.seed)
    except MEMBER_ERRORS as error:
        field = "type" if stopping is None or stopping.custom is None else "custom.name"
        problem(f"spec.estimation.stopping.{field}", error)
    try:
        if space is not None and _known_yet(spec):
            # the task is not known yet: of another package's member only that it can be made
            within = spec.estimation.model_copy(update={"stopping": None})
            make_estimator(within, setting_of(spec, space, FRAME.input, FRAME.outputs))
        elif space is not None and (cells := space.scale(final=False).cells) is not None:
            _check_cells(spec, cells)
    except MEMBER_ERRORS as error:
        custom = spec.estimation.custom is not None
        field = "custom.name" if custom else struct_name(spec.estimation.type)
        problem(f"spec.estimation.{field}", error)
    ours = trainer == "torch" and not spec.trial_template.command
    for path, group, name in (
        ("spec.task.type", "kinase.tasks", spec.task.type),
        ("spec.task.dataset", "kinase.datasets", spec.task.dataset),
    ):
        known = registry.names(group)
        if ours and name not in known:
            problem(path, ValueError(f"{name!r} is not known; known: {', '.join(known)}"))
    if ours and spec.task.dataset in PUBLISHED and spec.task.path is None:
        problem(
            "spec.task.path",
            ValueError(
                f"is not set; task.dataset {spec.task.dataset} needs the folder of its data"
            ),
        )
    return problems


def _check_cells(spec: ExperimentSpec, cells: int) -> None:
    """Check a ladder of cells, whose number is known before the data is.

    Raises:
        ValueError: there would be one rung, or one above the full fidelity.
    """
    found = ladder_of(spec)
    if found is not None and found[1].axis == "cells":
        found[1].values(cells)


def _known_yet(spec: ExperimentSpec) -> bool:
    """Whether the estimation can be checked before the data and a given network are read: a ladder
    of networks or resolutions needs to know them."""
    found = ladder_of(spec)
    if found is None or found[1].axis in ("epochs", "data"):
        return True
    return spec.task.resolution is not None and spec.space.model is None


def with_changes(experiment: NASExperiment, changes: Mapping[str, Any]) -> NASExperiment:
    """A manifest with other values at dotted fields of its spec, such as `budget.trials`.

    Raises:
        ValidationError: a value is invalid for its field.
    """
    if not changes:
        return experiment
    document = experiment.model_dump(mode="json", by_alias=True, exclude_unset=True)
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        place = document["spec"]
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = value
    return NASExperiment.model_validate(document)


def load_checked(path: str | Path, trainer: str = "torch") -> NASExperiment:
    """Read, validate and check a manifest.

    Raises:
        ManifestError: holds every problem that was found.
    """
    return checked(read_document(path), trainer)


def checked(document: Document, trainer: str = "torch") -> NASExperiment:
    """Validate and check a document.

    Raises:
        ManifestError: holds every problem that was found.
    """
    experiment = validate(document)
    problems = check(experiment, document, trainer)
    if problems:
        raise ManifestError(problems)
    return experiment
