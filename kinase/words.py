"""Counts and errors in sentences, for people."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Standing(Protocol):
    """Numbers of trials at one rung of a ladder."""

    @property
    def reached(self) -> int:
        """Those that reached its end."""

    @property
    def running(self) -> int:
        """Those on their way to it."""

    @property
    def paused(self) -> int:
        """Those paused at its end."""

    @property
    def promoted(self) -> int:
        """Those that continued to a higher rung."""

    @property
    def stopped(self) -> int:
        """Those that were stopped."""


def standing(rung: Standing) -> str:
    """How trials stand at a rung: `9 reached; 2 running, 4 paused, 3 promoted`."""
    parts = {
        "running": rung.running,
        "paused": rung.paused,
        "promoted": rung.promoted,
        "stopped": rung.stopped,
    }
    shown = ", ".join(f"{number} {word}" for word, number in parts.items() if number)
    return f"{rung.reached} reached" + (f"; {shown}" if shown else "")


def counted(number: float, noun: str, shown: str | None = None) -> str:
    """A number with its noun: `1 file`, `1,200 files`, `0 classes`.

    Args:
        number: how many there are.
        noun: of one of them; its last word takes the plural, as in `sample pass`.
        shown: the number as it is printed; by default with commas between thousands.
    """
    text = f"{number:,}" if shown is None else shown
    return f"{text} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """The plural of an English noun that has a regular one."""
    if noun.endswith(("s", "x", "ch", "sh")) and not noun.endswith("epoch"):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def was(number: float) -> str:
    """The verb behind such a count, in the past."""
    return "was" if number == 1 else "were"


def are(number: float) -> str:
    """The verb behind such a count, in the present."""
    return "is" if number == 1 else "are"


def raised(error: BaseException) -> str:
    """What code that is not ours raised: `KeyError: 'x'`, or `it calls sys.exit(0)`."""
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({'' if error.code is None else repr(error.code)})"
    return f"{type(error).__name__}: {error}"


def unwritable(path: Path, error: OSError) -> str:
    """Why a file cannot be written, and what would help."""
    if not path.parent.exists():
        return f"{path}: there is no folder {path.parent}; create it, or give another file"
    if path.is_dir():
        return f"{path} is a folder; give a file"
    return f"{path} cannot be written: {error.strerror or error}"
