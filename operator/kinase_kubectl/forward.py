"""The controller's page, through a port-forward to its pod.

A port-forward is used instead of the API server's proxy to the Service. It ends inside the pod, so
it works even if the API server cannot reach the pods' network or a NetworkPolicy blocks it. It
needs the same permission as `kubectl port-forward`.
"""

from __future__ import annotations

import http.client
import json

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward

from kinase.api.names import PORT
from kinase.cli_options import Target
from kinase_kubectl.cluster import kubeconfig
from kinase_kubectl.problem import Problem

SECONDS = 30.0
"""Timeout in seconds; the report of a long search is large."""


def _api(target: Target) -> client.CoreV1Api:
    """A separate client: while it forwards, it cannot be used for other requests."""
    file = kubeconfig(target)
    if file is None:
        loaded = client.Configuration()
        config.load_incluster_config(client_configuration=loaded)
        return client.CoreV1Api(client.ApiClient(loaded))
    found = config.new_client_from_config(config_file=file, context=target.context)
    return client.CoreV1Api(found)


def fetch(target: Target, namespace: str, pod: str, path: str = "/") -> tuple[int, bytes]:
    """Response of a controller's endpoint: status and body.

    Raises:
        Problem: the request failed.
    """
    try:
        forward = portforward(
            _api(target).connect_get_namespaced_pod_portforward, pod, namespace, ports=str(PORT)
        )
    except (ApiException, config.ConfigException) as error:
        raise Problem(f"cannot forward a port to the pod {pod}: {_said(error)}") from None
    connection = http.client.HTTPConnection("localhost", PORT, timeout=SECONDS)
    try:
        connection.sock = forward.socket(PORT)
        connection.sock.settimeout(SECONDS)
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        said = forward.error(PORT) or f"{type(error).__name__}: {error}"
        raise Problem(f"the pod {pod} does not answer on port {PORT}: {said}") from None
    finally:
        connection.close()
        forward.close()


def _said(error: Exception) -> str:
    """The API server's message, which the client leaves in the failed handshake."""
    try:
        return str(json.loads(getattr(error.__context__, "resp_body", None) or b"")["message"])
    except (ValueError, KeyError, TypeError):
        text = str(getattr(error, "reason", "") or error)
        return text.partition(" -+-+- ")[0]
