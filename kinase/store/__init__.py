"""Stores for the journal, weights and results, by URI."""

from kinase.store.base import Conflict, NotFound, Store, StoreError, StoreUnavailable, TooLarge
from kinase.store.bundle import Corrupt, read_bundle, write_bundle
from kinase.store.counting import CountingStore
from kinase.store.open import open_store, open_uri, probe
from kinase.store.patient import PatientStore

__all__ = [
    "Conflict",
    "Corrupt",
    "CountingStore",
    "NotFound",
    "PatientStore",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "TooLarge",
    "open_store",
    "open_uri",
    "probe",
    "read_bundle",
    "write_bundle",
]
