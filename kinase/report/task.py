"""Description of the data, shared by the terminal, the report and the cluster."""

from __future__ import annotations

from collections.abc import Sequence

from kinase.api.trial import TaskInfo
from kinase.words import counted

MOST_NAMED = 12
"""Maximum number of named classes; the others are counted."""


def main_metric(info: TaskInfo, objectives: Sequence[str]) -> str | None:
    """The task's main metric, the first one that its trainer names, to show with the objectives;
    None if it is an objective."""
    first = next(iter(info.metrics), None)
    return None if first in objectives else first


def samples_text(info: TaskInfo) -> str:
    """Number of samples, their shape, and the splits."""
    total = info.train + info.validation + info.test
    channels, height, width = info.input
    return (
        f"{counted(total, 'sample')} of {channels}x{height}x{width} (channels, height, width): "
        f"{info.train:,} training, {info.validation:,} validation, {info.test:,} test"
    )


def classes_text(info: TaskInfo) -> str:
    """The classes or labels with their counts over all splits; empty if the task has none."""
    if not info.classes:
        return ""
    named = [f"{c.name} ({c.train + c.validation + c.test:,})" for c in info.classes[:MOST_NAMED]]
    more = info.outputs - len(named)
    word = "label" if info.several else "class"
    return f"{counted(info.outputs, word)}: {', '.join(named)}" + (
        f", and {more:,} more" * (more > 0)
    )


def data_lines(info: TaskInfo) -> tuple[str, ...]:
    """The trainer's remarks on the data, one line each, with warnings last."""
    return (
        samples_text(info),
        *filter(None, (classes_text(info), info.targets)),
        *(f"note: {note}" for note in info.notes),
        *(f"warning: {warning}" for warning in info.warnings),
    )
