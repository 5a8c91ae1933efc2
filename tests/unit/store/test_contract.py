from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

from kinase.store.base import Store
from kinase.store.counting import CountingStore
from kinase.store.file import FileStore
from kinase.store.memory import MemoryStore
from kinase.store.s3 import S3Store
from kinase.store.testing import StoreContract
from kinase_controller.metrics import MeteredStore, Metrics

NewStore = Callable[[str, str, str], S3Store]


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Response, "put_object", one_at_a_time(S3Response.put_object))
        yield f"http://{host}:{port}"
    server.stop()


def one_at_a_time(method: Callable[..., Any]) -> Callable[..., Any]:
    """moto looks whether an object is there and writes it in two steps, in a thread for each
    request: of two conditional puts both may succeed, which no S3 server does."""
    lock = threading.Lock()

    def locked(*args: Any) -> Any:
        with lock:
            return method(*args)

    return locked


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore("memory://test")


class TestFileStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return FileStore(tmp_path / "not" / "there yet")


@pytest.mark.parametrize(
    "around", [CountingStore, lambda store: MeteredStore(store, Metrics("ns", "toy"))]
)
def test_stores_around_others_hand_on_limits_and_copies(around: Callable[[Store], Store]) -> None:
    StoreContract().test_limit(around(MemoryStore()))
    StoreContract().test_copy(around(MemoryStore()))


class S3Contract(StoreContract):
    page = 30

    def small(self, store: S3Store) -> S3Store:
        """The store, which asks for small pages, so that few keys are many."""

        def ask(params: dict[str, Any], **_: Any) -> None:
            params["MaxKeys"] = self.page

        events = store._connection.client().meta.events
        events.register("provide-client-params.s3.ListObjectsV2", ask)
        return store


class TestS3StoreOnMoto(S3Contract):
    @pytest.fixture
    def store(self, moto: str, new_store: NewStore) -> Store:
        return self.small(new_store(moto, "testing", "testing"))


@pytest.mark.timeout(900)  # the first use may build the server
class TestS3StoreOnServer(S3Contract):
    @pytest.fixture
    def store(self, s3_server: Any, new_store: NewStore) -> Store:
        keys = s3_server.access_key, s3_server.secret_key
        return self.small(new_store(s3_server.endpoint, *keys))
