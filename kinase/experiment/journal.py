"""The journal: the experiment's memory, append-only.

Entries that belong together, those of one turn of the loop, are one object: all of them are kept,
or none. An object's key is its number, written with a conditional put: of two controllers that
believe they run the same experiment, one finds its next number taken and stops (`Fenced`). Sealed
segments hold copies of many objects so that a long journal is read quickly; the objects themselves
stay, because a number that is free again would let a stale controller in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from kinase.api import limits
from kinase.api._base import Model
from kinase.api.fidelity import Grant
from kinase.api.trial import (
    Architecture,
    Confusion,
    Cost,
    Inheritance,
    Inherited,
    Kind,
    Outcome,
)
from kinase.store import Conflict, NotFound, Store, StoreError, TooLarge

SEGMENT = 512
"""Objects in a sealed segment."""

Seconds = Annotated[float, Field(ge=0)]


class Asked(Model):
    """A trial was decided on. From here on it counts."""

    type: Literal["asked"] = "asked"
    trial: Annotated[int, Field(ge=0)]
    """Number of the trial."""
    kind: Kind
    """Why it is run."""
    architecture: Architecture
    """The genotype."""
    key: str
    """Canonical hash of the architecture."""
    grant: Grant
    """What it may train at first."""
    seed: int
    """Seed of the training."""
    resources: dict[str, float] = Field(default_factory=dict)
    """Parameters and multiply-adds of the network of full fidelity."""
    parents: tuple[int, ...] = ()
    """Trials that the architecture was made from; for a finalist, the trial that found it."""
    operation: str = ""
    """How it was made; for a baseline, its name."""
    inherit: Inheritance | None = None
    """Weights that it begins with."""
    learning_rate: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Factor on the learning rate."""
    measure: tuple[str, ...] = ()
    """Zero-cost proxies to measure."""
    elapsed: Seconds = 0.0
    """Seconds that the experiment has run."""

    @model_validator(mode="before")
    @classmethod
    def _in_full(cls, data: Any) -> Any:
        """Before there were grants, an entry had the fidelity of a whole training."""
        if isinstance(data, dict) and "fidelity" in data and "grant" not in data:
            rest = {name: value for name, value in data.items() if name != "fidelity"}
            return {**rest, "grant": {"fidelity": data["fidelity"]}}
        return data


class Attempt(Model):
    """A trial begins again after its process was lost."""

    type: Literal["attempt"] = "attempt"
    trial: Annotated[int, Field(ge=0)]
    """Number of the trial."""
    attempt: Annotated[int, Field(ge=2)]
    """Number of the attempt that follows."""
    begun: Annotated[int, Field(ge=0)]
    """Epochs begun by the attempts before, which are paid for."""
    done: Annotated[int, Field(ge=0)]
    """Epochs that a checkpoint holds, which need not be paid again."""
    crash: bool
    """Whether the loss counts against `maxRetries`."""
    message: str = ""
    """What happened."""
    elapsed: Seconds = 0.0
    """Seconds that the experiment has run."""


class Rested(Model):
    """A trial reached the end of its grant, or a look, and waits for a decision. Its checkpoint
    holds what it has trained."""

    type: Literal["rested"] = "rested"
    trial: Annotated[int, Field(ge=0)]
    """Number of the trial."""
    done: Annotated[int, Field(ge=0)]
    """Epochs done at this fidelity."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """What was measured."""
    cost: Cost = Cost()
    """What was spent, all attempts together."""
    curve: tuple[float | None, ...] = ()
    """The objective's metric after each epoch of this fidelity."""
    inherited: Inherited | None = None
    """What the network began with, if it was to inherit."""
    kept_bytes: Annotated[int, Field(ge=0)] = 0
    """Size of what was kept of the network for its children."""
    elapsed: Seconds = 0.0
    """Seconds that the experiment has run."""


class Granted(Model):
    """A resting trial is trained on."""

    type: Literal["granted"] = "granted"
    trial: Annotated[int, Field(ge=0)]
    """Number of the trial."""
    grant: Grant
    """What it may train now."""
    attempt: Annotated[int, Field(ge=2)]
    """Number of the attempt that follows."""
    restart: bool = False
    """Whether it begins again from epoch 0, because the fidelity is another."""
    elapsed: Seconds = 0.0
    """Seconds that the experiment has run."""


class Told(Model):
    """A trial ended; there is exactly one such entry for each trial."""

    type: Literal["told"] = "told"
    trial: Annotated[int, Field(ge=0)]
    """Number of the trial."""
    outcome: Outcome
    """How it ended."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """What was measured."""
    cost: Cost = Cost()
    """What was spent, all attempts together."""
    curve: tuple[float | None, ...] = ()
    """The objective's metric after each epoch."""
    message: str = ""
    """What went wrong."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """What the trainer says of itself (finalists only)."""
    inherited: Inherited | None = None
    """What the network began with, if it was to inherit."""
    kept_bytes: Annotated[int, Field(ge=0)] = 0
    """Size of what was kept of the network for its children."""
    predicted: float | None = None
    """For a trial that was stopped: the metric that was expected at the end of its grant."""
    probability: Annotated[float, Field(ge=0, le=1)] | None = None
    """For a trial that was stopped: the probability on which the rule acted."""
    elapsed: Seconds = 0.0
    """Seconds that the experiment has run."""


class Ended(Model):
    """The search is over; finalists follow."""

    type: Literal["ended"] = "ended"
    reason: str
    """Why, for a person."""
    limits: dict[str, float] = Field(default_factory=dict)
    """The budget's limits that were set, by name, durations in seconds, and the target: by these it
    is known later whether one was raised."""
    elapsed: Seconds = 0.0
    """Seconds that the experiment has run."""


class Finished(Model):
    """All is done, unless a limit is raised. A winner was tested once."""

    type: Literal["finished"] = "finished"
    winner: int | None
    """Number of the winning finalist's trial."""
    test: dict[str, float] = Field(default_factory=dict)
    """The winner's test metrics."""
    confusion: Confusion | None = None
    """See `TrialResult.confusion`."""
    message: str = ""
    """Why there is no winner."""
    elapsed: Seconds = 0.0
    """Seconds that the experiment has run."""


class Reopened(Model):
    """A search that was over goes on, since a limit was raised. What it earned stays."""

    type: Literal["reopened"] = "reopened"
    limits: dict[str, float]
    """The limits that are set now, as `Ended` has them."""
    weights: tuple[int, ...] = ()
    """Trials of the search whose weights are still there for children to begin with."""
    elapsed: Seconds = 0.0
    """Seconds that the experiment has run."""


AnyEntry = Asked | Attempt | Rested | Granted | Told | Ended | Finished | Reopened
Entry = Annotated[AnyEntry, Field(discriminator="type")]
_ENTRY: TypeAdapter[AnyEntry] = TypeAdapter(Entry)


class Fenced(StoreError):
    """Another process writes to the same experiment."""


class JournalError(StoreError):
    """The journal cannot be read; the message names the entry."""


class Journal:
    """Entries of one experiment, below `journal/` of its store."""

    def __init__(self, store: Store) -> None:
        """The journal that lies in an experiment's store."""
        self._store = store.sub("journal")
        self._next = 0
        self._sealed = 0
        self._unsealed: list[str] = []

    @property
    def length(self) -> int:
        """Number of objects."""
        return self._next

    def replay(self) -> Iterator[Any]:
        """Read every entry in order. Appending is possible after that.

        An object cut short at the very end (a crash of a store without atomic puts) was never
        acted on and is written again; one cut short before the end is an error.

        Raises:
            JournalError: an object is missing or damaged.
        """
        keys = list(self._store.list())
        segments = sorted(key for key in keys if re.fullmatch(r"segment-\d{8}\.jsonl", key))
        numbers = {int(key[:8]) for key in keys if re.fullmatch(r"\d{8}\.jsonl", key)}
        for name in segments:
            entries = self._segment(name)
            if entries is None:
                break  # half written or out of order: the objects themselves are still there
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
        """Write entries, all or none; when this returns they are kept.

        Raises:
            Fenced: another process wrote an object of this number.
            StoreError: they cannot be written.
        """
        text = "\n".join(map(self._line, entries))
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
        """Entries of a segment that follows what was read so far, or None if it is not whole."""
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
        # exclude_defaults also leaves out the constant that tells entries apart
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
