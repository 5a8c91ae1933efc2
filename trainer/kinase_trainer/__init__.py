"""The trainer: an architecture becomes a module, is trained, measured and exported."""

from kinase_trainer.model import load

__all__ = ["load"]
