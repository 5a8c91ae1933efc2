"""Quantities as Kubernetes writes them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

QUANTITY = r"^[+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]+)?$"


def _quantity(value: Any) -> Any:
    if isinstance(value, str):
        fits = len(value) <= 32 and bool(re.fullmatch(QUANTITY, value))
    else:
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not fits:
        raise ValueError(f"a quantity is written like 1, 500m or 4Gi; got {value!r}")
    return value


Quantity = Annotated[
    int | str,
    BeforeValidator(_quantity),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 0,
            "maxLength": 32,
            "pattern": QUANTITY,
            "x-kubernetes-int-or-string": True,
        }
    ),
]
"""A number, or a quantity such as 500m or 4Gi."""
_UNITS = {
    **{unit: Decimal(10) ** (3 * place - 9) for place, unit in enumerate(("n", "u", "m", ""))},
    **{unit: Decimal(1000) ** (place + 1) for place, unit in enumerate("kMGTPE")},
    **{f"{unit}i": Decimal(1024) ** (place + 1) for place, unit in enumerate("KMGTPE")},
}


def amount(quantity: int | str) -> int:
    """The value of a quantity, rounded down."""
    if isinstance(quantity, int):
        return quantity
    found = re.fullmatch(r"(.*?)(|[numkMGTPE]|[KMGTPE]i)", quantity.removeprefix("+"))
    assert found is not None
    return int(Decimal(found[1]) * _UNITS[found[2]])
