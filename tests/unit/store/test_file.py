from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kinase.api.storage import Storage
from kinase.store import (
    Conflict,
    NotFound,
    StoreError,
    StoreUnavailable,
    open_store,
    open_uri,
    probe,
)
from kinase.store.file import FileStore
from kinase.store.memory import MemoryStore
from kinase.store.s3 import S3Store


def failing(code: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the quota is used up"),
        (errno.EACCES, "permission is denied to user"),
        (errno.EROFS, "read-only; choose another folder"),
        (errno.EIO, "Input/output error"),
    ],
)
@pytest.mark.parametrize("call", ["open", "write", "replace", "link"])
def test_what_cannot_be_written_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, advice: str
) -> None:
    store = FileStore(tmp_path)
    store.put("a/old", b"1")
    with monkeypatch.context() as patch:
        patch.setattr(f"kinase.store.file.os.{call}", failing(code))
        with pytest.raises(StoreError, match=advice) as caught:
            store.put("a/old" if call == "replace" else "a/new", b"2", if_absent=call == "link")
    passes = code in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
    assert type(caught.value) is (StoreUnavailable if passes else StoreError)
    assert f"cannot write {store.uri}/a/" in str(caught.value)
    assert "storage.uri" in str(caught.value)
    assert files(tmp_path) == ["a/old"]
    assert store.get("a/old") == b"1"


def test_a_folder_without_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinase.store.file.os.makedirs", failing(errno.EACCES))
    with pytest.raises(StoreError, match=rf"denied to user {os.getuid()} in {tmp_path};"):
        probe(FileStore(tmp_path / "runs" / "x"))


def test_other_calls_fail_with_a_store_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(tmp_path)
    store.put("a", b"1")
    for name, call in (
        ("unlink", lambda: store.delete("a")),
        ("scandir", lambda: list(store.list())),
        ("stat", lambda: store.exists("a")),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"kinase.store.file.os.{name}", failing(errno.EACCES))
            with pytest.raises(StoreError, match="permission is denied"):
                call()


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
def test_a_file_system_without_links_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr("kinase.store.file.os.link", failing(code))
    with pytest.raises(StoreError, match="has no hard links"):
        probe(FileStore(tmp_path))
    assert files(tmp_path) == []


def test_a_link_whose_reply_was_lost_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def lossy(source: str, target: str) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr("kinase.store.file.os.link", lossy)
    store = FileStore(tmp_path)
    store.put("a", b"1", if_absent=True)
    assert store.get("a") == b"1"
    assert files(tmp_path) == ["a"]


def test_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        store = FileStore(folder)
        for if_absent in (False, True):
            with pytest.raises(StoreError, match="part of the path is a file; choose") as caught:
                store.put("a/b", b"2", if_absent=if_absent)
            assert not isinstance(caught.value, Conflict)
        with pytest.raises(StoreError, match="part of the path is a file"):
            probe(store)
        with pytest.raises(NotFound):
            store.get("a/b")
        store.delete("a/b")
        assert not store.exists("a/b")
        assert list(store.list()) == []
    assert (tmp_path / "file").read_bytes() == b"1"


@pytest.mark.parametrize("if_absent", [False, True])
def test_a_key_that_is_a_folder_is_no_conflict(tmp_path: Path, if_absent: bool) -> None:
    store = FileStore(tmp_path)
    store.put("a/b", b"1")
    with pytest.raises(StoreError, match="it is a folder") as caught:
        store.put("a", b"2", if_absent=if_absent)
    assert not isinstance(caught.value, Conflict)
    assert files(tmp_path) == ["a/b"]


def test_a_write_in_parts_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr("kinase.store.file.os.write", lambda fd, data: write(fd, data[:7]))
    store = FileStore(tmp_path)
    store.put("a", bytes(range(100)))
    assert store.get("a") == bytes(range(100))


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kinase.store.file.os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        FileStore(tmp_path).put("a", b"1")
    assert files(tmp_path) == []


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
@pytest.mark.parametrize("if_absent", [False, True])
def test_the_umask_decides_the_mode(tmp_path: Path, umask: int, mode: int, if_absent: bool) -> None:
    before = os.umask(umask)
    try:
        FileStore(tmp_path).put("a", b"1", if_absent=if_absent)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_foreign_files_are_not_listed(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    store.put("a", b"1")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b").write_bytes(b"1")
    (store.folder / "link").symlink_to(tmp_path / "other")
    (store.folder / ".a.tmp").write_bytes(b"1")
    (store.folder / ".git").mkdir()
    (store.folder / ".git" / "c").write_bytes(b"1")
    os.mkfifo(store.folder / "fifo")
    assert list(store.list()) == ["a"]


class Deaf(MemoryStore):
    """Ignores `if_absent`."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        super().put(key, data)


class Refusing(MemoryStore):
    """Finds everything there."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        raise Conflict(key)


class Stale(MemoryStore):
    """Does not return what was written."""

    def get(self, key: str, limit: int | None = None) -> bytes:
        raise NotFound(key)


@pytest.mark.parametrize(
    ("store", "message"),
    [
        (Deaf("s3://deaf"), r"s3://deaf does not honour .*If-None-Match.*overwrites.*; use"),
        (Refusing("s3://all"), r"s3://all does not honour .*If-None-Match.*refuses.*; use"),
        (Stale("s3://stale"), r"s3://stale does not return .*; .*use another storage.uri"),
    ],
)
def test_the_probe_names_what_is_missing(store: MemoryStore, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        probe(store)
    assert type(caught.value) is StoreError
    assert list(store.list()) == []


def test_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_uri("file://runs").uri == f"file://{tmp_path}/runs"
    assert open_uri(f"file://{tmp_path}/").uri == f"file://{tmp_path}"
    for uri in ("s3://bucket/a/b", "s3://bucket/a/b/"):
        store = open_store(Storage(uri=uri, endpoint="http://localhost:9", region="x"))
        assert isinstance(store, S3Store)
        assert store.uri == "s3://bucket/a/b"
    assert open_uri("s3://bucket").uri == "s3://bucket"
    for uri in ("file://", "s3://", "s3:///a", "s3://bucket/../a", "s3://b//a", "gs://a", "runs"):
        with pytest.raises(StoreError, match="is not a URI of a store; use"):
            open_uri(uri)


def test_boto3_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kinase.store.s3", None)
    with pytest.raises(StoreError, match=r"pip install 'kinase-nas\[s3\]'"):
        open_uri("s3://bucket/a")
