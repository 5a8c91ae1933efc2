"""Groups of experiments that differ only in the seed, with short names made of the differences
between groups."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kinase.report.data import ReportData
from kinase.report.theme import brief, shorten
from kinase.words import counted

FREE = ("seed", "storage", "suspend", "retention", "trialTemplate", "controller")
"""Fields of the spec in which the runs of a group can differ."""
PLACES = ("task.path", "task.download")
"""Fields that locate the data, but do not define it."""
PILLARS = ("strategy", "estimation", "space")
"""Parts of the spec that are used first in a name."""
LONGEST = 28
"""Maximum characters of a value in a name."""
MOST_SHOWN = 8
"""Fields that are named where two searches cannot be compared."""

Options = dict[str, Any]
"""A spec as dotted fields, without splitting lists: `strategy.nash.morphisms`: 5."""


class Incomparable(ValueError):
    """Experiments cannot be compared, or not in the requested way."""


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that are shown as a group."""

    label: str
    runs: tuple[ReportData, ...]

    @property
    def under_way(self) -> int:
        """Number of unfinished runs."""
        return sum(under_way(run) for run in self.runs)


def under_way(run: ReportData) -> bool:
    """Whether an experiment has not ended."""
    return run.phase in ("Running", "Suspended")


def seed_of(run: ReportData) -> int:
    """The experiment's seed."""
    return int(run.spec.get("seed", 0))


def grouped(runs: Iterable[tuple[str, ReportData]]) -> list[Group]:
    """Runs by label, in the order of the labels, sorted by seed within a group.

    Raises:
        Incomparable: two runs differ in metric, goal, task, data or fidelity, or one is given
            twice.
    """
    found: dict[str, list[ReportData]] = {}
    for label, run in runs:
        found.setdefault(label, []).append(run)
    everything = [run for members in found.values() for run in members]
    places = [run.store_uri for run in everything if run.store_uri]
    for run in everything:
        if places.count(run.store_uri) > 1:
            raise Incomparable(f"{run.name} is given twice: {run.store_uri}")
        _check(everything[0], run)
    return [Group(label, tuple(sorted(members, key=seed_of))) for label, members in found.items()]


def named(runs: Sequence[ReportData], labels: Sequence[str] = ()) -> list[tuple[str, ReportData]]:
    """Each run with the name of its group.

    Args:
        runs: Experiments.
        labels: Names of the groups, in order. Default: made of the differences.

    Raises:
        Incomparable: the number of labels and groups differ, or a label is repeated.
    """
    each = [options(run) for run in runs]
    keys = [_key(one) for one in each]
    groups = dict(zip(keys, each, strict=True))
    names = _names(list(groups.values()))
    if labels:
        if len(labels) != len(names):
            raise Incomparable(
                f"{counted(len(labels), 'label')} for {counted(len(names), 'group')}; in this "
                "order they are: " + "; ".join(names)
            )
        if len(set(labels)) < len(labels):
            raise Incomparable(f"two groups have the same label: {'; '.join(labels)}")
        names = list(labels)
    label = dict(zip(groups, names, strict=True))
    return [(label[key], run) for key, run in zip(keys, runs, strict=True)]


def options(run: ReportData) -> Options:
    """The fields of an experiment's spec that determine its group."""
    spec = {key: value for key, value in run.spec.items() if key not in FREE}
    found = {k: v for k, v in _flat(spec).items() if not run.checksum or k not in PLACES}
    for pillar in PILLARS:
        if (name := found.get(f"{pillar}.custom.name")) is not None:
            found[f"{pillar}.type"] = name
    return found


def differences(groups: Sequence[Group]) -> list[tuple[str, list[str]]]:
    """(field, its value in each group) for every field of the spec in which groups differ."""
    each = [options(group.runs[0]) for group in groups]
    return [
        (field, [_text(one.get(field)) for one in each]) for field in _ordered(_differing(each))
    ]


def _flat(value: Any, path: str = "") -> Options:
    if not isinstance(value, dict):
        return {path: value}
    found: Options = {}
    for key, part in value.items():
        found |= _flat(part, f"{path}.{key}" if path else str(key))
    return found


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return str(value).lower() if isinstance(value, bool) else brief(value)


def _differing(each: Sequence[Options]) -> list[str]:
    fields = dict.fromkeys(field for one in each for field in one)
    return [field for field in fields if len({_key(one.get(field)) for one in each}) > 1]


def _ordered(fields: Sequence[str]) -> list[str]:
    """The pillars' types, then their options, then all else."""

    def rank(field: str) -> tuple[bool, int]:
        head, _, rest = field.partition(".")
        place = PILLARS.index(head) if head in PILLARS else len(PILLARS)
        return rest != "type" or place == len(PILLARS), place

    return sorted(fields, key=rank)


def _names(each: Sequence[Options]) -> list[str]:
    """A name for each group: its strategy, and the fewest other fields that distinguish it."""
    parts = [[str(one.get("strategy.type", "search"))] for one in each]

    def tell_apart(members: list[int]) -> None:
        fields = _ordered(_differing([each[i] for i in members]))
        if not fields:
            return

        def values(field: str) -> dict[int, str]:
            return {i: _key(each[i].get(field)) for i in members}

        kinds = [f"{pillar}.type" for pillar in PILLARS]
        chosen = (
            fields[0]
            if fields[0] in kinds
            else max(fields, key=lambda field: len(set(values(field).values())))
        )
        alike: dict[str, list[int]] = {}
        for i, value in values(chosen).items():
            if chosen != "strategy.type":  # every name has it
                parts[i].append(_named_value(chosen, each[i].get(chosen)))
            alike.setdefault(value, []).append(i)
        for some in alike.values():
            tell_apart(some)

    tell_apart(list(range(len(each))))
    names = [", ".join(part) for part in parts]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: i + 1].count(name)})"
        for i, name in enumerate(names)  # long values can have the same prefix
    ]


def _named_value(field: str, value: Any) -> str:
    """`morphisms 5`, `Full` for a type, `budget.epochs 600` outside of the pillars."""
    head, *rest = field.split(".")
    if head in PILLARS and rest == ["type"]:
        return str(value)
    # below the pillar's struct, and a custom member's `options`
    name = ".".join(rest[2 if rest[0] == "custom" else 1 :]) if head in PILLARS else field
    return f"no {name}" if value is None else f"{name} {shorten(_text(value), LONGEST)}"


def _check(a: ReportData, b: ReportData) -> None:
    """Raise an error if values of `a` and `b` are not comparable."""
    one, other = _meaning(a, b), _meaning(b, a)
    here, there = (a.name, b.name) if a.name != b.name else (a.store_uri, b.store_uri)
    found = [
        f"{field}: {_shown(one.get(field))} in {here}, {_shown(other.get(field))} in {there}"
        for field in dict.fromkeys([*one, *other])
        if _key(one.get(field)) != _key(other.get(field))
    ]
    if found:
        more = len(found) - MOST_SHOWN
        raise Incomparable(
            "\n  ".join(
                [
                    f"{here} and {there} cannot be compared, because these differ:",
                    *found[:MOST_SHOWN],
                    *([f"and {counted(more, 'more field')}"] if more > 0 else []),
                ]
            )
        )


def _shown(value: Any) -> str:
    """A value in a message."""
    return "not set" if value in (None, "") else shorten(_key(value), 60)


def _meaning(run: ReportData, other: ReportData) -> Mapping[str, Any]:
    """Everything that a value of an experiment depends on, except the architecture and how it was
    found.

    A child that inherits is trained for fewer epochs, which is a merit of its search; so only the
    fidelities of a network trained from scratch and of a finalist are included.
    """
    spec = _flat(run.spec)
    apart = {"training.device"}
    if run.checksum and other.checksum:
        apart.update(PLACES)
    found = {
        f"spec.{field}": value
        for field, value in spec.items()
        if field.startswith(("task.", "training.")) and field not in apart
    }
    epochs = spec.get("training.epochs")
    lower = "estimation.lowerFidelity."
    usual = {
        "epochs": epochs,
        "dataFraction": 1.0,
        "resolution": spec.get("task.resolution"),
        "filterFraction": 1.0,
        "cells": None,
    }
    if spec.get(f"{lower}cells") == spec.get("space.cell.search.cells"):
        spec.pop(f"{lower}cells", None)  # what the space has: no lower fidelity
    return {
        "spec.objective.metric": run.metric,
        "spec.objective.goal": run.goal,
        **found,
        **{f"spec.{lower}{key}": spec.get(lower + key, value) for key, value in usual.items()},
        "spec.finalists.epochs": spec.get("finalists.epochs", epochs),
        "the data's checksum": run.checksum if other.checksum else "",
    }
