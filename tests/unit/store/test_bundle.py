from __future__ import annotations

import hashlib
import json

import pytest

from kinase.store import Corrupt, NotFound, StoreError, read_bundle, write_bundle
from kinase.store.memory import MemoryStore

FILES = {"weights": b"w" * 1000, "optimizer/state": b"", "copy": b"w" * 1000}


class Mortal(MemoryStore):
    """Dies at its n-th change."""

    life = 1_000_000

    def _live(self) -> None:
        self.life -= 1
        if self.life < 0:
            raise StoreError("dead")

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        self._live()
        super().put(key, data, if_absent=if_absent)

    def delete(self, key: str) -> None:
        self._live()
        super().delete(key)

    def sub(self, prefix: str) -> MemoryStore:
        below = Mortal(f"{self.uri}/{prefix}", self._objects, f"{self._prefix}{prefix}/")
        below.life = self.life
        return below


def test_what_is_stored() -> None:
    store = MemoryStore()
    write_bundle(store, "a/b", FILES)
    assert read_bundle(store, "a/b") == FILES
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    objects = sorted(f"a/b/objects/{digest}" for digest in set(digests.values()))
    assert list(store.list()) == ["a/b/manifest.json", *objects]
    assert json.loads(store.get("a/b/manifest.json")) == {
        "format": 1,
        "files": {
            name: {"size": len(data), "sha256": digests[name]} for name, data in FILES.items()
        },
    }


def test_it_dies_at_every_change() -> None:
    new = {"weights": b"v" * 1000, "kept": b""}
    for life in range(100):
        store = Mortal("memory://")
        write_bundle(store, "a", FILES)
        store.life = life
        try:
            write_bundle(store, "a", new)
        except StoreError:
            assert read_bundle(store, "a") in (FILES, new)
        else:
            assert life == 4  # two objects, the manifest, one old object
            break
        store.life = 1_000_000
        write_bundle(store, "a", new)
        assert read_bundle(store, "a") == new
        assert len(list(store.list("a/objects/"))) == 2
    else:
        pytest.fail("never done")


@pytest.mark.parametrize("change", [b"", b"w" * 999, b"v" * 1000, b"w" * 1001, None])
def test_a_damaged_object_is_named(change: bytes | None) -> None:
    store = MemoryStore()
    write_bundle(store, "a", FILES)
    key = f"a/objects/{hashlib.sha256(FILES['weights']).hexdigest()}"
    if change is None:
        store.delete(key)
    else:
        store.put(key, change)
    with pytest.raises(Corrupt, match=rf"{key} \(weights\) is (damaged|missing)"):
        read_bundle(store, "a")
    write_bundle(store, "a", FILES)
    assert read_bundle(store, "a") == FILES


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"{",
        b"[]",
        b"{}",
        b'{"format": 2, "files": {}}',
        b'{"format": 1, "files": {"a": {}}}',
        b'{"format": 1, "files": {"a": {"size": -1, "sha256": "' + b"0" * 64 + b'"}}}',
        b'{"format": 1, "files": {"a": {"size": 1, "sha256": "../../secret"}}}',
        b'{"format": 1, "files": {"a": {"size": 1, "sha256": "' + b"0" * 64 + b'\\n"}}}',
    ],
)
def test_a_damaged_manifest_is_named(text: bytes) -> None:
    store = MemoryStore()
    store.put("a/manifest.json", text)
    with pytest.raises(Corrupt, match=r"memory:/*a/manifest.json is damaged"):
        read_bundle(store, "a")


def test_no_manifest() -> None:
    store = MemoryStore()
    store.put("a/objects/" + "0" * 64, b"")
    with pytest.raises(NotFound):
        read_bundle(store, "a")


def test_a_bundle_replaced_while_it_is_read() -> None:
    store = MemoryStore()
    write_bundle(store, "a", FILES)

    class Racing(MemoryStore):
        raced = False

        def get(self, key: str, limit: int | None = None) -> bytes:
            data = super().get(key, limit)
            if key == "manifest.json" and not Racing.raced:
                Racing.raced = True
                write_bundle(store, "a", {"new": b"1"})
            return data

        def sub(self, prefix: str) -> MemoryStore:
            return Racing(f"{self.uri}/{prefix}", self._objects, f"{self._prefix}{prefix}/")

    assert read_bundle(Racing("memory://", store._objects), "a") == {"new": b"1"}
