"""Journal, weights and results by URI."""

from kinase.store.base import Conflict, NotFound, Store, StoreError
from kinase.store.bundle import Corrupt, read_bundle, write_bundle
from kinase.store.open import open_store, open_uri, probe

__all__ = [
    "Conflict",
    "Corrupt",
    "NotFound",
    "Store",
    "StoreError",
    "open_store",
    "open_uri",
    "probe",
    "read_bundle",
    "write_bundle",
]
