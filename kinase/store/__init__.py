"""Journal, weights and results by URI."""

from kinase.store.base import Conflict, NotFound, Store, StoreError
from kinase.store.open import open_store, open_uri, probe

__all__ = ["Conflict", "NotFound", "Store", "StoreError", "open_store", "open_uri", "probe"]
