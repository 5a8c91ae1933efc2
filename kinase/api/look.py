"""What a first look at data finds: enough to propose a search."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kinase.api._base import Model
from kinase.words import counted

Side = Annotated[int, Field(ge=1, le=1_000_000)]


class Look(Model):
    """A data set as a first look finds it; nothing but headers and labels was read."""

    dataset: Annotated[str, Field(max_length=128)]
    """Its name in a manifest: `folder`, `npz`, or a published one."""
    path: str | None = None
    """Absolute path, or None if the data set needs no path."""
    task: Literal["Classification", "MultiLabel", "Regression"] = "Classification"
    """What is learned: `task.type`."""
    labels: Annotated[str, Field(max_length=4096)] | None = None
    """`task.folder.labels`: the table of the targets; None where folders are the classes."""
    download: bool = False
    """Whether it is to be downloaded into `path`."""
    channels: Side
    """Channels of an image as a network gets it."""
    height: Side
    """Height of an image in pixels: the median if they differ."""
    width: Side
    """Width, likewise."""
    fixed: bool
    """Whether all images have this size."""
    samples: Annotated[int, Field(ge=1)]
    """Samples of all parts."""
    train: Annotated[int, Field(ge=1)]
    """Approximate number of training samples with the default split."""
    outputs: Annotated[int, Field(ge=1)]
    """Number of classes, of labels, or of numbers a sample."""
    smallest: Annotated[int, Field(ge=0)]
    """Samples of the class or label that has the fewest; 0 for numbers."""
    largest: Annotated[int, Field(ge=0)]
    """Samples of the class or label that has the most; 0 for numbers."""
    device: Literal["cpu", "cuda", "mps"] = "cpu"
    """What this machine trains on."""
    slots: Annotated[int, Field(ge=1)] = 1
    """Trials that this machine can run at once: its GPUs, or its CPUs."""

    @property
    def targets(self) -> str:
        """What is learned, in words: ``5 classes``."""
        nouns = {"Classification": "class", "MultiLabel": "label", "Regression": "number"}
        return counted(self.outputs, nouns[self.task])
