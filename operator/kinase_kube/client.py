"""A thin client over `kubernetes.aio`: its configuration and connections, plain JSON objects.

The generated models are not used: building and validating them costs more than a request, and an
operator works on fields, not on whole objects.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import config as kube_config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from kinase.api import names

Object = dict[str, Any]

MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
TIMEOUT = 30.0
"""Timeout of a request in seconds."""
SILENCE = 100.0
"""Seconds without a byte after which a watch counts as broken. Bookmarks arrive every minute."""
WATCH = 600
"""Seconds after which the server ends a watch; the next watch continues from there."""
PAGE = 250
"""Number of objects on one page of a list."""


class ApiError(Exception):
    """The API server rejected a request; the message is from the server."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        """`status` is the HTTP status, `reason` Kubernetes' reason in one word."""
        super().__init__(message or reason)
        self.status = status
        self.reason = reason
        self.message = message or reason


class NotFound(ApiError):
    """The object does not exist."""


class Conflict(ApiError):
    """The object already exists, or has changed since it was read."""


class Gone(ApiError):
    """The resource version is too old: list again."""


class Forbidden(ApiError):
    """Not permitted: missing permission, a quota, an admission policy, or a namespace that is being
    deleted."""


class Invalid(ApiError):
    """The object is invalid: it is too large, or a field is wrong."""


class Unavailable(ApiError):
    """The API server cannot be reached or is overloaded; it may answer later."""


_KINDS: dict[int, type[ApiError]] = {
    400: Invalid,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: Invalid,
    422: Invalid,
    429: Unavailable,
}


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object, as named in the API's paths."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """apiVersion of objects, such as `batch/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
        """Path below the server's address; without a namespace, for all namespaces."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        parts += [quote(part, safe="") for part in (name, subresource) if part]
        return "/" + "/".join(parts)


EXPERIMENT = Resource(names.GROUP, names.VERSION, names.EXPERIMENTS, "NASExperiment")
TRIAL = Resource(names.GROUP, names.VERSION, names.TRIALS, "NASTrial")
JOB = Resource("batch", "v1", "jobs", "Job")
POD = Resource("", "v1", "pods", "Pod")
SERVICE = Resource("", "v1", "services", "Service")
SERVICE_ACCOUNT = Resource("", "v1", "serviceaccounts", "ServiceAccount")
EVENT = Resource("", "v1", "events", "Event")
ROLE = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDING = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
NETWORK_POLICY = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
LEASE = Resource("coordination.k8s.io", "v1", "leases", "Lease")


class Client:
    """Requests to one API server."""

    def __init__(self, configuration: Configuration, agent: str = "kinase") -> None:
        """Use a loaded configuration; send nothing yet. `agent` is the user agent, and thus the
        default field manager of writes."""
        self._configuration = configuration
        self._agent = agent
        self._api = ApiClient(configuration)
        self.requests: dict[str, int] = {}
        """Requests sent so far, by verb."""

    @classmethod
    async def connect(cls, agent: str = "kinase") -> Client:
        """The cluster that the pod runs in, or that KUBECONFIG (or ~/.kube/config) names.

        Raises:
            ConfigException: neither exists.
        """
        configuration = Configuration()
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            kube_config.load_incluster_config(client_configuration=configuration)
        else:
            await kube_config.load_kube_config(client_configuration=configuration)
        configuration.connection_pool_maxsize = 64
        return cls(configuration, agent)

    @property
    def configuration(self) -> Configuration:
        """Address of the server, and the credentials."""
        return self._configuration

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()

    async def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> aiohttp.ClientResponse:
        url = self._configuration.host + path + (f"?{urlencode(params)}" if params else "")
        headers = {
            "Accept": "application/json",
            "Content-Type": content_type,
            "User-Agent": self._agent,
        }
        # also refreshes a token that Kubernetes rotates
        token = await self._configuration.get_api_key_with_prefix("BearerToken", "authorization")
        if token:
            headers["Authorization"] = token
        try:
            answer = await self._api.rest_client.request(
                method,
                url,
                headers=headers,
                body=body,
                _request_timeout=timeout or aiohttp.ClientTimeout(total=TIMEOUT),
            )
            response: aiohttp.ClientResponse = answer.response
            if response.status >= 400:
                raise _error(response.status, await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _out_of_reach(f"{method} {path}", error) from error
        return response

    async def _json(self, method: str, path: str, *arguments: Any) -> Object:
        self.requests[method] = self.requests.get(method, 0) + 1
        response = await self._send(method, path, *arguments)
        try:
            found: Object = json.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _out_of_reach(f"{method} {path}", error) from error
        return found

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """Read an object.

        Raises:
            ApiError: as in all methods; the subclass gives the cause.
        """
        return await self._json("GET", resource.path(namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        keep: Callable[[Object], Any] = lambda item: item,
        **params: Any,
    ) -> tuple[list[Any], str]:
        """The result of `keep` for each matching object (by default the object itself), page by
        page, so that a long list is never completely in memory; and the resource version to watch
        from. With `limit` in the parameters, only the first page."""
        found: list[Any] = []
        where: dict[str, Any] = {"limit": PAGE, **params}
        once = "limit" in params
        while True:
            page = await self._json("GET", resource.path(namespace), where)
            found += map(keep, page["items"])
            token = page["metadata"].get("continue")
            if not token or once:
                return found, page["metadata"]["resourceVersion"]
            where["continue"] = token

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        """Create an object; `Conflict` if the name is taken."""
        return await self._json("POST", resource.path(namespace), None, body)

    async def merge(
        self, resource: Resource, namespace: str, name: str, body: Object, subresource: str = ""
    ) -> Object:
        """Change fields by a JSON merge patch. `metadata.resourceVersion` (or `uid`) in the
        body makes it conditional."""
        path = resource.path(namespace, name, subresource)
        return await self._json("PATCH", path, None, body, MERGE)

    async def apply(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Object,
        *,
        manager: str,
        subresource: str = "",
    ) -> Object:
        """Apply the fields of this manager, by server-side apply."""
        path = resource.path(namespace, name, subresource)
        params = {"fieldManager": manager, "force": "true"}
        return await self._json("PATCH", path, params, body, APPLY)

    async def replace(self, resource: Resource, namespace: str, name: str, body: Object) -> Object:
        """Write a whole object; `Conflict` if it changed since it was read."""
        return await self._json("PUT", resource.path(namespace, name), None, body)

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        policy: str = "Background",
    ) -> None:
        """Delete an object if it has that UID."""
        body: Object = {"propagationPolicy": policy}
        if uid:
            body["preconditions"] = {"uid": uid}
        await self._json("DELETE", resource.path(namespace, name), None, body)

    async def watch(
        self, resource: Resource, namespace: str | None, version: str, **params: Any
    ) -> AsyncIterator[tuple[str, Object]]:
        """Events (type, object) after a resource version, until the server ends the stream.

        Raises:
            Gone: the version is too old.
            Unavailable: the stream broke, or was silent for too long.
        """
        where = {
            **params,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": WATCH,
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=SILENCE)
        path = resource.path(namespace)
        response = await self._send("GET", path, where, timeout=timeout)
        try:
            async with response:
                async for line in response.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise _error(int(status.get("code", 500)), line, status)
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _out_of_reach(f"watch {path}", error) from error

    async def stream(self, path: str, params: Mapping[str, Any]) -> AsyncIterator[bytes]:
        """Stream the body of a response, such as a followed log."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT)
        response = await self._send("GET", path, params, timeout=timeout)
        try:
            async with response:
                async for chunk in response.content.iter_any():
                    yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _out_of_reach(f"GET {path}", error) from error

    async def version(self) -> str:
        """The server's version."""
        return str((await self._json("GET", "/version"))["gitVersion"])


def _out_of_reach(request: str, error: Exception) -> Unavailable:
    why = str(error)
    if not why:  # as that of a timeout
        why = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    return Unavailable(0, type(error).__name__, f"{request}: {why}")


def _error(status: int, text: bytes, body: Object | None = None) -> ApiError:
    if body is None:
        try:
            body = json.loads(text)
            assert isinstance(body, dict)
        except (ValueError, AssertionError):
            body = {"message": text.decode(errors="replace")[:500]}
    kind = _KINDS.get(status, Unavailable if status >= 500 else ApiError)
    reason = str(body.get("reason") or f"HTTP{status}")
    message = str(body.get("message", ""))
    if status >= 500 and "too large" in message:  # etcd's error for an object above its limit
        kind = Invalid
    return kind(status, reason, message)


async def sleep(seconds: float) -> None:
    """Wait; a method so that tests can replace the clock."""
    await asyncio.sleep(seconds)
