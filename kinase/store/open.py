"""Stores by URI, and the probe of what is relied on."""

from __future__ import annotations

import uuid

from kinase.api.experiment import Storage
from kinase.store.base import Conflict, Store, StoreError
from kinase.store.file import FileStore


def open_uri(uri: str, endpoint: str | None = None, region: str | None = None) -> Store:
    """The store at ``file://FOLDER`` or ``s3://BUCKET/PREFIX``."""
    scheme, _, rest = uri.partition("://")
    if scheme == "file":
        return FileStore(rest)
    raise StoreError(f"{uri!r} is no URI of a store; use file://FOLDER or s3://BUCKET/PREFIX")


def open_store(storage: Storage) -> Store:
    """The store that a manifest names."""
    return open_uri(storage.uri, storage.endpoint, storage.region)


def probe(store: Store) -> None:
    """Write, read and write again, to see that a conditional put is honoured."""
    key = f"probe/{uuid.uuid4().hex}"
    store.put(key, b"1", if_absent=True)
    try:
        store.put(key, b"2", if_absent=True)
    except Conflict:
        pass
    else:
        raise StoreError(f"{store.uri} does not honour conditional puts (If-None-Match)")
    finally:
        store.delete(key)
