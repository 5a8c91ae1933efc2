"""The trainer: an architecture becomes a module, is trained, measured and exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinase_trainer.model import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`load` is imported when it is used: it needs torch, which takes seconds."""
    if name == "load":
        from kinase_trainer.model import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
