"""`spec.budget`, and what is paid from it beyond the search: control, finalists, baselines."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from kinase.api._base import Duration, Model, Rule
from kinase.api.estimation import Epochs

LIMITS = ("trials", "epochs", "deviceHours", "duration")
"""The budget's limits, by their names in a manifest."""
_NO_LIMIT = f"no limit is set: set at least one of {', '.join(LIMITS)}"


class Budget(Model):
    """Limits on what the experiment spends. The search ends at the first limit it reaches. At least
    one of trials, epochs, deviceHours and duration must be set."""

    trials: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Maximum number of trials, including those of the control. Finalists are not counted."""
    epochs: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Maximum number of training epochs in total, including finalists and killed attempts."""
    device_hours: Annotated[float, Field(gt=0, le=1e7)] | None = None
    """Maximum device hours (locally, hours of slots) in total, including finalists and killed
    attempts."""
    duration: Duration | None = None
    """Maximum wall-clock time of the search, such as 30m or 6h. Finalists are trained
    afterwards."""
    parallelism: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Maximum number of trials that run at the same time."""

    rules: ClassVar = (
        Rule(
            " || ".join(f"has(self.{limit})" for limit in LIMITS),
            _NO_LIMIT,
            reason="Required",
        ),
        Rule(
            "!has(self.trials) || self.parallelism <= self.trials",
            "parallelism {self.parallelism} is above trials {self.trials}; "
            "it can be at most the number of trials",
            ".parallelism",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.limits:
            raise ValueError(_NO_LIMIT)
        if self.trials is not None and self.parallelism > self.trials:
            raise ValueError(
                f"parallelism {self.parallelism} is above trials {self.trials}; "
                "it can be at most the number of trials"
            )
        return self

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by their names in a manifest; a duration in seconds."""
        seconds = None if self.duration is None else self.duration.total_seconds()
        values = (self.trials, self.epochs, self.device_hours, seconds)
        return {
            name: float(value)
            for name, value in zip(LIMITS, values, strict=True)
            if value is not None
        }


class Control(Model):
    """The random-search control that the strategy is compared with."""

    share: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    """Share of the trials that are sampled at random and hidden from the strategy. 0 disables the
    control."""


class Finalists(Model):
    """The best candidates, retrained from scratch at full fidelity. The winner among them is
    evaluated on the test data."""

    count: Annotated[int, Field(ge=1, le=100)] = 3
    """Number of candidates to retrain."""
    epochs: Epochs | None = None
    """Training epochs of a finalist. Default: `spec.training.epochs`."""


class Baseline(Model):
    """A hand-designed network, trained like the finalists, for comparison in the report."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    """Name shown in the report."""
    architecture: dict[str, Any]
    """Architecture in the format of `spec.space`. For a `Cell` space, a published architecture can
    be given by name, such as `{named: DARTS_V2}` or, with the preset nasnet, `{named:
    NASNet-A}`."""
