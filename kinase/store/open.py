"""Stores by URI, and a probe of the guarantees that Kinase relies on."""

from __future__ import annotations

import uuid

from kinase.api.storage import Storage
from kinase.store.base import Conflict, NotFound, Store, StoreError
from kinase.store.file import FileStore


def open_uri(
    uri: str,
    endpoint: str | None = None,
    region: str | None = None,
    request_timeout: float | None = None,
) -> Store:
    """The store at ``file://FOLDER`` or ``s3://BUCKET/PREFIX``.

    Args:
        uri: of the store.
        endpoint: URL of an S3-compatible server; AWS's own if None.
        region: of the bucket.
        request_timeout: see `S3Store`.

    Raises:
        StoreError: the URI is malformed, or boto3 is not installed.
    """
    scheme, _, rest = uri.partition("://")
    if scheme == "file" and rest:
        return FileStore(rest)
    if scheme == "s3" and rest:
        try:
            from kinase.store.s3 import S3Store
        except ImportError as error:
            raise StoreError(
                f"{uri} needs boto3 ({error}); install it with: pip install 'kinase-nas[s3]'"
            ) from error
        bucket, _, prefix = rest.rstrip("/").partition("/")
        return S3Store(
            bucket, prefix, endpoint=endpoint, region=region, request_timeout=request_timeout
        )
    raise StoreError(
        f"{uri!r} is not a URI of a store; use file://FOLDER or s3://BUCKET/PREFIX (storage.uri)"
    )


def open_store(storage: Storage) -> Store:
    """The store that a manifest names."""
    return open_uri(storage.uri, storage.endpoint, storage.region)


def probe(store: Store) -> None:
    """Write, write again, read and remove an object, to check that conditional puts are honoured.

    Raises:
        StoreError: a step is not permitted, or the second put was not rejected.
    """
    key = f"probe/{uuid.uuid4().hex}"
    try:
        store.put(key, b"1", if_absent=True)
    except Conflict:
        raise _broken(store, "refuses a first one") from None
    try:
        try:
            store.put(key, b"2", if_absent=True)
        except Conflict:
            pass
        else:
            raise _broken(store, "overwrites what is there")
        try:
            found = store.get(key)
        except NotFound:
            found = b""
        if found != b"1":
            raise StoreError(
                f"{store.uri} does not return what was just written; a store must be consistent: "
                "switch off a cache in front of it, or use another storage.uri"
            )
    finally:
        store.delete(key)


def _broken(store: Store, what: str) -> StoreError:
    return StoreError(
        f"{store.uri} does not honour conditional puts (If-None-Match: *): it {what}. They keep "
        "two runs from writing one journal; use a server or a version that honours them, such as "
        "AWS S3 or versitygw, or a folder, file://FOLDER (storage.uri)"
    )
