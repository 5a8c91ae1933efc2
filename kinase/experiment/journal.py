"""The journal: the experiment's append-only memory.

The entries of one turn of the loop form one object, so either all of them are kept or none, unless
they are too large for one that can be read. An object's key is its number, and it is written with a
conditional put. If two controllers run the same experiment, one of them finds its next number taken
and stops (`Fenced`). Sealed segments hold copies of many objects, so that a long journal can be
read quickly. The objects themselves stay: if a number became free again, a stale controller could
write it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import TypeAdapter, ValidationError

from kinase.api import limits
from kinase.api._base import Model
from kinase.experiment.entries import AnyEntry, Entry
from kinase.store import Conflict, NotFound, Store, StoreError, TooLarge

SEGMENT = 512
"""Objects in a sealed segment."""

_ENTRY: TypeAdapter[AnyEntry] = TypeAdapter(Entry)


class Fenced(StoreError):
    """Another process writes to the same experiment."""


class JournalError(StoreError):
    """The journal cannot be read; the message names the entry."""


class Journal:
    """The entries of an experiment, below `journal/` in its store."""

    def __init__(self, store: Store) -> None:
        """The journal in an experiment's store."""
        self._store = store.sub("journal")
        self._next = 0
        self._sealed = 0
        self._unsealed: list[str] = []

    @property
    def length(self) -> int:
        """Number of objects."""
        return self._next

    def replay(self) -> Iterator[Any]:
        """Read every entry in order. Call this before appending.

        A truncated last object (after a crash of a store without atomic puts) was never acted on
        and is overwritten. Any other truncated object is an error.

        Raises:
            JournalError: an object is missing or damaged.
        """
        keys = list(self._store.list())
        segments = sorted(key for key in keys if re.fullmatch(r"segment-\d{8}\.jsonl", key))
        numbers = {int(key[:8]) for key in keys if re.fullmatch(r"\d{8}\.jsonl", key)}
        for name in segments:
            entries = self._segment(name)
            if entries is None:
                break  # half written or out of order; the objects themselves still exist
            self._next = self._sealed = self._sealed + SEGMENT
            yield from entries
        last = max(numbers, default=-1)
        rest = range(self._sealed, last + 1)
        with ThreadPoolExecutor(16) as pool:
            tail = list(pool.map(self._read, rest))
        for index, text in zip(rest, tail, strict=True):
            entries = None if text is None else self._parse(text)
            if entries is None and index == last and text is not None:
                self._store.delete(self._key(index))
                break
            if entries is None or text is None:
                state = "missing" if text is None else "damaged"
                raise JournalError(
                    f"{self._store.uri}/{self._key(index)} is {state}, while later ones "
                    "exist; restore that object, or start from scratch under another name"
                )
            self._unsealed.append(text)
            self._next = index + 1
            yield from entries

    def append(self, *entries: Model) -> None:
        """Write entries, all or none. When this returns, they are stored.

        Those that do not fit into one object that can be read are written in several, in order: the
        end of a search can tell tens of thousands of trials.

        Raises:
            Fenced: another process wrote an object with this number.
            StoreError: they cannot be written.
        """
        lines: list[str] = []
        size = 0
        for line in map(self._line, entries):
            length = len(line.encode()) + 1
            if lines and size + length > limits.ENTRY:
                self._put("\n".join(lines))
                lines, size = [], 0
            lines.append(line)
            size += length
        self._put("\n".join(lines))

    def _put(self, text: str) -> None:
        try:
            self._store.put(self._key(self._next), text.encode(), if_absent=True)
        except Conflict as error:
            raise Fenced(
                f"another process wrote number {self._next} of {self._store.uri}; this one stops "
                "so that no trial is run twice"
            ) from error
        self._next += 1
        self._unsealed.append(text)
        if len(self._unsealed) >= SEGMENT:
            name = f"segment-{self._sealed:08d}.jsonl"
            lines = [*self._unsealed[:SEGMENT], json.dumps({"objects": SEGMENT})]
            self._store.put(name, "\n".join(lines).encode())
            self._sealed += SEGMENT
            del self._unsealed[:SEGMENT]

    def _segment(self, name: str) -> list[Any] | None:
        """Entries of a segment that continues what was read so far, or None if it is incomplete."""
        if int(name[8:16]) != self._sealed:
            return None
        try:
            data = self._store.get(name, limits.SEGMENT)
        except TooLarge:
            return None
        text, _, end = data.decode(errors="replace").rpartition("\n")
        return self._parse(text) if end == json.dumps({"objects": SEGMENT}) else None

    @staticmethod
    def _line(entry: Model) -> str:
        text = entry.model_dump_json(by_alias=True, exclude_defaults=True)
        # exclude_defaults also omits the constant that distinguishes the entries
        return f'{{"type":{json.dumps(entry.type)},{text[1:]}' if text != "{}" else text  # type: ignore[attr-defined]

    @staticmethod
    def _key(number: int) -> str:
        return f"{number:08d}.jsonl"

    def _read(self, number: int) -> str | None:
        try:
            return self._store.get(self._key(number), limits.ENTRY).decode(errors="replace")
        except NotFound:
            return None

    @staticmethod
    def _parse(text: str) -> list[Any] | None:
        try:
            return [_ENTRY.validate_json(line) for line in text.split("\n")]
        except ValidationError:
            return None
