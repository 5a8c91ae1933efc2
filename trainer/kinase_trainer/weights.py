"""Tensors of a safetensors file, read whole or in part, and checked before they are used.

The file is untrusted: its first bytes, its header's length, and every offset are looked at before
anything else is read. A whole file is checked by its digest, a part of it by its tensors' own.
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
"""Bytes of the first request: the header, and all of a small network."""
GAP = 1 << 20
"""Bytes that are read along where a request of its own would take longer."""
MOST_HEADER = 1 << 24
"""Bytes of a header; a tensor takes about a hundred."""
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
"""By the names of the format."""
_PICKLES = (b"PK\x03\x04", *(bytes((0x80, protocol)) for protocol in range(2, 6)))
"""How files begin that torch.save or pickle wrote."""

Part = Callable[[int, int], bytes]
"""Reads from one place of a file up to another."""


class Stored(Model):
    """A tensor, as the card next to its file has it."""

    dtype: str
    """By its name in the format, such as F32."""
    shape: tuple[Annotated[int, Field(ge=0)], ...]
    """Its sizes."""
    sha256: str
    """Digest of its bytes."""


class _Entry(BaseModel):
    """A tensor, as the file's header has it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    dtype: str
    shape: list[Annotated[int, Field(ge=0, lt=2**48)]]
    data_offsets: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0, lt=2**48)]]


_HEADER = TypeAdapter(dict[str, _Entry | dict[str, str]])
_Header = dict[str, _Entry]
"""Offsets are those of the file."""


def describe(raw: bytes) -> dict[str, Stored]:
    """What a card says of the tensors of a file that we have just written."""
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
    """The tensors of a file.

    A whole file is looked for in the cache, and kept there. A part is taken from there if the file
    is there already, or else from the store in as few requests as is sensible.

    Args:
        store: of the file.
        key: of the file.
        digest: SHA-256 of the file; None of one that nobody vouches for, which is then read whole.
        stored: what its card says of the tensors; None if it says nothing.
        names: of the tensors that are wanted, which `stored` then holds; None wants all.
        cache: of this node.

    Raises:
        NotFound: there is no such file.
        CorruptModel: it is not what the card says.
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


def _part(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(max(0, min(end, os.fstat(file.fileno()).st_size) - start))


class _File:
    """What has been read of a file so far."""

    def __init__(self, where: str, part: Part) -> None:
        """Read its header.

        Raises:
            CorruptModel: it has none.
        """
        self._where, self._part = where, part
        first = part(0, FIRST)
        self._pieces = {0: first}
        size = int.from_bytes(first[:8], "little")
        if len(first) < 10 or not 2 <= size <= MOST_HEADER or first[8:9] != b"{":
            kind = "is a pickled file, which is never opened"
            raise self._corrupt(kind if first.startswith(_PICKLES) else "holds no tensors")
        if len(first) == FIRST < 8 + size:
            self._pieces[FIRST] = part(FIRST, 8 + size)
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
                raise self._corrupt(
                    f"has {name!r} of type {entry.dtype!r}, which is not one of ours"
                )
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

    def tensors(
        self, digest: str | None, stored: Mapping[str, Stored] | None, wanted: set[str] | None
    ) -> dict[str, Tensor]:
        """Those of some names, or all of them.

        Raises:
            CorruptModel: they are not what the card says.
        """
        if stored is not None:
            self._compare(stored)
        names = list(self.header) if wanted is None else [n for n in self.header if n in wanted]
        extents = [(0, self._size)] if wanted is None else []
        extents += [self.header[name].data_offsets for name in names]
        for start, end in _ranges(extents, len(self.pieces[0])):
            self._pieces[start] = self._part(start, end)
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

    def _slices(self, begin: int, end: int) -> Iterator[memoryview]:
        """The pieces' parts between two places, as far as they were read."""
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


def _ranges(extents: Iterable[tuple[int, int]], known: int) -> list[tuple[int, int]]:
    """What is to be asked for beyond the bytes that are known, near ones together."""
    found: list[tuple[int, int]] = []
    for begin, end in sorted((max(begin, known), end) for begin, end in extents):
        if begin >= end:
            continue
        if found and begin <= found[-1][1] + GAP:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((begin, end))
    return found
