"""Settings of a training as axes of a space: which values each has, and which are near."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from kinase.api.recipe import BatchSizes, Numbers, Paddings, PixelCounts, TrainingSpace
from kinase.space.base import Part, Rng
from kinase.space.errors import ArchitectureError

Value = float | bool
"""Of a setting; an int for a whole number."""

STEPS = 1000
"""A range of real numbers has this many steps of equal width, on its scale."""
DEVIATION = 0.2
"""Standard deviation of a mutation, as a share of the range: that of the random neighbours of SMAC
(Hutter, Hoos & Leyton-Brown 2011, section 4.3)."""
MOVES = (-0.1, -0.02, 0.02, 0.1)
"""The neighbours of a number, as shares of the range."""


class Axis(ABC):
    """One setting."""

    def __init__(self, name: str, part: Part) -> None:
        """`name` is that in the manifest; `part` is its part of the encoding."""
        self.name = name
        self.part = part

    @abstractmethod
    def all(self) -> Sequence[Value]:
        """Every value that can be drawn."""

    @abstractmethod
    def has(self, value: object) -> bool:
        """Whether untrusted data is a value."""

    @property
    @abstractmethod
    def shown(self) -> str:
        """What is valid, for an error."""

    @abstractmethod
    def sample(self, rng: Rng) -> Value:
        """Draw a value."""

    @abstractmethod
    def neighbours(self, value: Value | None) -> list[Value]:
        """Other values near this one; any values where there is none."""

    @abstractmethod
    def mutate(self, value: Value | None, rng: Rng) -> Value:
        """Another value, near this one."""

    @abstractmethod
    def columns(self, value: Value | None) -> list[float]:
        """Its columns of the vector. Without a value: the middle, or no option."""

    @abstractmethod
    def at(self, code: float) -> Value | None:
        """The value at a number of the encoding; None for a choice that is not made."""

    def place(self, value: Value | None) -> float:
        """A single number for it, in 0..1, for predictors."""
        columns = self.columns(value)
        if len(columns) == 1:
            return columns[0]
        return columns.index(1.0) / (len(columns) - 1) if any(columns) else 0.5

    def check(self, value: object) -> None:
        """Check untrusted data.

        Raises:
            ArchitectureError: it is not a value.
        """
        if not self.has(value):
            raise ArchitectureError(f"training.{self.name} is {value!r:.80}; use {self.shown}")


class Choice(Axis):
    """A setting with a few values, none of which is nearer than another."""

    def __init__(self, name: str, values: Sequence[Value]) -> None:
        """`values` are different."""
        super().__init__(name, Part(len(values), choice=True, free=True))
        self.values = tuple(values)

    def all(self) -> Sequence[Value]:
        """The values, as the manifest lists them."""
        return self.values

    def has(self, value: object) -> bool:
        """True and false are no numbers."""
        same = (v for v in self.values if isinstance(v, bool) == isinstance(value, bool))
        return isinstance(value, int | float) and value in same

    @property
    def shown(self) -> str:
        """A list."""
        return "one of " + ", ".join(
            str(v).lower() if isinstance(v, bool) else f"{v:g}" for v in self.values
        )

    def sample(self, rng: Rng) -> Value:
        """Uniformly."""
        return self.values[int(rng.integers(len(self.values)))]

    def neighbours(self, value: Value | None) -> list[Value]:
        """All others."""
        return [other for other in self.values if value is None or other != value]

    def mutate(self, value: Value | None, rng: Rng) -> Value:
        """Any other."""
        others = self.neighbours(value)
        return others[int(rng.integers(len(others)))]

    def columns(self, value: Value | None) -> list[float]:
        """One for each value."""
        return [float(value is not None and other == value) for other in self.values]

    def at(self, code: float) -> Value | None:
        """The option of a number, from 1."""
        return self.values[round(code) - 1] if code >= 1 else None


class Range(Axis):
    """A number from an interval, on a linear or a logarithmic scale. Whole numbers are all there;
    others have `STEPS` steps, with four significant digits."""

    def __init__(self, name: str, low: float, high: float, *, log: bool, whole: bool) -> None:
        """From `low` to `high`, both included."""
        super().__init__(name, Part(free=True))
        self.low, self.high, self.log, self.whole = low, high, log, whole

    def all(self) -> Sequence[Value]:
        """In order."""
        if self.whole:
            return range(int(self.low), int(self.high) + 1)
        return sorted({self.at(step / STEPS) for step in range(STEPS + 1)})

    def has(self, value: object) -> bool:
        """Any number of the interval, of a step or not."""
        wanted = int if self.whole else int | float
        right = isinstance(value, wanted) and not isinstance(value, bool)
        return right and self.low <= value <= self.high  # type: ignore[operator]

    @property
    def shown(self) -> str:
        """The interval."""
        kind = "an integer" if self.whole else "a number"
        return f"{kind} from {self.low:g} to {self.high:g}"

    def sample(self, rng: Rng) -> Value:
        """Uniformly on the scale; each whole number has the interval of what is rounded to it."""
        if not self.whole:
            return self.at(float(rng.random()))
        if not self.log:
            return int(rng.integers(int(self.low), int(self.high) + 1))
        ends = math.log(self.low - 0.5), math.log(self.high + 0.5)
        return int(min(max(round(math.exp(rng.uniform(*ends))), self.low), self.high))

    def neighbours(self, value: Value | None) -> list[Value]:
        """A small and a large step down and up."""
        if value is None:
            return [self.at(step) for step in (0.0, 0.25, 0.5, 0.75, 1.0)]
        found = [self._moved(value, by) for by in MOVES]
        return [v for v in dict.fromkeys(found) if v != value]

    def mutate(self, value: Value | None, rng: Rng) -> Value:
        """By a normal step within the interval."""
        if value is None:
            return self.sample(rng)
        for _ in range(100):
            step = float(rng.normal(0.0, DEVIATION))
            if 0 <= self.place(value) + step <= 1 and (new := self._moved(value, step)) != value:
                return new
        return self.high if value != self.high else self.low  # of a very narrow range

    def _moved(self, value: Value, by: float) -> Value:
        """The value a share of the range away, a whole number at least by one; within the ends."""
        new = self.at(min(max(self.place(value) + by, 0.0), 1.0))
        if self.whole and new == value:
            new = int(min(max(value + math.copysign(1, by), self.low), self.high))
        return new

    def columns(self, value: Value | None) -> list[float]:
        """The place on the scale."""
        if value is None:
            return [0.5]
        low, high, here = (
            (math.log(self.low), math.log(self.high), math.log(value))
            if self.log
            else (self.low, self.high, value)
        )
        if low == high:  # the logarithms of a very narrow range
            return [0.5]
        return [min(max((here - low) / (high - low), 0.0), 1.0)]

    def at(self, code: float) -> Value:
        """The value at a place on the scale, 0..1."""
        code = code if self.whole else round(code * STEPS) / STEPS
        if self.log:
            value = math.exp(math.log(self.low) + code * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + code * (self.high - self.low)
        value = round(value) if self.whole else float(f"{value:.4g}")
        return min(max(value, self.low), self.high)


def axes_of(model: TrainingSpace) -> tuple[Axis, ...]:
    """The settings that a manifest searches for, in the order of the model."""
    found: list[Axis] = []
    for name, numbers in model.ranges.items():
        found.append(_axis(name, numbers))
    if model.flip:
        found.append(Choice("flip", (False, True)))
    return tuple(found)


def _axis(name: str, numbers: Numbers) -> Axis:
    if numbers.values is not None:
        return Choice(name, numbers.values)
    assert numbers.min is not None
    assert numbers.max is not None
    whole = isinstance(numbers, BatchSizes | Paddings | PixelCounts)
    return Range(name, numbers.min, numbers.max, log=numbers.scale == "log", whole=whole)
