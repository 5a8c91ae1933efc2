"""Reads tensors of a safetensors file, completely or in part, and checks them before use.

The file is untrusted: its first bytes, the length of its header, and every offset are checked
before anything else is read. A complete file is checked by its digest, a part by the digests of its
tensors.
"""

from __future__ import annotations

import hashlib
import math
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Annotated, BinaryIO

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from kinase.api._base import Model
from kinase.store import Store
from kinase_trainer.cache import Cache
from kinase_trainer.errors import CorruptModel

FIRST = 1 << 20
"""Bytes of the first request: the header, or the complete file of a small network."""
GAP = 1 << 20
"""Gaps up to this size in bytes are read along, because a separate request would take longer."""
MOST_KEPT = 1 << 28
"""Bytes of a file that a `Reader` keeps. If there are more, it keeps the header only."""
MOST_HEADER = 1 << 24
"""Maximum bytes of a header; a tensor takes about a hundred."""
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Types by their names in the format."""
_PICKLES = (b"PK\x03\x04", *(bytes((0x80, protocol)) for protocol in range(2, 6)))
"""First bytes of files from torch.save or pickle."""

Part = Callable[[int, int], bytes]
"""Reads a range of a file."""


class Stored(Model):
    """A tensor's entry in the card."""

    dtype: str
    """Type by its name in the format, such as F32."""
    shape: tuple[Annotated[int, Field(ge=0)], ...]
    """Shape of the tensor."""
    sha256: str
    """Digest of its bytes."""


class _Entry(BaseModel):
    """A tensor's entry in the file's header."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    dtype: str
    shape: list[Annotated[int, Field(ge=0, lt=2**48)]]
    data_offsets: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0, lt=2**48)]]


_HEADER = TypeAdapter(dict[str, _Entry | dict[str, str]])
_Header = dict[str, _Entry]
"""Offsets are counted from the start of the file."""


def describe(raw: bytes) -> dict[str, Stored]:
    """The card's entries for the tensors of a new file."""
    file = _File("the file", lambda start, end: raw[start:end])
    view = memoryview(raw)
    return {
        name: Stored(
            dtype=entry.dtype,
            shape=tuple(entry.shape),
            sha256=hashlib.sha256(view[slice(*entry.data_offsets)]).hexdigest(),
        )
        for name, entry in file.header.items()
    }


def read(
    store: Store,
    key: str,
    digest: str | None,
    stored: Mapping[str, Stored] | None = None,
    names: Iterable[str] | None = None,
    cache: Cache | None = None,
) -> dict[str, Tensor]:
    """Read the tensors of a file.

    A complete file is read from the cache, or added to it. A part is read from the cache if the
    file is in it, otherwise from the store in as few requests as is reasonable.

    Args:
        store: store of the file.
        key: key of the file.
        digest: SHA-256 of the file, or None if unknown; the file is then read completely.
        stored: the card's entries for the tensors, or None.
        names: names of the tensors to read, which must be in `stored`. Default: all.
        cache: cache of this node.

    Raises:
        NotFound: the file does not exist.
        CorruptModel: it differs from the card.
    """
    where = f"{store.uri}/{key}"
    wanted = None if names is None else set(names)
    if wanted is not None and not wanted:
        return {}
    if cache is None or digest is None:
        return _File(where, partial(store.get_range, key)).tensors(digest, stored, wanted)
    with cache.alone(digest) if wanted is None else nullcontext():
        with cache.open(digest) as kept:
            if kept is not None:
                try:
                    file = _File(where, partial(_part, kept))
                    found = file.tensors(digest, stored, wanted)
                except (OSError, CorruptModel):
                    cache.drop(digest)
                else:
                    cache.bytes_read += file.bytes_read
                    return found
        file = _File(where, partial(store.get_range, key))
        found = file.tensors(digest, stored, wanted)
        if wanted is None:
            cache.keep(digest, file.pieces)
        return found


class Reader:
    """Reads parts of one file, one after the other. Its header is read and checked once, and no
    byte is read twice as long as they are few enough to be kept."""

    def __init__(
        self, key: str, digest: str, stored: Mapping[str, Stored], cache: Cache | None = None
    ) -> None:
        """Nothing is read yet. The arguments are those of `read`."""
        self._key, self._digest, self._stored, self._cache = key, digest, stored, cache
        self._file: _File | None = None

    def read(self, store: Store, names: Iterable[str]) -> dict[str, Tensor]:
        """Read the tensors with these names.

        Raises:
            NotFound: the file does not exist.
            CorruptModel: it differs from the card.
        """
        if self._file is None and self._cached:
            return read(store, self._key, self._digest, self._stored, names, self._cache)
        part = partial(store.get_range, self._key)
        if self._file is None:
            self._file = _File(f"{store.uri}/{self._key}", part)
        file, self._file = self._file, None  # read again after an error
        found = file.tensors(None, self._stored, set(names), part)
        if file.bytes_read > MOST_KEPT:
            file.forget()
        self._file = file
        return found

    @property
    def _cached(self) -> bool:
        if self._cache is None:
            return False
        with self._cache.open(self._digest) as kept:
            return kept is not None


def _part(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(max(0, min(end, os.fstat(file.fileno()).st_size) - start))


class _File:
    """The parts of a file that have been read."""

    def __init__(self, where: str, part: Part) -> None:
        """Read the header.

        Raises:
            CorruptModel: the file has no valid header.
        """
        self._where, self._part = where, part
        first = part(0, FIRST)
        self._pieces = {0: first}
        self._compared = False
        size = int.from_bytes(first[:8], "little")
        if len(first) < 10 or not 2 <= size <= MOST_HEADER or first[8:9] != b"{":
            kind = "is a pickled file, which is never opened"
            raise self._corrupt(kind if first.startswith(_PICKLES) else "holds no tensors")
        if len(first) == FIRST < 8 + size:
            self._pieces[FIRST] = part(FIRST, 8 + size)
        self._header_pieces = dict(self._pieces)
        self.header, self._size = self._parse(b"".join(self._pieces.values())[8 : 8 + size])

    def _corrupt(self, what: str) -> CorruptModel:
        return CorruptModel(f"{self._where} {what}")

    def _parse(self, text: bytes) -> tuple[_Header, int]:
        try:
            found = _HEADER.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            raise self._corrupt(f"holds no tensors: its header, {first['msg']}") from error
        found.pop("__metadata__", None)
        place, header = 8 + len(text), _Header()
        offset = 0
        entries = {name: e for name, e in found.items() if isinstance(e, _Entry)}
        if len(entries) < len(found):
            raise self._corrupt("holds no tensors: an entry of its header describes none")
        for name, entry in sorted(entries.items(), key=lambda pair: pair[1].data_offsets):
            begin, end = entry.data_offsets
            dtype = DTYPES.get(entry.dtype)
            if dtype is None:
                raise self._corrupt(f"has {name!r} of type {entry.dtype!r}, which is not supported")
            if begin != offset or end - begin != math.prod(entry.shape) * dtype.itemsize:
                raise self._corrupt(f"has {name!r} at bytes that do not fit its shape")
            header[name] = entry.model_copy(update={"data_offsets": (place + begin, place + end)})
            offset = end
        return header, place + offset

    @property
    def bytes_read(self) -> int:
        """Of the file."""
        return sum(map(len, self._pieces.values()))

    @property
    def pieces(self) -> list[bytes]:
        """What was read, in order."""
        return [self._pieces[start] for start in sorted(self._pieces)]

    def forget(self) -> None:
        """Keep nothing but the header."""
        self._pieces = dict(self._header_pieces)

    def tensors(
        self,
        digest: str | None,
        stored: Mapping[str, Stored] | None,
        wanted: set[str] | None,
        part: Part | None = None,
    ) -> dict[str, Tensor]:
        """Get the tensors with some names, or all; `part` reads what is missing.

        Raises:
            CorruptModel: they differ from the card.
        """
        if stored is not None and not self._compared:
            self._compare(stored)
            self._compared = True
        names = list(self.header) if wanted is None else [n for n in self.header if n in wanted]
        extents = [(0, self._size)] if wanted is None else []
        extents += [self.header[name].data_offsets for name in names]
        for start, end in _ranges(self._missing(extents)):
            for within in [each for each in self._pieces if start <= each < end]:
                del self._pieces[within]
            self._pieces[start] = (part or self._part)(start, end)
        if wanted is None:
            whole = hashlib.sha256()
            for piece in self.pieces:
                whole.update(piece)
            if self.bytes_read != self._size or digest not in (None, whole.hexdigest()):
                raise self._corrupt("is not the file that its card names")
        found = {}
        for name in names:
            entry = self.header[name]
            found[name] = tensor = torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
            room = tensor.reshape(-1).view(torch.uint8).numpy()
            own, place = hashlib.sha256(), 0
            for data in self._slices(*entry.data_offsets):
                room[place : place + len(data)] = np.frombuffer(data, np.uint8)
                place += len(data)
                if wanted is not None:
                    own.update(data)
            if wanted is not None:
                assert stored is not None, "a part can only be checked with the card's digests"
                if place != len(room) or own.hexdigest() != stored[name].sha256:
                    raise self._corrupt(f"has {name!r} other than its card says")
        return found

    def _compare(self, stored: Mapping[str, Stored]) -> None:
        for name in self.header.keys() ^ stored.keys():
            there = "has, its card has not" if name in self.header else "lacks, its card has it"
            raise self._corrupt(f"does not fit its card: {name!r} it {there}")
        for name, entry in self.header.items():
            own, said = (entry.dtype, tuple(entry.shape)), (stored[name].dtype, stored[name].shape)
            if own != said:
                raise self._corrupt(f"does not fit its card: {name!r} is {own}, by that {said}")

    def _missing(self, extents: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """What has not been read of some ranges."""
        known = sorted((start, start + len(piece)) for start, piece in self._pieces.items())
        for begin, end in extents:
            for start, stop in known[max(0, bisect_right(known, (begin, math.inf)) - 1) :]:
                if begin >= end or start >= end:
                    break
                if begin < start:
                    yield begin, start
                begin = max(begin, stop)
            if begin < end:
                yield begin, end

    def _slices(self, begin: int, end: int) -> Iterator[memoryview]:
        """The bytes of a range that have been read."""
        starts = sorted(self._pieces)
        index = bisect_right(starts, begin) - 1
        while begin < end and index < len(starts):
            start, piece = starts[index], self._pieces[starts[index]]
            part = memoryview(piece)[begin - start : end - start]
            if not part:
                return
            yield part
            begin += len(part)
            index += 1


def _ranges(extents: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges to read, with near ones merged."""
    found: list[tuple[int, int]] = []
    for begin, end in sorted(extents):
        if found and begin <= found[-1][1] + GAP:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((begin, end))
    return found
