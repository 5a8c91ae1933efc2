"""Where trials run."""

from kinase.engine.base import Engine, EngineError, Event, Finished, Lost, Progress

__all__ = ["Engine", "EngineError", "Event", "Finished", "Lost", "Progress"]
