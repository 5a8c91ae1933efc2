"""A store in a bucket of S3, or of a server with the same protocol."""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NoReturn
from urllib.parse import urlsplit

import boto3
from botocore import exceptions as aws
from botocore.config import Config
from urllib3.exceptions import HTTPError

from kinase.store.base import (
    Conflict,
    NotFound,
    Store,
    StoreError,
    StoreUnavailable,
    TooLarge,
    check_key,
    check_prefix,
    check_range,
    is_key,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ATTEMPTS = 5
"""Number of attempts of a request."""
CONNECT_SECONDS = 10
"""How long an attempt waits for a connection."""
READ_SECONDS = 60
"""How long it waits for bytes of the reply."""

_TOKEN = "kinase-put"
_FAILURES = (aws.BotoCoreError, aws.ClientError, HTTPError, OSError)
_UNREACHED = (
    aws.HTTPClientError,
    aws.ConnectionError,
    aws.IncompleteReadError,
    HTTPError,
    ConnectionError,
    TimeoutError,
)
_RACE = ("ConditionalRequestConflict", "OperationAborted")
_FOLDER = "ExistingObjectIsDirectory"
"""A server that stores objects as files returns this while another request removes the empty folder
of an object that is being written; a retry succeeds."""
_CREDENTIALS = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.TokenRetrievalError,
    aws.SSOError,
    aws.ProfileNotFound,
    aws.NoAuthTokenError,
)
_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (on a cluster, storage.credentialsSecret)"
_ADVICE = {
    "AccessDenied": "denied",
    "AllAccessDisabled": "denied",
    "AccountProblem": "denied",
    "Forbidden": "denied",
    "403": "denied",
    "ExpiredToken": "credentials",
    "InvalidAccessKeyId": "credentials",
    "InvalidToken": "credentials",
    "SignatureDoesNotMatch": "credentials",
    "TokenRefreshRequired": "credentials",
    "XAdminUserNotFound": "credentials",
    "AuthorizationHeaderMalformed": "region",
    "IllegalLocationConstraintException": "region",
    "PermanentRedirect": "region",
    "301": "region",
    "302": "region",
    "307": "region",
    "308": "region",
    "NoSuchBucket": "bucket",
    "InvalidBucketName": "name",
    "RequestTimeTooSkewed": "clock",
    "SlowDown": "busy",
    "ServiceUnavailable": "busy",
    "RequestTimeout": "busy",
    "503": "busy",
    "Throttling": "busy",
    "TooManyRequests": "busy",
    "429": "busy",
    "QuotaExceeded": "full",
    "XMinioStorageFull": "full",
}
_PASSING = ("busy", "clock", "full")
"""Error codes that are temporary."""


class _Connection:
    """One client for all threads of a process: clients can be shared between threads, sessions
    cannot."""

    def __init__(
        self, endpoint: str | None, region: str | None, request_timeout: float | None
    ) -> None:
        self.endpoint = endpoint
        self.region = region
        self.request_timeout = request_timeout
        self._lock = threading.Lock()
        self._client: S3Client | None = None
        self._pid = 0

    def client(self) -> S3Client:
        client = self._client
        if client is not None and self._pid == os.getpid():
            return client
        with self._lock:
            if self._client is None or self._pid != os.getpid():
                self._client = self._make()
                self._pid = os.getpid()
            return self._client

    def _make(self) -> S3Client:
        session = boto3.Session()
        region = self.region or os.environ.get("AWS_REGION") or session.region_name
        config = Config(
            request_checksum_calculation=_checksums("AWS_REQUEST_CHECKSUM_CALCULATION"),
            response_checksum_validation=_checksums("AWS_RESPONSE_CHECKSUM_VALIDATION"),
            retries={
                "mode": "standard",
                "total_max_attempts": ATTEMPTS if self.request_timeout is None else 1,
            },
            connect_timeout=self.request_timeout or CONNECT_SECONDS,
            read_timeout=self.request_timeout or READ_SECONDS,
            max_pool_connections=32,
            s3={"addressing_style": "path"} if self.endpoint else None,
        )
        try:
            client = session.client(
                "s3",
                endpoint_url=self.endpoint,
                region_name=region or "us-east-1",
                config=config,
            )
        except ValueError as error:
            raise StoreError(f"{error}; correct storage.endpoint or storage.region") from error
        if self.endpoint:
            client.meta.events.register("before-call.s3", _follow_no_redirect)
        return client


class S3Store(Store):
    """Objects of a bucket, below a prefix.

    A conditional put is `PutObject` with `If-None-Match: *`, which the server decides. The object
    has a unique token as metadata: if a reply was lost and the repeated request finds an object,
    the token shows whether it is ours. Credentials come from the environment, as botocore looks for
    them.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        region: str | None = None,
        request_timeout: float | None = None,
    ) -> None:
        """Use an existing bucket; nothing is sent yet.

        Args:
            bucket: its name.
            prefix: prefix of every key, without a trailing slash.
            endpoint: URL of an S3-compatible server. Default: AWS S3.
            region: of the bucket; the environment's if None, else us-east-1.
            request_timeout: seconds of each wait of a request: for the connection, and for more
                bytes of the reply. There is no second attempt. None waits and tries again as a
                search does.

        Raises:
            StoreError: a part of the address is malformed.
        """
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.uri = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        if not bucket or (prefix and not is_key(prefix)):
            raise StoreError(
                f"{self.uri!r} is not a URI of a store; use s3://BUCKET/PREFIX, without .. or "
                "doubled slashes (storage.uri)"
            )
        if endpoint is not None:
            _check_endpoint(endpoint, self.uri)
        self._connection = _Connection(endpoint, region, request_timeout)

    def get(self, key: str, limit: int | None = None) -> bytes:
        """Read an object. The reply's length is checked before its body is read."""
        return self._read(key, limit=limit)[0]

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Read a part of an object."""
        check_range(start, end)
        return self._read(key, (start, end))[0]

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Write an object in one request."""
        name = self._name(key)
        if if_absent:
            self._create(key, name, data)
            return
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._connection.client().put_object(Bucket=self._bucket, Key=name, Body=data)
                return
            except _FAILURES as error:
                if _code(error) != _FOLDER or attempt == ATTEMPTS:
                    self._fail("write", key, error)
            _pause(attempt)

    def _create(self, key: str, name: str, data: bytes) -> None:
        token = uuid.uuid4().hex
        repeated = False
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._connection.client().put_object(
                    Bucket=self._bucket,
                    Key=name,
                    Body=data,
                    IfNoneMatch="*",
                    Metadata={_TOKEN: token},
                )
                return
            except _FAILURES as error:
                code = _code(error)
                repeated = repeated or _repeated(error)
                if code in (*_RACE, _FOLDER) and attempt < ATTEMPTS:
                    _pause(attempt)
                    continue
                if code in ("PreconditionFailed", "412", *_RACE):
                    raced = code in _RACE
                    if (repeated or raced) and self._is_ours(key, data, token):
                        return
                    if raced and not self.exists(key):
                        self._fail("write", key, error)  # no put has succeeded yet
                    raise Conflict(f"{self.uri}/{key} already exists") from None
                if code in ("NotImplemented", "501"):
                    raise StoreError(
                        f"{self.uri} ({self._place()}) does not support conditional puts "
                        "(If-None-Match: *); use a server or a version that does (storage.uri)"
                    ) from error
                self._fail("write", key, error)

    def _is_ours(self, key: str, data: bytes, token: str) -> bool:
        """Whether the object was written by the request whose reply was lost."""
        try:
            found, metadata = self._read(key)
        except NotFound:
            return False
        written = {name.lower(): value for name, value in metadata.items()}.get(_TOKEN)
        return found == data and written in (token, None)  # None: a server without metadata

    def copy(self, source: str, target: str) -> None:
        """Have the server copy an object."""
        taken, name = self._name(source), self._name(target)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._connection.client().copy_object(
                    Bucket=self._bucket,
                    Key=name,
                    CopySource={"Bucket": self._bucket, "Key": taken},
                )
                return
            except _FAILURES as error:
                if _code(error) in ("NoSuchKey", "404"):
                    raise NotFound(f"{self.uri}/{source} does not exist") from None
                if _code(error) in ("NotImplemented", "501"):
                    super().copy(source, target)
                    return
                if _code(error) != _FOLDER or attempt == ATTEMPTS:
                    self._fail("write", target, error)
            _pause(attempt)

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys of all pages of the server's list."""
        whole = self._prefix + check_prefix(prefix)
        found = []
        try:
            pages = self._connection.client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=whole):
                found += [item["Key"] for item in page.get("Contents", ())]
        except _FAILURES as error:
            self._fail("list", prefix, error)
        keys = {name[len(self._prefix) :] for name in found if name.startswith(whole)}
        return iter(sorted(key for key in keys if is_key(key)))

    def delete(self, key: str) -> None:
        """Remove an object."""
        name = self._name(key)
        try:
            self._connection.client().delete_object(Bucket=self._bucket, Key=name)
        except _FAILURES as error:
            if _code(error) not in ("NoSuchKey", "404"):
                self._fail("delete", key, error)

    def sub(self, prefix: str) -> Store:
        """The same bucket, below a longer prefix, over the same connections."""
        below = S3Store(
            self._bucket,
            self._name(prefix),
            endpoint=self._connection.endpoint,
            region=self._connection.region,
        )
        below._connection = self._connection
        return below

    def exists(self, key: str) -> bool:
        """Whether the object exists, without reading it."""
        name = self._name(key)
        try:
            self._connection.client().head_object(Bucket=self._bucket, Key=name)
        except _FAILURES as error:
            if _code(error) in ("NoSuchKey", "NotFound", "404"):
                return False
            self._fail("read", key, error)
        return True

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _read(
        self, key: str, part: tuple[int, int] | None = None, limit: int | None = None
    ) -> tuple[bytes, dict[str, str]]:
        name = self._name(key)
        wanted: Any = {"Range": f"bytes={part[0]}-{part[1] - 1}"} if part else {}
        for attempt in range(1, ATTEMPTS + 1):
            try:
                reply = self._connection.client().get_object(
                    Bucket=self._bucket, Key=name, **wanted
                )
            except _FAILURES as error:
                if _code(error) in ("NoSuchKey", "404"):
                    raise NotFound(f"{self.uri}/{key} does not exist") from None
                if part and _code(error) in ("InvalidRange", "416"):
                    return b"", {}  # the object ends before
                self._fail("read", key, error)
            try:
                # botocore repeats requests, but not a reply that breaks off in its body
                # a body that is closed before its end is not read, and its connection is closed
                with reply["Body"] as body:
                    size = reply.get("ContentLength")
                    if limit is not None and size is not None and size > limit:
                        raise TooLarge.at(f"{self.uri}/{key}", limit, size)
                    data = body.read() if limit is None else body.read(limit + 1)
                if limit is not None and len(data) > limit:
                    raise TooLarge.at(f"{self.uri}/{key}", limit)
                if size is not None and len(data) < size:
                    raise aws.IncompleteReadError(actual_bytes=len(data), expected_bytes=size)
                if part and reply["ResponseMetadata"]["HTTPStatusCode"] == 200:
                    data = data[part[0] : part[1]]  # the server does not support ranges
                return data, reply["Metadata"]
            except _FAILURES as error:
                if attempt == ATTEMPTS:
                    self._fail("read", key, error)
            _pause(attempt)
        raise AssertionError("unreachable")

    def _place(self) -> str:
        return self._connection.endpoint or "AWS"

    def _fail(self, verb: str, key: str, error: Exception) -> NoReturn:
        kind = StoreUnavailable if _passes(error) else StoreError
        raise kind(f"cannot {verb} {self.uri}/{key}: {self._advice(verb, error)}") from error

    def _advice(self, verb: str, error: Exception) -> str:
        bucket, place = f"bucket {self._bucket!r}", self._place()
        if isinstance(error, _CREDENTIALS):
            return f"no usable credentials for {bucket} ({error}); set {_KEYS} in the environment"
        if isinstance(error, aws.ParamValidationError):
            return f"{bucket} or the key is malformed: {error} (storage.uri)"
        if isinstance(error, aws.SSLError) and not _passes(error):
            return (
                f"{place} of {bucket} has no certificate that is trusted ({error}); name its "
                "authority's file in AWS_CA_BUNDLE"
            )
        if not isinstance(error, aws.ClientError):
            return (
                f"{place} of {bucket} cannot be reached or breaks off ({error}); check "
                "storage.endpoint, storage.region and the network, then run the same command again"
            )
        code, said = _code(error), error.response.get("Error", {}).get("Message", "")
        if error.operation_name == "AssumeRoleWithWebIdentity":
            return (
                f"the role {os.environ.get('AWS_ROLE_ARN')} is not given for the token in "
                f"{os.environ.get('AWS_WEB_IDENTITY_TOKEN_FILE')} ({code}: {said}); have the role "
                "trust the pod's ServiceAccount, and check storage.roleArn and "
                "storage.tokenAudience"
            )
        action = {
            # without s3:ListBucket AWS denies access to an object that does not exist
            "read": "s3:GetObject on the objects, and s3:ListBucket on the bucket,",
            "write": "s3:PutObject",
            "list": "s3:ListBucket",
            "delete": "s3:DeleteObject",
        }[verb]
        advice = {
            "denied": f"access to {bucket} is denied; allow {action} to these credentials, or "
            f"set others: {_KEYS}",
            "credentials": f"{place} refuses the credentials for {bucket}; check {_KEYS}, and "
            "AWS_SESSION_TOKEN if it is set",
            "region": f"{place} sends requests for {bucket} elsewhere; correct storage.region, or "
            "storage.endpoint (https?)",
            "bucket": f"{bucket} does not exist at {place}; create it, or correct storage.uri "
            "or storage.endpoint",
            "name": f"{bucket} is not a valid name of a bucket; correct storage.uri",
            "clock": f"this machine's clock differs from that of {place} of {bucket}; set it",
            "busy": f"{place} of {bucket} is overloaded; run the same command again later",
            "full": f"{bucket} is full; free some space, then run the same command again",
        }.get(_ADVICE.get(code, ""), f"{place} of {bucket} answered")
        return f"{advice} ({code}: {said})" if said else f"{advice} ({code})"


def _checksums(variable: str) -> Literal["when_required", "when_supported"]:
    """Checksum setting from the environment. Many servers support only the required checksums, so
    that is the default, unlike in botocore."""
    given = os.environ.get(variable, "").lower()
    return "when_supported" if given == "when_supported" else "when_required"


def _check_endpoint(endpoint: str, uri: str) -> None:
    try:
        parts = urlsplit(endpoint)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname)
        sound = sound and parts.username is None and parts.port != 0
        sound = sound and not parts.query and not parts.fragment
    except ValueError:
        sound = False
    if not sound:
        shown = endpoint if "@" not in endpoint else "the one given"
        raise StoreError(
            f"the endpoint of {uri} must be http(s)://HOST[:PORT], without credentials, not "
            f"{shown} (storage.endpoint)"
        )


def _follow_no_redirect(params: dict[str, Any], **_: object) -> None:
    """On a redirect, botocore asks the server for the bucket's region. A server other than AWS
    redirects that request again, endlessly."""
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0, 0.1 * 2**attempt))


def _response(error: Exception) -> dict[str, Any]:
    return dict(error.response) if isinstance(error, aws.ClientError) else {}


def _code(error: Exception) -> str:
    """The error's code, or the HTTP status if the reply has no code."""
    reply = _response(error)
    code = reply.get("Error", {}).get("Code")
    return str(code or reply.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))


def _passes(error: Exception) -> bool:
    """Whether the same request can succeed later without a change."""
    if isinstance(error, aws.ClientError):
        code = _code(error)
        status = _response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in ("NotImplemented", "501"):
            return False
        return _ADVICE.get(code) in _PASSING or code in _RACE or status == 429 or status >= 500
    if isinstance(error, aws.SSLError):
        return "EOF" in str(error)  # broken off; else it is the certificate or TLS
    return isinstance(error, _UNREACHED)


def _repeated(error: Exception) -> bool:
    """Whether botocore sent the request more than once."""
    return bool(_response(error).get("ResponseMetadata", {}).get("RetryAttempts", 0))
