"""Several objects that are written and read as one, each checked against its digest.

Below the prefix, `objects/<SHA-256>` hold the bytes and `manifest.json` names them. The manifest is
written last and atomically, so a reader sees either the old or the new bundle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from kinase.api._base import Model
from kinase.store.base import NotFound, Store, StoreError

MANIFEST = "manifest.json"
OBJECTS = "objects"


class Corrupt(StoreError):
    """A stored object differs from its manifest; the message names it."""


class _Item(Model):
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]


class _Manifest(Model):
    format: Literal[1] = 1
    files: dict[str, _Item]


def write_bundle(store: Store, prefix: str, files: Mapping[str, bytes]) -> None:
    """Write a bundle, replacing an existing one. There must be only one writer at a time.

    If it is interrupted, the stored bundle is either the old or the new one; the next write removes
    objects that it does not name.

    Raises:
        StoreError: the bundle cannot be written, or the old one cannot be removed.
    """
    below = store.sub(prefix)
    items = {}
    for name, data in files.items():
        digest = hashlib.sha256(data).hexdigest()
        items[name] = _Item(size=len(data), sha256=digest)
        below.put(f"{OBJECTS}/{digest}", data)
    manifest = _Manifest(files=items)
    below.put(MANIFEST, manifest.model_dump_json(by_alias=True, indent=2).encode())
    named = {f"{OBJECTS}/{item.sha256}" for item in items.values()}
    for key in list(below.list(f"{OBJECTS}/")):
        if key not in named:
            below.delete(key)


def read_bundle(store: Store, prefix: str) -> dict[str, bytes]:
    """Read a bundle; if it is replaced meanwhile, read it again.

    Raises:
        NotFound: the manifest does not exist.
        Corrupt: the manifest is damaged, or an object is missing or differs from it.
    """
    below = store.sub(prefix)
    text = below.get(MANIFEST)
    while True:
        try:
            return _read(below, text)
        except Corrupt:
            seen, text = text, below.get(MANIFEST)
            if text == seen:
                raise


def _read(below: Store, text: bytes) -> dict[str, bytes]:
    try:
        manifest = _Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "it"
        raise Corrupt(
            f"{below.uri}/{MANIFEST} is damaged ({place}: {first['msg']}); restore it, or remove it"
            " to start from scratch"
        ) from None
    return {name: _object(below, name, item) for name, item in manifest.files.items()}


def _object(below: Store, name: str, item: _Item) -> bytes:
    key = f"{OBJECTS}/{item.sha256}"
    try:
        data = below.get(key)
    except NotFound:
        raise Corrupt(
            f"{below.uri}/{key} ({name}) is missing; restore it, or remove {MANIFEST}"
        ) from None
    if len(data) != item.size or hashlib.sha256(data).hexdigest() != item.sha256:
        raise Corrupt(
            f"{below.uri}/{key} ({name}) is damaged: {len(data)} bytes that differ from the "
            f"{item.size} that {MANIFEST} names; restore it, or remove {MANIFEST}"
        )
    return data
