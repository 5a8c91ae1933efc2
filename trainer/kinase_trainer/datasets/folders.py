"""A folder of image files, one folder per class, optionally inside folders for the splits."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from kinase.api.task import FolderImages, Task
from kinase.words import are, counted, was
from kinase_trainer.datasets import raw
from kinase_trainer.datasets.pictures import ENDINGS, Pictures, read
from kinase_trainer.datasets.raw import Raw, place, shown
from kinase_trainer.datasets.tables import Table, numbers, read_table
from kinase_trainer.errors import ConfigError
from kinase_trainer.lazy import LazyImages, as_float

PARTS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""Names of the splits' folders, in lower case."""
SYSTEM = ("__MACOSX", "lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information")
"""Folders of other programs, which are ignored."""
LAYOUTS = "FOLDER/CLASS/image.png, or FOLDER/train/CLASS/image.png with val and test next to train"
HEADS = 200
"""Number of images that are checked before the search if they are not held in memory."""


def hidden(name: str) -> bool:
    """Whether a name is ignored: `.ipynb_checkpoints`, `._x.jpg`."""
    return name.startswith(".") or name in SYSTEM


def parts_of(names: Sequence[str]) -> dict[str, str] | None:
    """Which folder is which split, by name; None if the folders are the classes.

    Raises:
        ValueError: there are splits and classes, a split twice, or no `train`.
    """
    known = [name for name in names if name.lower() in PARTS]
    others = sorted(set(names) - set(known))
    found: dict[str, str] = {}
    for name in sorted(known):
        part = PARTS[name.lower()]
        if part in found and not others:
            raise ValueError(f"{found[part]} and {name} would both be the {part} part")
        found[part] = name
    if not known or (others and not {"train"} < set(found)):
        return None  # a class can be called test or train
    if others:
        raise ValueError(
            f"{', '.join(sorted(known))} would be parts, and {others[0]} would be a class"
        )
    if "train" not in found:
        raise ValueError(f"there is {' and '.join(sorted(known))}, and no train")
    return found


@dataclass
class Listing:
    """The image files of one split."""

    classes: list[str]
    """Names of the folders, sorted."""
    paths: list[str] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    """Position of each file's class in `classes`."""
    passed: Counter[str] = field(default_factory=Counter)
    """Files without an image suffix."""
    loose: int = 0
    """Images outside the folders of the classes."""


def listing(root: Path, classes: Sequence[str] | None = None) -> Listing:
    """Find the images of a split, without opening them.

    Args:
        root: contains a folder for each class.
        classes: classes of the training split; None for the training split itself.

    Raises:
        ConfigError: there are no classes, an empty class, or one that the training split lacks.
    """
    folders, files = _entries(str(root))
    images = [name for name in files if _is_image(name)]
    if not folders:
        inside = (
            f"{counted(len(images), 'image')} and no folder" if images else "no folder of images"
        )
        raise ConfigError(f"{shown(root)} holds {inside} of a class; what is read is {LAYOUTS}")
    found = Listing(sorted(folders) if classes is None else list(classes), loose=len(images))
    unknown = sorted(set(folders) - set(found.classes))
    if unknown:
        raise ConfigError(
            f"{shown(root / unknown[0])} is a class that the training part lacks; it has "
            f"{', '.join(map(shown, found.classes[:10]))}"
        )
    found.passed.update(_ending(name) for name in files if not _is_image(name))
    for position, name in enumerate(found.classes):
        before, passed = len(found.paths), Counter[str]()
        if name in folders:
            for path in _walk(str(root / name)):
                if _is_image(path):
                    found.paths.append(path)
                else:
                    passed[_ending(path)] += 1
        found.targets += [position] * (len(found.paths) - before)
        found.passed += passed
        if len(found.paths) == before and classes is None:
            holds = f"; it has {_endings(passed)}" if passed else ""
            raise ConfigError(
                f"{shown(root / name)} holds no image, of the endings "
                f"{', '.join(sorted(ENDINGS))}{holds}; add some, or remove the folder"
            )
    if not found.paths:
        raise ConfigError(f"{shown(root)} holds no image; what is read is {LAYOUTS}")
    return found


def _entries(folder: str) -> tuple[list[str], list[str]]:
    """Names of the folders and the files in a folder, without hidden ones, sorted.

    A broken link is an error, and so is a pipe with the name of an image.
    """
    folders: list[str] = []
    files: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if hidden(entry.name):
                continue
            try:
                kind = folders if entry.is_dir() else files if entry.is_file() else None
            except OSError:  # a circular link
                kind = None
            if kind is not None:
                kind.append(entry.name)
            elif _is_image(entry.name) or entry.is_symlink():  # it could be a whole class
                raise ConfigError(
                    f"{shown(entry.path)} is not a file, or a link that leads nowhere; remove it"
                )
    return sorted(folders), sorted(files)


def _walk(folder: str) -> Iterator[str]:
    """Paths of all files below a folder. Links are followed; each folder is read once."""
    seen: set[tuple[int, int]] = set()
    found = []
    left = [folder]
    while left:
        here = left.pop()
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        folders, files = _entries(here)
        found.append((here, files))
        left += [os.path.join(here, name) for name in folders]
    for here, files in sorted(found):
        for name in files:
            yield os.path.join(here, name)


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _is_image(name: str) -> bool:
    return _ending(name) in ENDINGS


def _endings(counts: Counter[str]) -> str:
    named = [f"{n:,} of {shown(ending) or 'no ending'}" for ending, n in counts.most_common(5)]
    rest = sum(counts.values()) - sum(n for _, n in counts.most_common(5))
    return ", ".join(named) + (f", {rest:,} of others" if rest else "")


def listings_of(root: Path) -> dict[str, Listing]:
    """The image files of each split in a folder, without opening them.

    Raises:
        ConfigError: its layout is not supported, or it has only one class.
    """
    try:
        parts = parts_of(_entries(str(root))[0])
    except ValueError as error:
        raise ConfigError(f"{shown(root)}: {error}; what is read is {LAYOUTS}") from None
    names = parts or {"train": "."}
    own = listing(root / names["train"])
    if len(own.classes) == 1:
        _one_class(root / names["train"], own.classes[0])
    return {
        part: own if part == "train" else listing(root / name, own.classes)
        for part, name in names.items()
    }


def folder(task: Task) -> Raw:
    """Images by class, as squares of `task.resolution`, in memory if they fit, otherwise read on
    demand. `val` and `test` folders next to `train` are these splits."""
    root = place(task)
    if not root.is_dir():
        raise ConfigError(f"task.path {task.path!r} is a file; task.dataset folder needs a folder")
    assert task.resolution is not None  # checked by the task's model
    options = task.folder or FolderImages()
    if options.labels is not None:
        return _labelled(task, root, task.resolution, options)
    listings = listings_of(root)
    own = listings["train"]
    seen = Seen()
    held = {
        part: (_images(each, task.resolution, options, seen), torch.tensor(each.targets))
        for part, each in listings.items()
    }
    classes = tuple(shown(name) for name in own.classes)
    notes = _notes(list(listings.values()), seen, options)
    doubts = _two_levels(own)
    return Raw(*held["train"], held.get("test"), classes, held.get("validation"), notes, doubts)


def parts_of_table(table: Table) -> list[str]:
    """The split of each file of a table: by its folder if all files are in folders of splits,
    otherwise the training split."""
    firsts = [PARTS.get(name.partition("/")[0].lower()) for name in table.files]
    known = [part for part in firsts if part is not None]
    return known if len(known) == len(firsts) else ["train"] * len(firsts)


def _labelled(task: Task, root: Path, side: int, options: FolderImages) -> Raw:
    """The images and targets of a table. If all images are in folders of the splits, these are
    used."""
    path = root / str(options.labels)
    table = read_table(path)
    parts = parts_of_table(table)
    chosen = {
        part: [i for i, each in enumerate(parts) if each == part] for part in dict.fromkeys(parts)
    }
    if "train" not in chosen:
        raise ConfigError(f"{shown(path)} names no file of the training part")
    for name, line in zip(table.files, table.lines, strict=True):
        if not (root / name).is_file():
            slash = "; write / between folders" if "\\" in name else ""
            raise ConfigError(
                f"{shown(path)}, line {line}: {shown(name)} is not a file below "
                f"{shown(root)}{slash}"
            )
    classes: tuple[str, ...] = tuple(shown(name)[:128] for name in table.columns)
    if task.type == "Classification" and len(table.columns) == 1:
        names = sorted({table.values[i][0] for i in chosen["train"]})
        places = {name: place for place, name in enumerate(names)}
        for i, (label,) in enumerate(table.values):
            if not label:
                raise ConfigError(
                    f"{shown(path)}, line {table.lines[i]}: {table.columns[0]} is empty; write the "
                    "class, or leave the file out"
                )
            if label not in places:
                raise ConfigError(
                    f"{shown(path)}, line {table.lines[i]}: the class {shown(label)!r} is not "
                    "in the training part"
                )
        targets = torch.tensor([places[label] for (label,) in table.values])
        classes = tuple(shown(name)[:128] for name in names)
    else:
        targets = numbers(table, shown(path))
        if task.type not in ("Classification", "MultiLabel"):
            classes = ()
    seen = Seen()
    held = {}
    for part, places_of in chosen.items():
        paths = [str(root / table.files[i]) for i in places_of]
        found = Listing([], paths, [0] * len(paths))
        held[part] = (_images(found, side, options, seen), targets[places_of])
    notes = (
        f"{counted(len(table.files), 'image')} with targets, as listed in {shown(path)}",
        *_notes([], seen, options),
    )
    return Raw(*held["train"], held.get("test"), classes, held.get("validation"), notes)


def _one_class(root: Path, name: str) -> None:
    inside = _entries(str(root / name))[0]
    better = ""
    if inside:
        folders = ", ".join(map(shown, inside[:5]))
        better = f"; {shown(root / name)} holds the folders {folders}: set task.path to it"
    raise ConfigError(
        f"{shown(root)} holds one class, {shown(name)!r}, and one class cannot be learned{better}"
    )


@dataclass
class Seen:
    """Statistics of the images."""

    looked: int = 0
    all: int = 0
    oblong: int = 0
    transparent: int = 0
    animated: int = 0


def _images(found: Listing, side: int, options: FolderImages, seen: Seen) -> Tensor | LazyImages:
    """The images of a split, in memory if they fit."""
    count = len(found.paths)
    seen.all += count
    files = Pictures(found.paths, found.targets, side, options)
    size = count * 3 * side * side
    images = None if size > raw.MAX_BYTES else torch.empty(count, 3, side, side, dtype=torch.uint8)
    step = 1 if images is not None else -(-count // HEADS)
    for index in range(0, count, step):
        picture = read(found.paths[index], side, options)
        seen.looked += 1
        seen.oblong += not picture.square
        seen.transparent += picture.transparent
        seen.animated += picture.animated
        deep = picture.pixels.is_floating_point()
        files.deep |= deep
        if images is None:
            if step == 1 and index >= HEADS:
                break
            continue
        if deep and images.dtype == torch.uint8:
            if 4 * size > raw.MAX_BYTES:
                images = None
                continue
            images = as_float(images)
        images[index] = as_float(picture.pixels) if images.is_floating_point() else picture.pixels
    return LazyImages(files) if images is None else images


def _two_levels(found: Listing) -> tuple[str, ...]:
    """A warning if the classes may be one level deeper: each folder contains the same folders."""
    inner: dict[int, set[str]] = {}
    for path, target in zip(found.paths, found.targets, strict=True):
        inner.setdefault(target, set()).add(os.path.dirname(path))
    named = {
        frozenset(
            os.path.basename(each) if os.path.dirname(each).endswith(found.classes[target]) else ""
            for each in folders
        )
        for target, folders in inner.items()
    }
    [first, *others] = named
    if others or len(first) < 2 or "" in first:
        return ()
    inside = " and ".join(sorted(map(shown, first))[:2])
    return (
        f"each class holds the folders {inside}: if these are the classes, put all images of "
        "a class in one folder",
    )


def _notes(listings: Sequence[Listing], seen: Seen, options: FolderImages) -> tuple[str, ...]:
    passed, loose = Counter[str](), 0
    for each in listings:
        passed += each.passed
        loose += each.loose
    rule = {
        "pad": f"padded with {options.background}",
        "crop": "only their centre is used",
        "stretch": "stretched",
    }[options.fit]
    looked = f"of {counted(seen.looked, 'image')}" + " looked at" * (seen.looked < seen.all)
    skipped = passed.total()
    said = (
        (
            skipped,
            f"{counted(skipped, 'file')} {was(skipped)} passed over, not an image by the ending: "
            f"{_endings(passed)}",
        ),
        (
            loose,
            f"{counted(loose, 'image')} {was(loose)} passed over, outside the folders of the "
            "classes",
        ),
        (
            seen.oblong,
            f"{seen.oblong:,} {looked} {are(seen.oblong)} not square: {rule} (task.folder.fit)",
        ),
        (
            seen.transparent,
            f"{seen.transparent:,} {looked} may be transparent: on {options.background} "
            "(task.folder.background)",
        ),
        (
            seen.animated,
            f"{seen.animated:,} {looked} {'has' if seen.animated == 1 else 'have'} several frames "
            "or pages: the first is used",
        ),
    )
    return tuple(text for number, text in said if number)
