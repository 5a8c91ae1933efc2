"""`kinase suspend`, `resume` and `wait`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kinase.api import names
from kinase.api.status import ConditionType
from kinase.cli_options import Target
from kinase_kube import client as kube
from kinase_kube.informer import Informer
from kinase_kubectl.cluster import Cluster, now, plain_name
from kinase_kubectl.problem import FAILED, TIMED_OUT, Problem
from kinase_kubectl.views import Experiment, trouble_line

Say = Callable[[str], Any]


def _called(name: str) -> str:
    return f"nasexperiment.{names.GROUP}/{name}"


async def suspend(
    target: Target, name: str, wanted: bool, wait: bool, timeout: float | None, say: Say
) -> None:
    """Suspend a search, or resume it; with `wait`, return once it has happened."""
    name = plain_name(name)
    async with Cluster.open(target) as cluster:
        found = await cluster.experiment(name)
        if found.finished:
            verb = "suspend" if wanted else "resume"
            raise Problem(f"{name} is finished ({found.phase}): there is nothing to {verb}")
        done = "suspended" if wanted else "resumed"
        if found.suspended == wanted:
            say(f"{_called(name)} already {done}")
        else:
            await cluster.suspend(found, wanted)
            say(f"{_called(name)} {done}")
        if not wait:
            return
        kind = ConditionType.SUSPENDED

        def there(seen: Experiment) -> bool:
            condition = seen.condition(kind)
            told = condition is not None and (condition.status == "True") == wanted
            return seen.finished or (told and seen.suspended == wanted)

        seen = await _until(cluster, name, there, timeout)
        if seen.finished:
            say(f"{_called(name)} is finished ({seen.phase})")
        else:
            say(f"{_called(name)} {'is suspended' if wanted else 'is resumed'}")


async def wait(target: Target, name: str, timeout: float | None, say: Say) -> int:
    """Wait for the end of an experiment; the exit code: 0 if there is a network."""
    name = plain_name(name)
    async with Cluster.open(target) as cluster:
        await cluster.experiment(name)  # an unknown name is reported at once
        seen = await _until(cluster, name, lambda each: each.finished, timeout)
    good = seen.holds(ConditionType.SUCCEEDED)
    condition = seen.condition(ConditionType.SUCCEEDED if good else ConditionType.FAILED)
    why = f": {condition.message}" if condition is not None and condition.message else ""
    say(f"{_called(name)} {'succeeded' if good else 'failed'}{why}")
    return 0 if good else FAILED


async def _until(
    cluster: Cluster, name: str, there: Callable[[Experiment], bool], timeout: float | None
) -> Experiment:
    """The experiment, once the condition is met."""
    changed = asyncio.Event()
    informer: Informer[Experiment] = Informer(
        cluster.client,
        kube.EXPERIMENT,
        Experiment.of,
        lambda *_: changed.set(),
        namespace=cluster.namespace,
        field_selector=f"metadata.name={name}",
    )
    running = asyncio.create_task(informer.run())
    key = cluster.namespace, name
    try:
        async with asyncio.timeout(timeout):
            await informer.synced.wait()
            while True:
                changed.clear()
                seen = informer.items.get(key)
                if seen is None:
                    raise Problem(f"{name} was deleted")
                if there(seen):
                    return seen
                await changed.wait()
    except TimeoutError:
        seen = informer.items.get(key)
        why = "; ".join(trouble_line(c, now()) for c in seen.troubles()) if seen else ""
        phase = f" is {seen.phase}" if seen else " is not known"
        raise Problem(
            f"timed out after {timeout:g} s: {name}{phase}{why and '; ' + why}", TIMED_OUT
        ) from None
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
