"""What was read of the data, in words: the terminal, the report and the cluster say the same."""

from __future__ import annotations

from collections.abc import Sequence

from kinase.api.trial import TaskInfo
from kinase.words import counted

MOST_NAMED = 12
"""Classes that are named; the others are counted."""


def main_metric(info: TaskInfo, objectives: Sequence[str]) -> str | None:
    """The task's main metric, the first that its trainer names, where no objective is it: it is
    shown with the objective's. None where one is."""
    first = next(iter(info.metrics), None)
    return None if first in objectives else first


def samples_text(info: TaskInfo) -> str:
    """How many samples there are, their shape, and the parts."""
    total = info.train + info.validation + info.test
    channels, height, width = info.input
    return (
        f"{counted(total, 'sample')} of {channels}x{height}x{width} (channels, height, width): "
        f"{info.train:,} training, {info.validation:,} validation, {info.test:,} test"
    )


def classes_text(info: TaskInfo) -> str:
    """The classes or labels with their counts over all parts; empty where the task has neither."""
    if not info.classes:
        return ""
    named = [f"{c.name} ({c.train + c.validation + c.test:,})" for c in info.classes[:MOST_NAMED]]
    more = info.outputs - len(named)
    word = "label" if info.several else "class"
    return f"{counted(info.outputs, word)}: {', '.join(named)}" + (
        f", and {more:,} more" * (more > 0)
    )


def data_lines(info: TaskInfo) -> tuple[str, ...]:
    """All that a trainer says of the data, a line each; warnings come last."""
    return (
        samples_text(info),
        *filter(None, (classes_text(info), info.targets)),
        *(f"note: {note}" for note in info.notes),
        *(f"warning: {warning}" for warning in info.warnings),
    )
