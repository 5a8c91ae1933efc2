"""A CSV table of image files and their targets, one file per line."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from kinase_trainer.datasets.raw import shown
from kinase_trainer.errors import ConfigError

MAX_LINES = 50_000_000
"""Maximum number of lines of a table."""
MAX_COLUMNS = 10_000
"""Maximum number of columns of a table."""


@dataclass(frozen=True)
class Table:
    """Contents of a table."""

    files: list[str]
    """Paths below the folder, with / between their parts."""
    columns: list[str]
    """Names of the targets, from the header line."""
    values: list[list[str]]
    """Targets of each file, as text."""
    lines: list[int]
    """Line of each file, from 1."""


def read_table(path: Path) -> Table:
    """Read a table of targets.

    Raises:
        ConfigError: it cannot be read; the message names the line.
    """
    table = Table([], [], [], [])
    where = shown(path)
    seen: set[str] = set()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                if not row or row == [""]:
                    continue
                if not table.columns:
                    table.columns.extend(_head(row, where))
                    if (path.parent / row[0].strip()).is_file():
                        raise ConfigError(
                            f"{where} begins with the file {shown(row[0].strip())}; write a header "
                            "line, such as file,target, above it"
                        )
                    continue
                line = reader.line_num
                if len(row) != len(table.columns) + 1:
                    raise ConfigError(
                        f"{where}, line {line}, has {len(row)} fields; the header line has "
                        f"{len(table.columns) + 1}"
                    )
                name = _inside(row[0].strip(), f"{where}, line {line}")
                if name in seen:
                    raise ConfigError(f"{where}, line {line}: {shown(name)} is listed twice")
                if len(seen) >= MAX_LINES:
                    raise ConfigError(f"{where} has more than {MAX_LINES:,} lines")
                seen.add(name)
                table.files.append(name)
                table.values.append([field.strip() for field in row[1:]])
                table.lines.append(line)
    except OSError as error:
        raise ConfigError(
            f"task.folder.labels: {where} cannot be read ({error.strerror}); give a CSV file in "
            "the folder"
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{where} is not a CSV file in UTF-8 ({error})") from None
    if not table.files:
        raise ConfigError(f"{where} names no file; write a header line, then files and targets")
    return table


def _head(row: Sequence[str], where: str) -> list[str]:
    if not 2 <= len(row) <= MAX_COLUMNS:
        other = next((mark for mark in (";", "\t", "|") if len(row) == 1 and mark in row[0]), None)
        if other is not None:
            raise ConfigError(f"{where} separates its columns by {other!r}; use commas")
        raise ConfigError(
            f"{where} has {len(row)} columns; the first is the file, the others are its targets"
        )
    names = [name.strip() for name in row[1:]]
    if all(_number(name) is not None for name in names):
        raise ConfigError(
            f"{where} begins with numbers; write a header line, such as file,target, above them"
        )
    return names


def _inside(name: str, where: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts:
        raise ConfigError(f"{where}: {shown(name)!r} is not a path below the folder")
    return str(path)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def numbers(table: Table, where: str) -> Tensor:
    """The targets as numbers (N, L).

    Raises:
        ConfigError: one is not a number.
    """
    found = []
    for row, line in zip(table.values, table.lines, strict=True):
        values = [_number(text) for text in row]
        if None in values:
            at = values.index(None)
            raise ConfigError(
                f"{where}, line {line}: {table.columns[at]} is {shown(row[at])!r}, not a number"
            )
        found.append(values)
    return torch.tensor(found, dtype=torch.float64)
