"""Kinase finds neural network architectures, on a laptop or on a Kubernetes cluster."""

import importlib
from typing import Any

__version__ = "0.1.0"

CLIENT = ("Callback", "Experiment", "ManifestError", "Result", "Search", "load_result", "search")
"""What `kinase.client` has for scripts and notebooks; `__init__.pyi` has the types."""


def __getattr__(name: str) -> Any:
    """Import the client on first use: the trainer and the operator import this package, too, and do
    not need the client."""
    if name in CLIENT:
        return getattr(importlib.import_module("kinase.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *CLIENT})
