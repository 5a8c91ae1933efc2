"""The operator as a Kopf application: Kopf handles startup, signals and the watch of experiments.

Trials, Jobs and pods are watched by the operator's own informers, which keep only a few fields per
object, and no task or queue per object: there can be thousands.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import kopf
from aiohttp import web

from kinase.api import names
from kinase_kube import client as kube
from kinase_kube.client import SILENCE, WATCH, ApiError, Client
from kinase_operator.drift import MANAGER
from kinase_operator.metrics import Metrics
from kinase_operator.reconciler import Reconciler
from kinase_operator.settings import Settings

log = logging.getLogger("kinase")


class Operator:
    """The operator's process."""

    def __init__(self, settings: Settings) -> None:
        """Start nothing before `run`."""
        self.settings = settings
        self.metrics = Metrics()
        self.reconciler: Reconciler | None = None
        self._client: Client | None = None
        self._runner: web.AppRunner | None = None

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        kopf.on.startup(registry=registry)(self._start)
        kopf.on.cleanup(registry=registry)(self._stop)
        kopf.on.event(
            names.GROUP, names.VERSION, names.EXPERIMENTS, registry=registry, id="observe"
        )(self._observe)
        kopf.run(
            registry=registry,
            standalone=True,
            clusterwide=not self.settings.namespaces,
            namespaces=self.settings.namespaces,
        )

    async def _start(self, settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False
        settings.scanning.disabled = True  # the operator may not list CRDs or namespaces
        settings.watching.server_timeout = WATCH
        settings.watching.client_timeout = WATCH + SILENCE
        settings.watching.connect_timeout = 30
        settings.watching.inactivity_timeout = SILENCE
        settings.networking.request_timeout = 30
        self._client = await Client.connect(MANAGER)
        await self._serve()
        await self._await_resources(self._client)
        self.reconciler = Reconciler(self._client, self.settings, self.metrics)
        await self.reconciler.start()

    async def _login(self, **_: Any) -> kopf.ConnectionInfo:
        """The client's credentials. Kopf asks for them again when they are rejected."""
        assert self._client is not None  # Kopf logs in after the startup
        found = self._client.configuration
        bearer = await found.get_api_key_with_prefix("BearerToken", "authorization")
        scheme, token = (bearer or " ").split(" ", 1)
        return kopf.ConnectionInfo(
            server=found.host,
            ca_path=found.ssl_ca_cert,
            insecure=not found.verify_ssl,
            certificate_path=found.cert_file,
            private_key_path=found.key_file,
            scheme=scheme or None,
            token=token or None,
        )

    async def _await_resources(self, client: Client) -> None:
        """Wait until the API server has Kinase's CRDs: they may be installed after the operator."""
        scope = self.settings.namespaces[0] if self.settings.namespaces else None
        for resource in (kube.EXPERIMENT, kube.TRIAL):
            while True:
                try:
                    await client.list(resource, scope, limit=1)
                    break
                except ApiError as error:
                    log.warning("waiting for %s: %s", resource.plural, error)
                    await asyncio.sleep(2)

    async def _stop(self, **_: Any) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self.reconciler is not None:
            await self.reconciler.stop()
        if self._client is not None:
            await self._client.close()

    async def _observe(self, event: Any, **_: Any) -> None:
        assert self.reconciler is not None
        self.reconciler.cache.experiment_changed(event["type"], dict(event["object"]))

    # -- health and metrics ------------------------------------------------------------

    async def _serve(self) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "0.0.0.0", self.settings.port).start()
        log.info("health and metrics on %s", self._runner.addresses)

    async def _healthz(self, request: web.Request) -> web.Response:
        failure = self.reconciler.failure if self.reconciler is not None else None
        return web.Response(status=500 if failure else 200, text=f"{failure or 'ok'}\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        ready = self.reconciler is not None and self.reconciler.ready.is_set()
        return web.Response(
            status=200 if ready else 503, text="ok\n" if ready else "the caches are not filled\n"
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        if self.reconciler is not None:
            self.reconciler.measure()
        page = await asyncio.to_thread(self.metrics.page)  # takes a while for 1,000 experiments
        answer = web.Response(body=page, headers={"Content-Type": "text/plain; version=0.0.4"})
        answer.enable_compression()
        return answer
