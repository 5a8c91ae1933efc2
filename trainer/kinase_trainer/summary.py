"""Summary of the data before a search: counts of the classes, and possible problems. It does not
need torch, which takes seconds to import."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinase.api.trial import MOST_CLASSES, ClassCount

IMBALANCE = 10
"""Ratio of samples between two classes from which a warning is given."""
LONGEST = 128
"""Maximum characters of a class name in a message."""


@dataclass(frozen=True)
class Told:
    """See the fields of `kinase.api.trial.TaskInfo`."""

    classes: tuple[ClassCount, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def tell(
    names: Sequence[str],
    counts: Mapping[str, NDArray[Any]],
    notes: Sequence[str] = (),
    doubts: Sequence[str] = (),
    *,
    exclusive: bool = True,
) -> Told:
    """The classes with their counts.

    Args:
        names: names of the classes, by number.
        counts: samples of each class (K,) in the splits `train`, `validation` and `test`; empty if
            targets are not classes.
        notes: how the data was read.
        doubts: warnings from the data set.
        exclusive: whether a sample has exactly one class.
    """
    kept = tuple(note[:1000] for note in notes[:32])
    doubted = tuple(doubt[:1000] for doubt in doubts[:16])
    if not counts:
        return Told((), kept, doubted)
    columns = {part: array.tolist() for part, array in counts.items()}
    classes = tuple(
        ClassCount(name=name[:LONGEST], **{part: column[index] for part, column in columns.items()})
        for index, name in enumerate(names[:MOST_CLASSES])
    )
    found = warnings(names, counts, exclusive=exclusive)
    return Told(classes, kept, doubted + tuple(text[:1000] for text in found))


def of_batches(size: int, count: int) -> tuple[str, ...]:
    """A warning if a batch is larger than the training split.

    Args:
        size: `training.batchSize`.
        count: number of training samples.
    """
    if size <= count:
        return ()
    return (
        f"training.batchSize {size:,} is above the {count:,} training samples, so an epoch is a "
        "single step; use a smaller one",
    )


def _plain(name: str) -> str:
    """A name without invisible differences: surrounding spaces, and the encoding of accents."""
    return unicodedata.normalize("NFC", name.strip())


def warnings(
    names: Sequence[str], counts: Mapping[str, NDArray[Any]], *, exclusive: bool = True
) -> list[str]:
    """Possible problems, one sentence each.

    Args:
        names: names of the classes, by number.
        counts: samples of each class (K,) in the splits `train`, `validation` and `test`.
        exclusive: whether a sample has exactly one class.
    """
    found = []
    shown = [repr(name[:LONGEST]) for name in names]
    for part, word in (("train", "training"), ("validation", "validation"), ("test", "test")):
        lacking = np.flatnonzero(counts[part] == 0)
        if len(lacking):
            one, several = ("class", "classes") if exclusive else ("label", "labels")
            many = f"{one} has" if len(lacking) == 1 else f"{several} have"
            some = ", ".join(shown[index] for index in lacking[:10])
            more = ", ..." if len(lacking) > 10 else ""
            found.append(f"{len(lacking):,} {many} no {word} samples: {some}{more}")
    train = counts["train"]
    most, least = int(train.argmax()), int(train.argmin())
    if exclusive and train[least] and train[most] >= IMBALANCE * train[least]:
        share = counts["validation"][most] / counts["validation"].sum()
        found.append(
            f"class {shown[most]} has {train[most]:,} training samples and class {shown[least]} "
            f"{train[least]:,}: a network that always answers {shown[most]} has a validation "
            f"accuracy of {share:.3f}; task.classification.weighting: balanced weighs them "
            "equally, and val_balanced_accuracy and val_f1 count them equally"
        )
    alike: dict[str, str] = {}
    for name in names:
        other = alike.setdefault(_plain(name).casefold(), name)
        if other != name:
            by = "capital letters" if _plain(other) != _plain(name) else "spaces or accents' codes"
            found.append(f"classes {other!r} and {name!r} differ in {by} alone")
            break
    return found
