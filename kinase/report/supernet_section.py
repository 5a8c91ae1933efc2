"""What the report's section on a supernet shows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from kinase.api.choices import ChoicesHistory
from kinase.api.trial import Architecture, Cost, Kind
from kinase.experiment.trial_record import RANK_CHECK
from kinase.report.control import best_of, sign, value_of, valued
from kinase.report.data import ReportData, ReportTrial
from kinase.report.ranking import Ranking, ranking
from kinase.report.supernet import ReportSupernet
from kinase.words import counted

SKIPS = frozenset({"skip_connect", "skip", "identity"})
"""Options that pass a map on as it is."""
NONE = "none"
PARTS = 8
"""Maximum number of parts of a space whose choices are shown."""
DERIVED = 20
"""Maximum number of derived architectures in the table."""
WATCHED = ("supernet_skips", "supernet_entropy", "supernet_eigenvalue")
"""Metrics of the watch."""


@dataclass(frozen=True, slots=True)
class Part:
    """Groups of choices with the same options, such as the edges of the normal cell."""

    name: str
    groups: tuple[str, ...]
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Derivation:
    """A derived architecture and its candidate."""

    architecture: Architecture
    score: float
    """How sure the choices are of it."""
    trial: ReportTrial | None
    """The candidate that has scored it."""
    skips: int
    operations: int
    """Its operations, those that are none left out."""


@dataclass(frozen=True, slots=True)
class StageCost:
    """What a stage of the search has cost."""

    name: str
    trials: int
    cost: Cost


@dataclass(frozen=True, slots=True)
class SupernetSection:
    """What the section shows."""

    supernet: ReportSupernet
    done: int
    """Epochs that have been trained."""
    parts: tuple[Part, ...]
    parts_left_out: int
    derived: tuple[Derivation, ...]
    collapse: str
    """A warning where the derived architecture is mostly skips; empty if it is not."""
    stages: tuple[StageCost, ...]
    candidates: int
    """Candidates with a score."""
    pairs: dict[str, tuple[tuple[ReportTrial, float, float], ...]]
    """By operation of the trained networks: (network, score, value)."""
    rankings: dict[str, Ranking]
    """The same, as rank correlations."""
    finals_params: float | None
    """Median parameters of the candidates' networks of full fidelity."""


def section_of(data: ReportData) -> SupernetSection | None:
    """The contents of the section; None without a supernet."""
    found = data.supernet
    if found is None:
        return None
    parts = tuple(parts_of(found.choices)) if found.choices is not None else ()
    derived = tuple(derivations(data, found))
    pairs = {name: tuple(_pairs(data, name)) for name in (RANK_CHECK, "finalist")}
    scored = valued(data, Kind.SEARCH, Kind.CONTROL) if found.scored else []
    sizes = [t.metrics["params"] for t, _ in scored if "params" in t.metrics]
    return SupernetSection(
        supernet=found,
        done=len(found.choices.epochs) if found.choices and not found.curve else len(found.curve),
        parts=parts[:PARTS],
        parts_left_out=max(0, len(parts) - PARTS),
        derived=derived[:DERIVED],
        collapse=collapse(data, derived),
        stages=tuple(stages(data, found)),
        candidates=len(scored),
        pairs=pairs,
        rankings={n: ranking([p[1] for p in ps], [p[2] for p in ps]) for n, ps in pairs.items()},
        finals_params=median(sizes) if sizes else None,
    )


def parts_of(choices: ChoicesHistory) -> Iterator[Part]:
    """Groups whose names differ in numbers only and whose options are the same, in order."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for group, options in choices.options.items():
        name = re.sub(r"[\d_.\-\s]+", " ", group).strip() or "choices"
        found.setdefault((name, options), []).append(group)
    names = [name for name, _ in found]
    for number, ((name, options), groups) in enumerate(found.items(), 1):
        unique = name if names.count(name) == 1 else f"{name} {number}"
        yield Part(unique, tuple(groups), options)


def means(choices: ChoicesHistory, part: Part) -> list[list[float]]:
    """Mean probability over the groups of a part of each option, for each epoch."""
    return [
        [fmean(column) for column in zip(*(epoch[g] for g in part.groups), strict=True)]
        for epoch in choices.epochs
    ]


def derivations(data: ReportData, supernet: ReportSupernet) -> Iterator[Derivation]:
    """The derived architectures, with the candidates that score them."""
    known: frozenset[str] | None = None
    if supernet.choices is not None:
        known = frozenset(name for row in supernet.choices.options.values() for name in row)
    by_key: dict[str, ReportTrial] = {}
    for trial in data.trials:
        if trial.kind is Kind.SEARCH:
            by_key.setdefault(trial.key, trial)
    for each in supernet.derived:
        names = [name for name in words(each.architecture) if known is None or name in known]
        real = [name for name in names if name != NONE]
        skips = sum(name in SKIPS for name in real)
        yield Derivation(each.architecture, each.score, by_key.get(each.key), skips, len(real))


def words(value: Any) -> Iterator[str]:
    """The texts in an architecture, which name its operations."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from words(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from words(each)


def collapse(data: ReportData, derived: tuple[Derivation, ...]) -> str:
    """A warning where more than half of the operations of the best derived architecture are
    skips (Zela et al. 2020, section 3)."""
    if not derived or 2 * derived[0].skips <= derived[0].operations:
        return ""
    first = derived[0]
    text = f"The choices have collapsed: {first.skips} of {first.operations} operations are skips"
    control = best_of(data, [t for t in data.trials if t.kind is Kind.CONTROL])
    value = value_of(data, first.trial) if first.trial is not None else None
    if control is None or value is None:
        return f"{text}."
    if sign(data) * control[1] > sign(data) * value:
        return (
            f"{text}; the control's best candidate scores higher "
            f"({control[1]:.4f} against {value:.4f})."
            if data.goal == "maximize"
            else f"{text}; the control's best candidate scores better "
            f"({control[1]:.4f} against {value:.4f})."
        )
    return f"{text}; no candidate of the control scores better ({value:.4f})."


def _pairs(data: ReportData, operation: str) -> Iterator[tuple[ReportTrial, float, float]]:
    """Networks that were trained after the search, with the score and the trained value."""
    if data.supernet is None or not data.supernet.scored:
        return
    by_number = {t.number: t for t in data.trials}
    for trial, value in valued(data, Kind.FINAL):
        parent = by_number.get(trial.parents[0]) if trial.parents else None
        score = value_of(data, parent) if parent is not None else None
        if trial.operation == operation and score is not None:
            yield trial, score, value


def stages(data: ReportData, supernet: ReportSupernet) -> Iterator[StageCost]:
    """What each stage has cost, in order."""
    scores = "candidates, scored" if supernet.scored else "candidates, trained"
    kinds = (
        ("supernet", lambda t: t.kind is Kind.SUPERNET),
        (scores, lambda t: t.kind in (Kind.SEARCH, Kind.CONTROL) and not t.excluded),
        ("finalists", lambda t: t.kind is Kind.FINAL and t.operation != RANK_CHECK),
        ("rank check", lambda t: t.kind is Kind.FINAL and t.operation == RANK_CHECK),
        ("networks made by hand", lambda t: t.kind is Kind.BASELINE),
    )
    for name, belongs in kinds:
        members = [t for t in data.trials if belongs(t)]
        if members:
            yield StageCost(name, len(members), sum((t.cost for t in members), Cost()))


def line(data: ReportData) -> str | None:
    """The supernet on one line, for a terminal; None without one."""
    found = section_of(data)
    if found is None:
        return None
    net = found.supernet
    parts = [f"trial {net.trial}, {net.relaxation}"]
    if net.outcome is None:
        parts.append(f"trained up to epoch {found.done} of {net.epochs}")
    if net.params is not None:
        parts.append(counted(net.params, "parameter"))
    if found.collapse:
        parts.append(found.collapse[0].lower() + found.collapse[1:].rstrip("."))
    check = found.rankings[RANK_CHECK]
    if check.tau is not None:
        interval = check.interval
        text = f"rank correlation {check.tau:.2f}"
        if interval is not None:
            text += f" (90% interval {interval[0]:.2f} to {interval[1]:.2f})"
        parts.append(f"{text} on {check.pairs} trained candidates")
    return ", ".join(parts[:1]) + "".join(f"; {part}" for part in parts[1:])
