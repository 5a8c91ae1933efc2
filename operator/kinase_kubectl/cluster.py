"""The user's cluster: found as by kubectl, and accessed with the user's permissions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from kubernetes.aio import config as kube_config
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.config_exception import ConfigException

from kinase.api import names
from kinase.cli_options import KINDS, Target
from kinase_kube import client as kube
from kinase_kube.client import ApiError, Client, NotFound, Object, Resource, Unavailable
from kinase_kubectl.problem import USAGE, Problem
from kinase_kubectl.views import Experiment, Trial

SECRET = Resource("", "v1", "secrets", "Secret")
CONFIG_MAP = Resource("", "v1", "configmaps", "ConfigMap")
SHOWN = 10
"""Maximum number of names listed if a name is not found."""

_NONE = (
    ConfigException,
    yaml.YAMLError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
)
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def kubeconfig(target: Target) -> str | None:
    """The kubeconfig file or files, or None to use the pod's ServiceAccount."""
    if target.kubeconfig is not None:
        return str(target.kubeconfig.expanduser())
    if named := os.environ.get("KUBECONFIG"):
        return named
    home = Path("~/.kube/config").expanduser()
    if home.exists() or "KUBERNETES_SERVICE_HOST" not in os.environ:
        return str(home)
    return None


async def configuration(target: Target) -> tuple[Configuration, str]:
    """Configuration for the cluster, and the default namespace.

    Raises:
        Problem: there is no cluster, or the kubeconfig is invalid.
    """
    file, loaded = kubeconfig(target), Configuration()
    try:
        if file is None:
            kube_config.load_incluster_config(client_configuration=loaded)
            return loaded, target.namespace or _ACCOUNT.read_text().strip()
        if not any(Path(part).exists() for part in file.split(os.pathsep)):
            raise Problem(
                f"there is no kubeconfig {file}: set KUBECONFIG, or name one with --kubeconfig; "
                "for the runs of this machine see kinase list"
            )
        # the official loader's message for a missing context does not name the context
        contexts, current = kube_config.list_kube_config_contexts(file)
        known = {context["name"]: context["context"] for context in contexts}
        name = target.context or current["name"]
        if name not in known:
            raise Problem(f"no context {name!r} in {file}; there are: {', '.join(sorted(known))}")
        await kube_config.load_kube_config(
            config_file=file, context=name, client_configuration=loaded
        )
    except _NONE as error:
        # for a file that is not a kubeconfig, the loader raises various exceptions
        said = " ".join(str(error).split())
        raise Problem(f"the kubeconfig {file or 'of this pod'} does not serve: {said}") from None
    return loaded, target.namespace or known[name].get("namespace") or "default"


def plain_name(text: str, kinds: tuple[str, ...] = KINDS) -> str:
    """An object's name, with or without its kind: `digits`, `nasx/digits`.

    Raises:
        Problem: the name is invalid.
    """
    kind, slash, rest = text.partition("/")
    if slash and kind.partition(".")[0] in kinds:
        text = rest
    if len(text) > 253 or not _NAME.fullmatch(text):
        raise Problem(
            f"{text!r} is not a valid name: use lower-case letters, digits and '-', with a "
            "letter or digit at both ends",
            USAGE,
        )
    return text


@contextlib.contextmanager
def as_problems(server: str) -> Iterator[None]:
    """Turn errors of the API server into a `Problem`."""
    try:
        yield
    except Unavailable as error:
        raise Problem(f"the cluster at {server} does not answer: {error.message}") from None
    except NotFound as error:
        if "could not find the requested resource" in error.message:
            raise Problem(
                f"the cluster at {server} has no Kinase: the kind {names.EXPERIMENTS}.{names.GROUP}"
                " does not exist; install its CRDs first"
            ) from None
        raise Problem(error.message) from None
    except ApiError as error:
        said = "you must be logged in to the server" if error.status == 401 else error.message
        raise Problem(said) from None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A connection to a cluster, and the commands' namespace."""

    client: Client
    server: str
    namespace: str

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, target: Target) -> AsyncIterator[Cluster]:
        """Connect.

        Raises:
            Problem: as in all methods.
        """
        found, namespace = await configuration(target)
        client = Client(found)
        try:
            yield cls(client, str(found.host), plain_name(namespace, ()))
        finally:
            await client.close()

    async def experiments(
        self, *, everywhere: bool = False, selector: str = ""
    ) -> list[Experiment]:
        """Experiments of the namespace, or of all namespaces, by name."""
        params = {"labelSelector": selector} if selector else {}
        where = None if everywhere else self.namespace
        with as_problems(self.server):
            found, _ = await self.client.list(kube.EXPERIMENT, where, keep=Experiment.of, **params)
        return sorted(found, key=lambda each: (each.namespace, each.name))

    async def experiment(self, name: str) -> Experiment:
        """An experiment. If the name is unknown, the error lists the known ones."""
        with as_problems(self.server):
            try:
                return Experiment.of(await self.client.get(kube.EXPERIMENT, self.namespace, name))
            except NotFound as error:
                if "could not find the requested resource" in error.message:
                    raise
        raise Problem(await self.missing(names.EXPERIMENTS, name))

    async def missing(self, kind: str, name: str) -> str:
        """Error for an unknown name, with the names of the experiments."""
        there = [each.name for each in await self.experiments()]
        more = f" and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
        known = f"there are: {', '.join(there[:SHOWN])}{more}" if there else "there are none"
        if not there:
            known += "; kinase get -A looks in all namespaces"
        return f"{kind} '{name}' not found in namespace '{self.namespace}'; {known}"

    async def trials(self, experiment: Experiment) -> list[Trial]:
        """All trials of an experiment, by name."""
        with as_problems(self.server):
            found, _ = await self.client.list(
                kube.TRIAL, experiment.namespace, keep=Trial.of, labelSelector=experiment.selector
            )
        return sorted(found, key=lambda trial: trial.name)

    async def trial(self, name: str) -> Trial | None:
        """A trial, or None."""
        with as_problems(self.server):
            try:
                return Trial.of(await self.client.get(kube.TRIAL, self.namespace, name))
            except NotFound as error:
                if "could not find the requested resource" in error.message:
                    raise
        return None

    async def pods(self, selector: str) -> list[Object]:
        """Matching pods, the latest last."""
        with as_problems(self.server):
            found, _ = await self.client.list(kube.POD, self.namespace, labelSelector=selector)
        return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    async def controller_pods(self, experiment: Experiment) -> list[Object]:
        """Pods of an experiment's controller, the latest last."""
        return await self.pods(f"{experiment.selector},{names.COMPONENT}=controller")

    async def read(self, resource: Resource, name: str) -> Object:
        """An object of the namespace."""
        with as_problems(self.server):
            return await self.client.get(resource, self.namespace, name)

    async def suspend(self, experiment: Experiment, suspend: bool) -> Experiment:
        """Suspend a search, or resume it."""
        body: dict[str, Any] = {
            "metadata": {"uid": experiment.uid},
            "spec": {"suspend": suspend},
        }
        with as_problems(self.server):
            return Experiment.of(
                await self.client.merge(
                    kube.EXPERIMENT, experiment.namespace, experiment.name, body
                )
            )

    async def log(self, pod: str, **params: Any) -> AsyncIterator[bytes]:
        """The log of a pod's container, with `follow` until it ends."""
        path = kube.POD.path(self.namespace, pod, "log")
        with as_problems(self.server):
            async for chunk in self.client.stream(path, params):
                yield chunk


def now() -> datetime:
    """The current time."""
    return datetime.now(UTC)


async def pause(seconds: float) -> None:
    """Wait before the next check."""
    await asyncio.sleep(seconds)
