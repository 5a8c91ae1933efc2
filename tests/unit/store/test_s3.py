from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from kinase.store import Conflict, StoreError, StoreUnavailable, TooLarge, probe
from kinase.store import s3 as s3_module
from kinase.store.s3 import S3Store

NewStore = Callable[[str, str, str], S3Store]
Credentials = Callable[[str, str], None]
ERROR = '<?xml version="1.0"?><Error><Code>{}</Code><Message>said</Message></Error>'


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a server, unless it is told to misbehave."""

    daemon_threads = True

    def __init__(self, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.target = urlsplit(endpoint).netloc
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.plan: list[str | tuple[int, str]] = []
        """What is done to the next requests: `lose` the reply, `cut` it, or answer so."""
        self.before: Callable[[str], None] = lambda step: None
        """Called before a reply is lost or made up."""
        self.seen: list[tuple[str, dict[str, str]]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, *_: object) -> None:
        pass

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, dict(self.headers)))
        step = self.server.plan.pop(0) if self.server.plan else ""
        if isinstance(step, tuple):
            self.server.before(step[1])
            self._reply(step[0], {}, ERROR.format(step[1]).encode())
            return
        connection = http.client.HTTPConnection(self.server.target)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "expect"}
        connection.request(self.command, self.path, body, headers)
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        if step == "lose":
            self.server.before(step)
            self.close_connection = True
        else:
            self._reply(reply.status, dict(reply.headers), data, cut=step == "cut")

    def _reply(self, status: int, headers: dict[str, str], data: bytes, cut: bool = False) -> None:
        headers.pop("Transfer-Encoding", None)
        headers.pop("Connection", None)
        headers.setdefault("Content-Length", str(len(data)))
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = self.close_connection or cut

    do_GET = do_PUT = do_HEAD = do_DELETE = _do


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)


@pytest.fixture
def direct(s3_server: Any, new_store: NewStore) -> S3Store:
    return new_store(s3_server.endpoint, s3_server.access_key, s3_server.secret_key)


@pytest.fixture
def proxy(s3_server: Any) -> Iterator[Proxy]:
    proxy = Proxy(s3_server.endpoint)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    yield proxy
    proxy.shutdown()
    proxy.server_close()


@pytest.fixture
def store(direct: S3Store, proxy: Proxy) -> S3Store:
    """The store of `direct`, through the proxy."""
    return S3Store(direct._bucket, "some/prefix", endpoint=proxy.endpoint)


def test_a_put_whose_reply_was_lost_is_no_conflict(
    store: S3Store, direct: S3Store, proxy: Proxy
) -> None:
    proxy.plan = ["lose"]
    store.put("a", b"1", if_absent=True)
    assert [command for command, _ in proxy.seen] == ["PUT", "PUT", "GET"]
    assert direct.get("a") == b"1"
    with pytest.raises(Conflict):
        store.put("a", b"1", if_absent=True)
    assert len(proxy.seen) == 4  # not repeated: nothing to compare


def test_a_lost_reply_before_a_race_is_remembered(store: S3Store, proxy: Proxy) -> None:
    proxy.plan = ["lose", (409, "ConditionalRequestConflict")]
    store.put("a", b"1", if_absent=True)
    assert store.get("a") == b"1"


@pytest.mark.parametrize("theirs", [b"1", b"2"])
def test_a_repeated_put_that_another_won_is_a_conflict(
    store: S3Store, direct: S3Store, proxy: Proxy, theirs: bytes
) -> None:
    proxy.plan = [(503, "SlowDown")]
    proxy.before = lambda _: direct.put("a", theirs, if_absent=True)
    with pytest.raises(Conflict, match=r"s3://.*/some/prefix/a already exists"):
        store.put("a", b"1", if_absent=True)
    assert direct.get("a") == theirs


def test_a_repeated_put_of_what_is_gone_is_a_conflict(store: S3Store, proxy: Proxy) -> None:
    proxy.plan = [(503, "SlowDown"), (412, "PreconditionFailed")]
    with pytest.raises(Conflict):
        store.put("a", b"1", if_absent=True)


def test_without_metadata_the_bytes_decide(
    store: S3Store, monkeypatch: pytest.MonkeyPatch, proxy: Proxy
) -> None:
    read = S3Store._read
    monkeypatch.setattr(S3Store, "_read", lambda self, key: (read(self, key)[0], {}))
    proxy.plan = ["lose"]
    store.put("a", b"1", if_absent=True)
    store.put("b", b"2")
    proxy.plan = [(503, "SlowDown")]
    with pytest.raises(Conflict):
        store.put("b", b"1", if_absent=True)


def test_a_race_is_run_again(store: S3Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_module.time, "sleep", lambda _: None)
    proxy.plan = [(409, "ConditionalRequestConflict")] * (s3_module.ATTEMPTS - 1)
    store.put("a", b"1", if_absent=True)
    assert store.get("a") == b"1"
    proxy.plan = [(409, "ConditionalRequestConflict")] * s3_module.ATTEMPTS
    with pytest.raises(StoreUnavailable, match="cannot write"):
        store.put("b", b"1", if_absent=True)
    assert not store.exists("b")


@pytest.mark.parametrize("theirs", [True, False])
def test_what_lies_there_decides_a_race_that_does_not_end(
    store: S3Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, theirs: bool
) -> None:
    """The last 409 is followed by a read: another's object is a conflict, our own is none."""
    monkeypatch.setattr(s3_module.time, "sleep", lambda _: None)
    race = (409, "ConditionalRequestConflict")
    proxy.plan = [race] * (s3_module.ATTEMPTS - 1) + ([race] if theirs else ["lose", race])
    if theirs:
        proxy.before = lambda _: store.put("a", b"2") if not proxy.plan else None
        with pytest.raises(Conflict, match="a already exists"):
            store.put("a", b"1", if_absent=True)
    else:
        store.put("a", b"1", if_absent=True)
        assert store.get("a") == b"1"


def test_a_large_object_is_refused_before_its_body_is_read(store: S3Store, proxy: Proxy) -> None:
    """A reply that tells its length is left where it is; one that does not is read up to the
    limit."""
    store.put("a", bytes(3_000_000))
    with pytest.raises(TooLarge, match=r"a is too large: 3,000,000 bytes, of at most 1,000 bytes"):
        store.get("a", 1000)
    client = store._connection.client()
    ask, left = client.get_object, []

    def untold(**given: Any) -> Any:
        reply = ask(**given)
        del reply["ContentLength"]
        left.append(reply["Body"]._raw_stream)
        return reply

    client.get_object = untold
    with pytest.raises(TooLarge, match=r"a is too large: more, of at most 1,000 bytes"):
        store.get("a", 1000)
    assert left[0].tell() == 1001


def test_a_reply_that_breaks_off_is_read_again(
    store: S3Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_module.time, "sleep", lambda _: None)
    data = bytes(range(256)) * 1000
    store.put("a", data)
    proxy.plan = ["cut", "cut"]
    assert store.get("a") == data
    proxy.plan = ["cut"] * s3_module.ATTEMPTS
    with pytest.raises(StoreUnavailable, match=r"cannot read s3://.*/a: .* breaks off"):
        store.get("a")


def test_a_part_is_asked_for_and_cut_out_where_all_is_sent(
    store: S3Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("a", b"0123456789")
    proxy.seen.clear()
    assert store.get_range("a", 2, 5) == b"234"
    assert [headers["Range"] for _, headers in proxy.seen] == ["bytes=2-4"]
    client = store._connection.client()
    ask = client.get_object

    def whole(**given: Any) -> Any:  # a server that knows no ranges
        return ask(**{name: value for name, value in given.items() if name != "Range"})

    monkeypatch.setattr(client, "get_object", whole)
    assert store.get_range("a", 2, 5) == b"234"


def test_what_is_sent(store: S3Store, proxy: Proxy) -> None:
    store.put("a", b"1", if_absent=True)
    store.put("b", b"1")
    (_, first), (_, second) = proxy.seen
    assert first["If-None-Match"] == "*"
    assert "If-None-Match" not in second
    for headers in (first, second):
        assert not [name for name in headers if "checksum" in name.lower()]


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (403, "AccessDenied", "is denied; allow s3:PutObject"),
        (403, "SignatureDoesNotMatch", "refuses the credentials .* AWS_ACCESS_KEY_ID"),
        (400, "ExpiredToken", "refuses the credentials .* AWS_SESSION_TOKEN"),
        (404, "NoSuchBucket", "does not exist at .*; create it, or correct storage.uri"),
        (301, "PermanentRedirect", "elsewhere; correct storage.region, or storage.endpoint"),
        (400, "EntityTooLarge", "answered .EntityTooLarge: said"),
    ],
)
@pytest.mark.parametrize("if_absent", [False, True])
def test_an_answer_is_explained(
    store: S3Store, proxy: Proxy, status: int, code: str, advice: str, if_absent: bool
) -> None:
    proxy.plan = [(status, code)] * 50
    with pytest.raises(StoreError, match=advice) as caught:
        store.put("a", b"1", if_absent=if_absent)
    assert type(caught.value) is StoreError
    assert f"cannot write {store.uri}/a: " in str(caught.value)
    assert f"bucket {store._bucket!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (403, "RequestTimeTooSkewed", "clock differs"),
        (507, "XMinioStorageFull", "is full; free some space"),
        (403, "QuotaExceeded", "is full; free some space"),
        (503, "SlowDown", "is overloaded"),
        (429, "TooManyRequests", "is overloaded"),
        (400, "RequestTimeout", "is overloaded"),
        (500, "InternalError", "answered .InternalError: said"),
        (502, "Whatever", "answered .Whatever: said"),
    ],
)
@pytest.mark.parametrize("call", ["put", "create", "get", "list", "delete"])
def test_what_passes_is_told_from_what_stays(
    store: S3Store, proxy: Proxy, status: int, code: str, advice: str, call: str
) -> None:
    calls: dict[str, Callable[[], object]] = {
        "put": lambda: store.put("a", b"1"),
        "create": lambda: store.put("a", b"1", if_absent=True),
        "get": lambda: store.get("a"),
        "list": lambda: list(store.list()),
        "delete": lambda: store.delete("a"),
    }
    proxy.plan = [(status, code)] * 50
    with pytest.raises(StoreUnavailable, match=advice):
        calls[call]()


def test_a_proxy_without_a_server_is_out_of_reach(store: S3Store, proxy: Proxy) -> None:
    """A reply without a code, as a load balancer gives, and as any reply to HEAD is."""
    proxy.plan = [(503, "")] * 50
    with pytest.raises(StoreUnavailable):
        store.exists("a")


def test_a_race_that_does_not_end_may_end_later(store: S3Store, proxy: Proxy) -> None:
    proxy.plan = [(409, "OperationAborted")] * 50
    with pytest.raises(StoreUnavailable):
        store.put("a", b"1")


def test_no_conditional_puts(store: S3Store, proxy: Proxy) -> None:
    proxy.plan = [(501, "NotImplemented")] * s3_module.ATTEMPTS
    with pytest.raises(
        StoreError, match=r"does not support conditional puts \(If-None-Match"
    ) as caught:
        probe(store)
    assert type(caught.value) is StoreError


@pytest.mark.parametrize("call", ["get", "put", "list", "exists"])
def test_a_server_that_redirects_without_end(store: S3Store, proxy: Proxy, call: str) -> None:
    proxy.plan = [(301, "Moved")] * 50
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: store.get("b"),
        "put": lambda: store.put("b", b"1", if_absent=True),
        "list": lambda: list(store.list()),
        "exists": lambda: store.exists("b"),
    }
    with pytest.raises(StoreError, match=r"elsewhere; correct .*https|answered \(Moved"):
        calls[call]()
    assert len(proxy.seen) == 1


def test_wrong_credentials(direct: S3Store, aws_environment: Credentials) -> None:
    endpoint = direct._connection.endpoint
    for key, secret in ((os.environ["AWS_ACCESS_KEY_ID"], "wrong"), ("nobody", "wrong")):
        aws_environment(key, secret)
        store = S3Store(direct._bucket, endpoint=endpoint)
        with pytest.raises(StoreError, match=r"AWS_ACCESS_KEY_ID.*credentialsSecret") as caught:
            probe(store)
        assert type(caught.value) is StoreError


@pytest.mark.parametrize("code", ["AccessDenied", ""])
def test_an_object_that_may_not_be_listed(store: S3Store, proxy: Proxy, code: str) -> None:
    """AWS denies what does not exist to whoever may not list the bucket."""
    proxy.plan = [(403, code)] * 2
    for call in (lambda: store.get("a"), lambda: store.exists("a")):
        with pytest.raises(StoreError, match=r"allow s3:GetObject .* and s3:ListBucket on the buc"):
            call()


def test_no_credentials(aws_environment: Credentials) -> None:
    store = S3Store("bucket", endpoint="http://127.0.0.1:9")
    with pytest.raises(StoreError, match=r"no usable credentials for bucket 'bucket'.*AWS_ACCESS"):
        probe(store)


def test_a_role_that_is_not_given_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/nas")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/kinase-identity/token")
    said = {"Error": {"Code": "AccessDenied", "Message": "not authorized"}}
    error = ClientError(said, "AssumeRoleWithWebIdentity")
    with pytest.raises(
        StoreError, match=r"role arn:aws:iam::1:role/nas is not given .* trust the pod's ServiceA"
    ):
        S3Store("bucket")._fail("read", "a", error)


@pytest.mark.parametrize("call", ["get", "put", "list", "delete"])
def test_no_bucket(direct: S3Store, call: str) -> None:
    store = S3Store("no-such-bucket", "a", endpoint=direct._connection.endpoint)
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: store.get("b"),
        "put": lambda: store.put("b", b"1", if_absent=True),
        "list": lambda: list(store.list()),
        "delete": lambda: store.delete("b"),
    }
    with pytest.raises(
        StoreError, match=r"bucket 'no-such-bucket' does not exist.*create"
    ) as caught:
        calls[call]()
    assert type(caught.value) is StoreError


def test_unreachable(aws_environment: Credentials) -> None:
    aws_environment("k", "s")
    store = S3Store("bucket", "a", endpoint="http://127.0.0.1:9")
    with pytest.raises(
        StoreUnavailable,
        match=r"cannot write s3://bucket/a/probe.*127.0.0.1:9 of bucket 'bucket' cannot",
    ):
        probe(store)
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        store.exists("a")
    nowhere = S3Store("bucket", endpoint="http://no-such-host.invalid")
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        nowhere.get("a")


def test_a_connection_that_is_closed_or_silent_is_out_of_reach(
    aws_environment: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws_environment("k", "s")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def close_all() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.recv(10)
                    connection.close()

        threading.Thread(target=close_all, daemon=True).start()
        for scheme in ("http", "https"):
            with pytest.raises(StoreUnavailable, match="breaks off"):
                S3Store("bucket", endpoint=f"{scheme}://127.0.0.1:{port}").get("a")
    config = s3_module.Config
    monkeypatch.setattr(
        s3_module, "Config", lambda **given: config(**{**given, "read_timeout": 0.05})
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        store = S3Store("bucket", endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(StoreUnavailable, match="Read timeout"):
            store.get("a")


def test_a_server_without_tls_is_no_outage(proxy: Proxy, aws_environment: Credentials) -> None:
    aws_environment("k", "s")
    store = S3Store("bucket", endpoint=proxy.endpoint.replace("http:", "https:"))
    with pytest.raises(StoreError, match="AWS_CA_BUNDLE") as caught:
        store.get("a")
    assert type(caught.value) is StoreError


@pytest.mark.parametrize(
    "endpoint",
    [
        "localhost:9000",
        "ftp://host",
        "http://",
        "http://user:secret@host",
        "http://host:99999",
        "http://host/?a=b",
    ],
)
def test_a_malformed_endpoint(endpoint: str) -> None:
    with pytest.raises(StoreError, match=r"storage\.endpoint") as caught:
        S3Store("bucket", endpoint=endpoint)
    assert "secret" not in str(caught.value)


def test_malformed_names(aws_environment: Credentials) -> None:
    aws_environment("k", "s")
    with pytest.raises(StoreError, match=r"storage\.uri"):
        S3Store("not a bucket").put("a", b"1")
    with pytest.raises(StoreError, match=r"storage\.region"):
        S3Store("bucket", region="not a region").put("a", b"1")


def test_region(monkeypatch: pytest.MonkeyPatch, aws_environment: Credentials) -> None:
    def region(store: S3Store) -> str:
        return store._connection.client().meta.region_name

    assert region(S3Store("bucket")) == "us-east-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    assert region(S3Store("bucket")) == "eu-west-2"
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert region(S3Store("bucket")) == "eu-west-3"
    assert region(S3Store("bucket", region="eu-west-1").sub("a")) == "eu-west-1"  # type: ignore[arg-type]


def test_one_client_for_all_threads(direct: S3Store) -> None:
    clients: list[object] = []
    store = S3Store("bucket", endpoint=direct._connection.endpoint)
    threads = [
        threading.Thread(target=lambda: clients.append(store._connection.client()))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(clients) == 8
    assert len(set(map(id, clients))) == 1
    assert store.sub("a")._connection is store._connection  # type: ignore[attr-defined]


def test_foreign_objects_are_not_listed(direct: S3Store) -> None:
    client = direct._connection.client()
    for key in ("some/prefix/folder/", "some/prefixed", "some/prefix/.hidden"):
        client.put_object(Bucket=direct._bucket, Key=key, Body=b"")
    direct.put("a", b"1")
    assert list(direct.list()) == ["a"]


def test_boto3_is_imported_only_for_s3() -> None:
    code = "import sys, kinase.store; sys.exit('boto3' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
