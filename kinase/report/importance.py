"""Choices of an architecture that correlate with its value.

**Method.** A choice is a feature of the genotype (`choices`): the operation at a place, the number
of layers, the average width, how often an operation occurs. Its importance is the share of the
values' variance that the averages over its levels explain: the main effect of functional analysis
of variance (Hutter, Hoos & Leyton-Brown 2014, "An Efficient Approach for Assessing Hyperparameter
Importance", section 3), computed from the trials themselves instead of a model. Many levels always
explain some variance, so the share is corrected by its expectation under chance (epsilon squared;
Kelley 1935, "An unbiased correlation ratio measure"). Values are replaced by ranks, so that a few
networks that do not learn cannot dominate.

**Noise.** The values are permuted over the trials, and the largest share over all choices is
compared, so that pure noise shows anything with a probability of at most `LEVEL` (Westfall & Young
1993, single-step maxT). Other choices are not shown.

**Interval.** 95 %, by the bootstrap over trials (percentiles), corrected alike.

The importance is not causal: the strategy has chosen the trials, so choices that occur together
share their effect.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinase.api.trial import Architecture, Kind
from kinase.report.control import sign, valued
from kinase.report.data import ReportData
from kinase.report.rungs import at_first_rung
from kinase.words import counted

LEVEL = 0.05
"""Probability of showing anything if no choice matters."""
FEWEST = 20
"""Minimum number of trials with a value."""
MOST = 2000
"""Maximum number of trials used, evenly spaced."""
CHOICES = 80
"""Maximum number of choices: those with the most frequent levels."""
LEVELS = 4
"""Number of levels of numeric choices, at their quantiles."""
DRAWS = 400
"""Permutations, and bootstrap samples."""
SHOWN = 12
"""Maximum number of choices shown."""
DEEPEST = 12
"""Maximum depth of nesting of a genotype."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Importance:
    """A choice that correlates with the value."""

    choice: str
    share: float
    """Share of the variance of the values' ranks."""
    interval: tuple[float, float]
    """95 % interval."""
    p: float
    """P value, corrected for the number of choices."""
    best: str
    """The level with the best average, and its number of trials."""


@dataclass(frozen=True, slots=True)
class Findings:
    """The choices, the most important first."""

    shown: tuple[Importance, ...]
    choices: int
    """Number of tested choices."""
    trials: int


def choices(architecture: Architecture) -> dict[str, str | float]:
    """The choices in a genotype of any space, by name.

    All plain data is visited: each text or number by its path, the length of each list, and for
    fields that occur several times, the average of numbers and the count of each text.
    """
    found: dict[str, str | float] = {}
    numbers: dict[str, list[float]] = defaultdict(list)
    texts: dict[str, Counter[str]] = defaultdict(Counter)

    def walk(value: Any, path: str, kind: str, depth: int) -> None:
        if depth > DEEPEST:
            return
        if isinstance(value, dict):
            for key, part in value.items():
                walk(part, f"{path} {key}".strip(), f"{kind} {key}".strip(), depth + 1)
        elif _input(value):
            walk(value[0], f"{path} operation", f"{kind} operation", depth + 1)
            walk(str(value[1]), f"{path} source", f"{kind} source", depth + 1)
        elif isinstance(value, list | tuple):
            found[f"number of {path}"] = float(len(value))
            for index, part in enumerate(value):
                walk(part, f"{path}[{index}]", kind, depth + 1)
        elif isinstance(value, bool) or value is None or isinstance(value, str):
            text = (
                "none" if value is None else str(value).lower() if value in (True, False) else value
            )
            found[path] = str(text)
            texts[kind][str(text)] += 1
        elif isinstance(value, int | float):
            found[path] = float(value)
            numbers[kind].append(float(value))

    walk(architecture, "", "", 0)
    for kind, several in numbers.items():
        if len(several) > 1:
            found[f"average {kind}"] = fmean(several)
    for kind, counts in texts.items():
        for text, count in counts.items() if counts.total() > 1 else ():
            found[f"count of {kind} {text}".replace("  ", " ")] = float(count)
    return found


def _input(value: Any) -> bool:
    """Whether it is an input of a cell's node: an operation and the number of a node, which is a
    name and not a quantity."""
    return isinstance(value, list | tuple) and [type(part) for part in value] == [str, int]


def importance(data: ReportData, seed: int = 0) -> Findings | None:
    """The choices that matter among the trials of search and control; None of too few trials.
    Trials of several rungs are compared at their first."""
    data = at_first_rung(data)
    pairs = valued(data, Kind.SEARCH, Kind.CONTROL)
    pairs = [pairs[i] for i in np.linspace(0, len(pairs) - 1, min(MOST, len(pairs))).astype(int)]
    if len(pairs) < FEWEST:
        return None
    values = np.array([sign(data) * v for _, v in pairs])
    names, levels = columns([choices(t.architecture) for t, _ in pairs])
    codes = [np.unique(column, return_inverse=True)[1].astype(np.int64) for column in levels]
    return Findings(
        _shown(names, levels, codes, values, np.random.default_rng(seed)), len(names), len(pairs)
    )


def columns(found: Sequence[dict[str, str | float]]) -> tuple[list[str], list[list[str]]]:
    """Each choice and its level in each trial, without choices that only some genotypes have
    (counts are 0 there), that have one level, or that duplicate an earlier choice."""
    names: list[str] = []
    table: list[list[str]] = []
    seen: set[tuple[int, ...]] = set()
    order = Counter(name for one in found for name in one)
    for name, times in sorted(order.items(), key=lambda pair: (-pair[1], _rank(pair[0]), pair[0])):
        counted = name.startswith("count of ")
        if (times < len(found) and not counted) or len(names) == CHOICES:
            continue
        column = _levels([one.get(name, 0.0) for one in found])
        shape = tuple(np.unique(column, return_inverse=True)[1].tolist())
        first: dict[int, int] = {}
        same = tuple(first.setdefault(code, len(first)) for code in shape)
        if len(first) > 1 and same not in seen:
            seen.add(same)
            names.append(name)
            table.append(column)
    return names, table


def _rank(name: str) -> int:
    """Sort key: choices of the whole architecture come before those at one place."""
    return 1 if "[" in name else 0


def _levels(column: Sequence[str | float]) -> list[str]:
    if any(isinstance(value, str) for value in column):
        return [str(value) for value in column]
    numbers = np.array(column, np.float64)
    if len(set(column)) <= LEVELS:
        return [f"{value:g}" for value in numbers]
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, LEVELS + 1)[1:-1]))
    place = np.searchsorted(edges, numbers, side="left")
    spans = {
        int(k): (float(numbers[place == k].min()), float(numbers[place == k].max()))
        for k in set(place.tolist())
    }
    return [
        f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        for low, high in (spans[int(k)] for k in place)
    ]


def ranks(values: Floats) -> Floats:
    """Ranks from 1; equal values get their average rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[place]


def shares(codes: Sequence[Ints], values: Floats) -> Floats:
    """Epsilon squared of each choice: 1 less the variance within its levels over the variance, each
    without bias; at least 0.

    Args:
        codes: Of each choice the level in each trial, from 0 on; shape (n,).
        values: Several assignments of values to the trials, shape (m, n).

    Returns:
        Shape (m, choices).
    """
    n = values.shape[1]
    centred = values - values.mean(axis=1, keepdims=True)
    whole = (centred**2).sum(axis=1)
    found = np.zeros((len(values), len(codes)))
    for i, column in enumerate(codes):
        counts = np.bincount(column)
        taken = counts > 0
        k = int(taken.sum())
        if n <= k:
            continue
        member = (column[:, None] == np.flatnonzero(taken)).astype(np.float64)
        between = ((centred @ member) ** 2 / counts[taken]).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found[:, i] = 1 - (whole - between) / (n - k) / (whole / (n - 1))
    return np.nan_to_num(np.maximum(found, 0.0))


def _shown(
    names: Sequence[str],
    levels: Sequence[Sequence[str]],
    codes: Sequence[Ints],
    values: Floats,
    rng: np.random.Generator,
) -> tuple[Importance, ...]:
    if not names:
        return ()
    ranked = ranks(values)
    n = len(ranked)
    seen = shares(codes, ranked[None])[0]
    shuffled = np.stack([rng.permutation(ranked) for _ in range(DRAWS)])
    largest = shares(codes, shuffled).max(axis=1)
    ps = [float((1 + (largest >= s - 1e-12).sum()) / (1 + DRAWS)) for s in seen]
    found = [i for i in range(len(names)) if seen[i] > 0 and ps[i] <= LEVEL]
    drawn = rng.integers(n, size=(DRAWS, n))
    shown = []
    for i in sorted(found, key=lambda i: (-seen[i], i))[:SHOWN]:
        again = [shares([codes[i][some]], ranked[None, some])[0, 0] for some in drawn]
        low, high = np.quantile(again, (0.025, 0.975))
        value = float(seen[i])
        interval = (min(float(low), value), max(float(high), value))
        shown.append(Importance(names[i], value, interval, ps[i], _best(levels[i], ranked)))
    return tuple(shown)


def _best(column: Sequence[str], ranked: Floats) -> str:
    groups: dict[str, list[float]] = defaultdict(list)
    for level, value in zip(column, ranked, strict=True):
        groups[level].append(float(value))
    level = max(groups, key=lambda each: (fmean(groups[each]), each))
    return f"{level} ({counted(len(groups[level]), 'trial')})"
