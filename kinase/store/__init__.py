"""Journal, weights and results by URI."""

from kinase.store.base import Conflict, NotFound, Store, StoreError

__all__ = ["Conflict", "NotFound", "Store", "StoreError"]
