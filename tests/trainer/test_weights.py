"""Files of tensors that are read in part, and the folder in which a node's trials share them."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from kinase.store import CountingStore, NotFound
from kinase.store.file import FileStore
from kinase.store.memory import MemoryStore
from kinase_trainer import weights
from kinase_trainer.cache import Cache
from kinase_trainer.errors import CorruptModel

KEY = "weights.safetensors"


def tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "a.weight": torch.rand(40, 30),
        "a.count": torch.tensor(7),
        "b.weight": torch.rand(50, 20, 3, 3, dtype=torch.float64),
        "b.half": torch.rand(9).to(torch.bfloat16),
        "c.mask": torch.tensor([True, False, True]),
        "c.none": torch.rand(0, 3),
        "d.weight": torch.rand(300),
    }


class Recorder(CountingStore):
    """Notes what is asked for."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(MemoryStore())
        self._store.put(KEY, raw)
        self.ranges: list[tuple[int, int]] = []

    def get(self, key: str, limit: int | None = None) -> bytes:
        raise AssertionError("the file is read by ranges alone")

    def get_range(self, key: str, start: int, end: int) -> bytes:
        self.ranges.append((start, end))
        return super().get_range(key, start, end)


def digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of some kilobytes are large here."""
    monkeypatch.setattr(weights, "FIRST", 1000)
    monkeypatch.setattr(weights, "GAP", 100)


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype is tensor.dtype
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("first", [16, 700, 1000, 5000, 1_000_000])
def test_a_whole_file_is_what_safetensors_reads(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "FIRST", first)
    raw = save_tensors(tensors(), {"format": "pt"})
    store = Recorder(raw)
    same(weights.read(store, KEY, digest(raw), weights.describe(raw)), load_tensors(raw))
    assert len(store.ranges) <= 3
    same(weights.read(store, KEY, digest(raw)), load_tensors(raw))


@pytest.mark.parametrize("name", tensors())
def test_one_tensor_is_read_by_its_range_and_checked(name: str) -> None:
    raw = save_tensors(tensors())
    stored = weights.describe(raw)
    store = Recorder(raw)
    found = weights.read(store, KEY, digest(raw), stored, [name])
    same(found, {name: tensors()[name]})
    assert len(store.ranges) <= 2
    assert store.traffic.read <= 1000 + tensors()[name].nbytes
    found[name].zero_()  # it can be written to


def test_near_tensors_are_read_together_and_far_ones_apart() -> None:
    raw = save_tensors({f"t{n}": torch.rand(500) for n in range(6)})  # 2000 bytes each
    store = Recorder(raw)
    weights.read(store, KEY, digest(raw), weights.describe(raw), ["t1", "t2", "t5"])
    assert len(store.ranges) == 3  # the header, two neighbours, one
    assert store.traffic.read == 1000 + 3 * 2000
    assert weights.read(store, KEY, digest(raw), weights.describe(raw), []) == {}
    assert len(store.ranges) == 3


def test_a_tampered_tensor_is_found_wherever_a_bit_was_changed() -> None:
    raw = save_tensors(tensors())
    stored = weights.describe(raw)
    for place in range(len(raw) - sum(t.nbytes for t in tensors().values()), len(raw), 997):
        changed = bytearray(raw)
        changed[place] ^= 1
        said = []
        for name in tensors():
            try:
                weights.read(Recorder(bytes(changed)), KEY, digest(raw), stored, [name])
            except CorruptModel as error:
                said.append((f"has {name!r} other than its card says", str(error)))
        assert len(said) == 1
        assert said[0][0] in said[0][1]
        with pytest.raises(CorruptModel, match="is not the file that its card names"):
            weights.read(Recorder(bytes(changed)), KEY, digest(raw), stored)


def framed(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(shape: list[Any], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "holds no tensors"),
    "pickled": (pickle.dumps({"a": bytes(5000)}), "is a pickled file, which is never opened"),
    "of torch.save": (b"PK\x03\x04" + bytes(5000), "is a pickled file, which is never opened"),
    "a header of petabytes": (b"\xff" * 6 + b"\0\0{" + bytes(5000), "holds no tensors"),
    "a header that is cut off": (framed({"a": entry([1], 0, 4)})[:-9], "holds no tensors"),
    "a header that is a list": (framed([1] * 9), "holds no tensors"),
    "no JSON": (framed(b"{nothing of that kind}"), "holds no tensors"),
    "an entry that is text": (framed({"a": {"dtype": "F32", "shape": "1"}}), "describes none"),
    "an unknown type": (framed({"a": entry([4], 0, 4, "X8")}, b"1234"), "of type 'X8'"),
    "a negative size": (framed({"a": entry([-1], 0, 4)}, b"1234"), "holds no tensors"),
    "a size beyond all": (framed({"a": entry([2**60], 0, 4)}, b"1234"), "holds no tensors"),
    "bytes too few": (framed({"a": entry([2], 0, 4)}, b"1234"), "do not fit its shape"),
    "bytes twice": (
        framed({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, b"1234"),
        "do not fit its shape",
    ),
    "bytes beyond the end": (framed({"a": entry([2000], 0, 8000)}), "is not the file"),
    "bytes beyond any file": (framed({"a": entry([2**31] * 2, 0, 2**64)}), "holds no tensors"),
    "bytes before the beginning": (framed({"a": entry([2], -4, 4)}, b"1234"), "holds no tensors"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_none_is_refused_before_it_is_read(name: str) -> None:
    raw, message = REFUSED[name]
    store = Recorder(raw)
    with pytest.raises(CorruptModel, match=message):
        weights.read(store, KEY, digest(raw))
    assert store.traffic.read <= 1000


def test_bytes_that_are_not_there_take_no_memory(tmp_path: Path) -> None:
    """A header may promise more than there is memory, of a file in a folder or in the cache."""
    raw, good = framed({"a": entry([2**40], 0, 2**42)}, b"1234"), save_tensors({"a": torch.rand(3)})
    store = FileStore(tmp_path / "store")
    store.put("bad", raw)
    with pytest.raises(CorruptModel, match="is not the file that its card names"):
        weights.read(store, "bad", digest(raw))
    (tmp_path / digest(good)).write_bytes(raw)
    store.put("good", good)
    same(weights.read(store, "good", digest(good), cache=Cache(tmp_path)), load_tensors(good))


def test_a_header_that_disagrees_with_the_card_is_refused() -> None:
    raw = save_tensors({"a": torch.rand(4, 2000), "b": torch.rand(2)})
    stored = weights.describe(raw)
    changes: list[tuple[dict[str, weights.Stored], str]] = [
        ({**stored, "a": stored["a"].model_copy(update={"shape": (8, 1000)})}, r"'a' is \('F32'"),
        ({**stored, "a": stored["a"].model_copy(update={"dtype": "I32"})}, r"'a' is \('F32'"),
        ({"a": stored["a"]}, "'b' it has, its card has not"),
        ({**stored, "c": stored["b"]}, "'c' it lacks, its card has it"),
    ]
    for card, message in changes:
        for names in (None, ["a"]):
            store = Recorder(raw)
            with pytest.raises(CorruptModel, match=message):
                weights.read(store, KEY, digest(raw), card, names)
            assert store.traffic.read <= 1000


def test_no_file_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    for cache in (None, Cache(tmp_path)):
        with pytest.raises(NotFound):
            weights.read(MemoryStore(), KEY, digest(b""), cache=cache)


# The folder that a node's trials share


def test_a_parent_is_read_from_the_store_once(tmp_path: Path) -> None:
    raw = save_tensors(tensors())
    store, cache = Recorder(raw), Cache(tmp_path / "made")
    stored = weights.describe(raw)
    for _ in range(2):
        same(weights.read(store, KEY, digest(raw), stored, cache=cache), tensors())
    assert store.traffic.read == cache.bytes_read == len(raw)
    assert (tmp_path / "made" / digest(raw)).read_bytes() == raw
    weights.read(store, KEY, digest(raw), stored, ["d.weight"], cache)
    assert store.traffic.read == len(raw)
    assert cache.bytes_read <= len(raw) + 1000 + tensors()["d.weight"].nbytes


def test_a_part_is_not_kept(tmp_path: Path) -> None:
    raw = save_tensors(tensors())
    weights.read(
        Recorder(raw), KEY, digest(raw), weights.describe(raw), ["d.weight"], Cache(tmp_path)
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("names", [None, ["a.weight", "c.mask"]])
@pytest.mark.parametrize("damage", [lambda raw: raw[:-7], lambda raw: bytes(9) + raw[9:]])
def test_a_damaged_file_is_dropped_and_read_anew(
    damage: Callable[[bytes], bytes], names: list[str] | None, tmp_path: Path
) -> None:
    raw = save_tensors(tensors())
    kept = tmp_path / digest(raw)
    kept.write_bytes(damage(raw))
    wanted = {n: t for n, t in tensors().items() if names is None or n in names}
    found = weights.read(
        Recorder(raw), KEY, digest(raw), weights.describe(raw), names, Cache(tmp_path)
    )
    same(found, wanted)
    assert not kept.exists() if names else kept.read_bytes() == raw


def test_what_is_wrong_in_the_store_does_not_get_into_the_cache(tmp_path: Path) -> None:
    raw = save_tensors(tensors())
    with pytest.raises(CorruptModel):
        weights.read(Recorder(raw), KEY, "0" * 64, cache=Cache(tmp_path))
    assert not (tmp_path / ("0" * 64)).exists()


def test_what_was_used_longest_ago_goes_when_there_is_no_room(tmp_path: Path) -> None:
    cache = Cache(tmp_path, most=2500)
    files = {digest(bytes([n])): bytes([n]) * 1000 for n in range(3)}
    first, second, third = files
    for age, name in ((20, first), (10, second)):
        cache.keep(name, [files[name]])
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    with cache.open(first) as file:
        assert file is not None
        assert file.read() == files[first]
    (tmp_path / ".killed.part").write_bytes(b"1")
    os.utime(tmp_path / ".killed.part", (1, 1))
    (tmp_path / "another's file").write_bytes(bytes(9000))
    cache.keep(third, [files[third][:500], files[third][500:]])
    assert {p.name for p in tmp_path.iterdir()} == {first, third, "another's file"}
    cache.keep(second, [bytes(3000)])
    assert not (tmp_path / second).exists()


def test_many_at_once_read_a_parent_from_the_store_once(tmp_path: Path) -> None:
    raw = save_tensors(tensors())
    start = threading.Barrier(8)
    store, wanted = Recorder(raw), tensors()

    def child(_: int) -> int:
        cache = Cache(tmp_path)  # as a process of its own has
        start.wait()
        same(weights.read(store, KEY, digest(raw), cache=cache), wanted)
        return cache.bytes_read

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(child, range(8))) == 7 * len(raw)
    assert store.traffic.read == len(raw)


def test_a_folder_that_cannot_be_used_costs_nothing_but_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = save_tensors(tensors())
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "below")
    same(weights.read(Recorder(raw), KEY, digest(raw), cache=cache), tensors())
    assert "keeps no weights" in capsys.readouterr().err


def test_a_pipe_in_place_of_a_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    raw = save_tensors(tensors())
    os.mkfifo(tmp_path / digest(raw))
    same(weights.read(Recorder(raw), KEY, digest(raw), cache=Cache(tmp_path)), tensors())
    assert (tmp_path / digest(raw)).read_bytes() == raw


def test_the_environment_says_where_and_how_much(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Cache.of({}) is None
    assert Cache.of({"KINASE_CACHE_DIR": ""}) is None
    found = Cache.of({"KINASE_CACHE_DIR": str(tmp_path), "KINASE_CACHE_BYTES": "7"})
    assert found is not None
    found.keep(digest(b""), [bytes(8)])
    assert not list(tmp_path.iterdir())
    assert Cache.of({"KINASE_CACHE_DIR": str(tmp_path), "KINASE_CACHE_BYTES": "7 GB"}) is not None
    assert "'7 GB', no number of bytes" in capsys.readouterr().err
