"""The guarantees of every store, as tests: subclass `StoreContract` and give it a fixture `store`.

    class TestMine(StoreContract):
        @pytest.fixture
        def store(self) -> Store:
            return MyStore(...)  # empty, a new one for each test

Requires pytest. The guarantees are those of `kinase.store.base`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from kinase.store.base import Conflict, NotFound, Store, StoreError, TooLarge
from kinase.store.bundle import Corrupt, read_bundle, write_bundle
from kinase.store.open import probe

THREADS = 8
ROUNDS = 10
LARGE = 5_000_000

NO_KEYS = (
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/..",
    "a/../b",
    "a/./b",
    "./a",
    ".hidden",
    "a/.hidden/b",
    "a\0b",
    "a\nb",
    "a\ud800b",
)
"""Invalid keys."""

NO_PREFIXES = ("/", "..", "../", "a/../", "a//", "./a", ".a", "a/.b")
"""Invalid prefixes."""

KEYS = ("a", "a-b", "a.b", "b/c", "b/c.d/e_f", "b/ü/日本", "b/x y+z%20&=?#~'(1)", "c" * 200)
"""Valid keys."""


class StoreContract:
    """The tests. Each starts with an empty store."""

    page = 1000
    """Number of keys on one page of a server's reply."""

    def test_uri(self, store: Store) -> None:
        """The URI has no trailing slash; that of a view extends that of the store."""
        assert not store.uri.endswith("/")
        assert store.sub("a/b").uri == f"{store.uri}/a/b"

    def test_put_then_get(self, store: Store) -> None:
        """An object is read exactly as it was written, under any valid key."""
        data = {key: bytes(range(256)) + key.encode() for key in KEYS}
        for key, value in data.items():
            store.put(key, value)
        assert {key: store.get(key) for key in KEYS} == data
        assert list(store.list()) == sorted(KEYS)

    @pytest.mark.parametrize("if_absent", [False, True])
    def test_empty_object(self, store: Store, if_absent: bool) -> None:
        """An object can be empty."""
        store.put("a", b"", if_absent=if_absent)
        assert store.get("a") == b""
        assert store.exists("a")
        with pytest.raises(Conflict):
            store.put("a", b"1", if_absent=True)

    @pytest.mark.parametrize("if_absent", [False, True])
    def test_large_object(self, store: Store, if_absent: bool) -> None:
        """An object of 5 MB is read exactly as it was written."""
        data = bytes(range(251)) * (LARGE // 251 + 1)
        store.put("large", data, if_absent=if_absent)
        assert store.get("large") == data

    def test_limit(self, store: Store) -> None:
        """An object up to the limit is read, a larger one rejected with its name and the limit;
        later reads work."""
        store.put("a/b", b"12345")
        assert store.get("a/b", 5) == store.get("a/b", 2**40) == b"12345"
        for limit in (4, 0):
            with pytest.raises(TooLarge, match=rf"a/b is too large: .* at most {limit} bytes"):
                store.get("a/b", limit)
        store.put("large", bytes(LARGE))
        with pytest.raises(TooLarge, match=f"large is too large: .* at most {LARGE - 1:,} bytes"):
            store.get("large", LARGE - 1)
        with pytest.raises(NotFound):
            store.get("none", 1)
        assert store.get("large", LARGE) == bytes(LARGE)

    def test_copy(self, store: Store) -> None:
        """A copy replaces its target and keeps its source; copying a missing object fails."""
        store.put("a/b", b"1")
        store.put("c/d", b"222")
        store.copy("a/b", "c/d")
        store.sub("a").copy("b", "x y+z%20/e")
        assert store.get("c/d") == store.get("a/x y+z%20/e") == store.get("a/b") == b"1"
        for key in ("none", "a"):
            with pytest.raises(NotFound, match=f"{key} does not exist"):
                store.copy(key, "c/d")
        assert list(store.list()) == ["a/b", "a/x y+z%20/e", "c/d"]

    def test_get_range(self, store: Store) -> None:
        """A range is read between two positions, up to the object's end; reading a missing object
        fails."""
        data = bytes(range(256)) * 10_000
        store.put("a/b", data)
        store.put("empty", b"")
        size = len(data)
        for start, end in ((0, 1), (0, size), (7, 1_000_003), (size - 1, size)):
            assert store.get_range("a/b", start, end) == data[start:end]
        assert store.sub("a").get_range("b", size - 3, size + 9) == data[-3:]
        assert store.get_range("a/b", size, size + 1) == b""
        assert store.get_range("a/b", 2 * size, 3 * size) == b""
        assert store.get_range("a/b", 1, 2**46) == data[1:]
        assert store.get_range("empty", 0, 8) == b""
        for key in ("c", "a", "a/b/c"):
            with pytest.raises(NotFound, match=f"{key} does not exist"):
                store.get_range(key, 0, 1)
        for start, end in ((-1, 1), (1, 1), (2, 1)):
            with pytest.raises(ValueError, match="not a range"):
                store.get_range("a/b", start, end)

    def test_put_replaces(self, store: Store) -> None:
        """A put replaces an object, longer or shorter."""
        for value in (b"22", b"333", b"1"):
            store.put("a/b", value)
            assert store.get("a/b") == value
        assert list(store.list()) == ["a/b"]

    def test_get_of_none(self, store: Store) -> None:
        """Reading a missing object raises NotFound with its name. A folder is not an object."""
        store.put("a/b", b"1")
        for key in ("c", "a", "a/c", "d/e/f", "a/b/c"):
            with pytest.raises(NotFound, match=f"{key} does not exist"):
                store.get(key)
            assert not store.exists(key)
        assert store.exists("a/b")

    def test_put_if_absent(self, store: Store) -> None:
        """The second conditional put is rejected and changes nothing; a plain put succeeds."""
        store.put("a/b", b"1", if_absent=True)
        with pytest.raises(Conflict, match="a/b"):
            store.put("a/b", b"2", if_absent=True)
        with pytest.raises(Conflict):
            store.put("a/b", b"1", if_absent=True)
        assert store.get("a/b") == b"1"
        store.put("a/b", b"3")
        with pytest.raises(Conflict):
            store.put("a/b", b"4", if_absent=True)
        assert store.get("a/b") == b"3"
        store.delete("a/b")
        store.put("a/b", b"5", if_absent=True)
        assert store.get("a/b") == b"5"
        assert list(store.list()) == ["a/b"]

    @pytest.mark.parametrize("same", [False, True])
    def test_race(self, store: Store, same: bool) -> None:
        """Of eight concurrent conditional puts exactly one succeeds, even with the same bytes."""
        start = threading.Barrier(THREADS)

        def attempt(number: int, key: str) -> bool:
            start.wait()
            try:
                store.put(key, b"same" if same else str(number).encode(), if_absent=True)
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(THREADS) as pool:
            for turn in range(ROUNDS):
                key = f"race/{turn:02d}"
                won = list(pool.map(attempt, range(THREADS), [key] * THREADS))
                assert won.count(True) == 1, key
                assert store.get(key) == (b"same" if same else str(won.index(True)).encode())

    def test_put_is_atomic(self, store: Store) -> None:
        """A reader sees one complete object while others write, and lists no other objects."""
        values = {letter * 100_000 for letter in (b"a", b"b", b"c")}
        store.put("a", b"a" * 100_000)
        stop = threading.Event()

        def write(value: bytes) -> None:
            while not stop.is_set():
                store.put("a", value)

        with ThreadPoolExecutor(len(values)) as pool:
            writers = [pool.submit(write, value) for value in values]
            try:
                for _ in range(50):
                    assert store.get("a") in values
                    assert list(store.list()) == ["a"]
            finally:
                stop.set()
            for writer in writers:
                writer.result()

    def test_threads_share_it(self, store: Store) -> None:
        """Eight threads can write, read, list and delete concurrently."""

        def work(number: int) -> None:
            below = store.sub(f"thread/{number}")
            for turn in range(5):
                below.put(f"{turn}", b"%d %d" % (number, turn))
                assert below.get(f"{turn}") == b"%d %d" % (number, turn)
                assert list(below.list()) == [f"{turn}"]
                below.delete(f"{turn}")

        with ThreadPoolExecutor(THREADS) as pool:
            for done in [pool.submit(work, number) for number in range(THREADS)]:
                done.result()
        assert list(store.list()) == []

    def test_list(self, store: Store) -> None:
        """Keys are listed by prefix, which need not end at a slash, sorted by code point."""
        keys = ["a", "a-b/c", "ab", "b/1", "b/10", "b/2", "b/c/d", "b.c", "é", "z/y/x"]
        assert list(store.list()) == []
        for key in reversed(keys):
            store.put(key, b"1")
        assert list(store.list()) == sorted(keys)
        for prefix in (
            "a",
            "a-",
            "ab",
            "b",
            "b/",
            "b/1",
            "b/c",
            "b/c/",
            "é",
            "z/y/x",
            "none",
            "n/",
        ):
            wanted = sorted(key for key in keys if key.startswith(prefix))
            assert list(store.list(prefix)) == wanted, prefix

    def test_list_many(self, store: Store) -> None:
        """A list can span several pages of a server's reply."""
        keys = [f"many/{number:04d}" for number in range(self.page + 10)]
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda key: store.put(key, b"1"), keys))
        assert list(store.list("many/")) == keys
        assert list(store.list("many/00")) == keys[:100]

    def test_list_while_deleting(self, store: Store) -> None:
        """Objects can be deleted while they are listed."""
        for key in ("a/1", "a/2", "b"):
            store.put(key, b"1")
        for key in store.list("a/"):
            store.delete(key)
        assert list(store.list()) == ["b"]

    def test_delete(self, store: Store) -> None:
        """A deleted object is gone. Deleting a missing object is not an error, and a folder is not
        an object."""
        store.put("a/b", b"1")
        store.put("a/c", b"1")
        store.delete("a/b")
        store.delete("a/b")
        store.delete("a")
        store.delete("x/y")
        with pytest.raises(NotFound):
            store.get("a/b")
        assert list(store.list()) == ["a/c"]

    def test_sub(self, store: Store) -> None:
        """A view sees only the objects below its prefix."""
        part = store.sub("a/b")
        part.put("c", b"1")
        part.sub("d").put("e", b"2", if_absent=True)
        store.put("a/bc", b"3")
        store.put("f", b"4")
        assert list(store.list()) == ["a/b/c", "a/b/d/e", "a/bc", "f"]
        assert list(part.list()) == ["c", "d/e"]
        assert list(part.list("d")) == ["d/e"]
        assert store.get("a/b/c") == part.get("c") == b"1"
        assert store.sub("a").sub("b").get("d/e") == store.sub("a/b/d").get("e") == b"2"
        assert not part.exists("f")
        with pytest.raises(Conflict):
            store.put("a/b/d/e", b"5", if_absent=True)
        part.delete("c")
        assert not store.exists("a/b/c")

    def test_no_key(self, store: Store) -> None:
        """Every method rejects invalid keys and changes nothing."""
        store.put("b", b"1")
        below = store.sub("below")
        calls: list[Callable[[str], object]] = [
            below.get,
            lambda key: below.copy(key, "c"),
            lambda key: below.get_range(key, 0, 1),
            lambda key: below.put(key, b"2"),
            lambda key: below.put(key, b"2", if_absent=True),
            below.delete,
            below.exists,
            below.sub,
        ]
        for key in NO_KEYS:
            for call in calls:
                with pytest.raises(StoreError, match="is not a key") as caught:
                    call(key)
                assert not isinstance(caught.value, NotFound | Conflict), key
        assert list(store.list()) == ["b"]

    def test_no_prefix(self, store: Store) -> None:
        """A list does not leave the store's prefix."""
        store.put("b", b"1")
        for prefix in NO_PREFIXES:
            with pytest.raises(StoreError, match="is not a prefix"):
                list(store.sub("below").list(prefix))

    def test_probe(self, store: Store) -> None:
        """The probe accepts the store, and leaves no objects."""
        probe(store.sub("a"))
        assert list(store.list()) == []

    def test_bundle(self, store: Store) -> None:
        """A bundle is read as written, replaced atomically, and checked."""
        with pytest.raises(NotFound):
            read_bundle(store, "a/bundle")
        for files in ({"x": b"1", "y/z": b"", "w": b"1"}, {"x": b"2" * 1000}, {}, {"v": b"3"}):
            write_bundle(store, "a/bundle", files)
            assert read_bundle(store, "a/bundle") == files
        (key,) = store.list("a/bundle/objects/")
        store.put(key, b"4")
        with pytest.raises(Corrupt, match=key):
            read_bundle(store, "a/bundle")
