"""What a supernet's trial leaves of its choices, read as untrusted data."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from kinase.api._base import Model

Name = Annotated[str, Field(min_length=1, max_length=200)]
Probability = Annotated[float, Field(ge=0, le=1.001, allow_inf_nan=False)]
Options = Annotated[tuple[Name, ...], Field(min_length=1, max_length=200)]
Row = Annotated[tuple[Probability, ...], Field(min_length=1, max_length=200)]


class ChoicesHistory(Model):
    """`choices.json` below the prefix of a supernet's trial."""

    options: Annotated[dict[Name, Options], Field(min_length=1, max_length=10_000)]
    """Names of the options of each group of choices, in order."""
    epochs: Annotated[tuple[dict[Name, Row], ...], Field(max_length=100_000)]
    """Probability of each option of each group after each epoch."""

    @model_validator(mode="after")
    def _fits(self) -> ChoicesHistory:
        for number, groups in enumerate(self.epochs, 1):
            if groups.keys() != self.options.keys():
                raise ValueError(f"epoch {number} has other groups than options")
            for group, row in groups.items():
                if len(row) != len(self.options[group]):
                    raise ValueError(
                        f"epoch {number} has {len(row)} probabilities for {group}, whose options "
                        f"are {len(self.options[group])}"
                    )
        return self
