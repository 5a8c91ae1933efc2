"""`kinase get`: experiments, or one experiment with its trials, once or continuously."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from kinase.api import names
from kinase.cli_options import Target
from kinase.words import counted
from kinase_kube import client as kube
from kinase_kube.client import Object
from kinase_kube.informer import Informer, Key
from kinase_kubectl import table, views
from kinase_kubectl.cluster import Cluster, now, plain_name
from kinase_kubectl.problem import USAGE, Problem
from kinase_kubectl.views import Experiment, Trial

FORMATS = ("", "wide", "json", "yaml", "name")
TICK = 1.0
"""Seconds after which a table is redrawn, to update its times."""


@dataclass(frozen=True, slots=True)
class Query:
    """What to show, and how."""

    target: Target
    name: str | None = None
    everywhere: bool = False
    selector: str = ""
    output: str = ""
    trials: int = 20
    """Maximum number of trials shown for an experiment; 0: all."""

    @property
    def wide(self) -> bool:
        """Whether to show more columns."""
        return self.output == "wide"


def check(query: Query) -> Query:
    """Check the request, and bring the name into the API's form.

    Raises:
        Problem: the options contradict each other.
    """
    if query.output not in FORMATS:
        known = ", ".join(filter(None, FORMATS))
        raise Problem(f"-o {query.output!r} is not known; use one of {known}", USAGE)
    if query.name is None:
        return query
    if query.everywhere or query.selector:
        raise Problem("a name cannot be combined with -A or -l", USAGE)
    return Query(query.target, plain_name(query.name), False, "", query.output, trials=query.trials)


async def get(query: Query, console: Console, say: Callable[[str], Any]) -> None:
    """Print once."""
    query = check(query)
    async with Cluster.open(query.target) as cluster:
        if query.name is None:
            found = await cluster.experiments(everywhere=query.everywhere, selector=query.selector)
            trials: list[Trial] = []
            if not found and query.output in ("", "wide"):
                where = "" if query.everywhere else f" in namespace {cluster.namespace}"
                say(f"No experiments found{where}.")
                return
        else:
            found = [await cluster.experiment(query.name)]
            trials = await cluster.trials(found[0]) if query.output in ("", "wide") else []
    if query.output in ("json", "yaml", "name"):
        console.out(document(query, found), highlight=False, end="")
    else:
        room = console.width if console.is_terminal else None
        for line in lines(query, found, trials, room):
            console.print(line, soft_wrap=True)


def document(query: Query, found: Sequence[Experiment]) -> str:
    """Experiments for programs."""
    if query.output == "name":
        return "".join(f"nasexperiment.{names.GROUP}/{each.name}\n" for each in found)
    items = [views.tidy(each.body) for each in found]
    whole: Object = {"apiVersion": "v1", "items": items, "kind": "List"}
    body = items[0] if query.name is not None else whole
    if query.output == "json":
        return json.dumps(body, indent=4) + "\n"
    return str(yaml.safe_dump(body, sort_keys=False, allow_unicode=True))


def lines(
    query: Query, found: Sequence[Experiment], trials: Sequence[Trial], room: int | None
) -> list[Text]:
    """Experiments for people, for a terminal `width` characters wide, or None without a
    terminal."""
    moment = now()
    if query.name is None:
        rows = views.listing(
            views.EXPERIMENTS, found, moment, wide=query.wide, namespace=query.everywhere
        )
        if room is None:
            return [Text(line) for line in table.plain(rows)]
        wrong = [(each, condition) for each in found for condition in each.troubles()]
        return [
            *table.styled(rows, room),
            *(Text(f"{e.name}: {views.trouble_line(c, moment)}", "yellow") for e, c in wrong),
        ]
    (each,) = found
    facts = views.facts(each, moment)
    facts += [("Trouble", views.trouble_line(c, moment)) for c in each.troubles()]
    shown = views.latest(trials, query.trials)
    rows = views.listing(views.TRIALS, shown, moment, wide=query.wide)
    if room is None:
        text = [Text(line) for line in table.plain_facts(facts)]
        below = [Text(line) for line in table.plain(rows)]
    else:
        text, below = table.styled_facts(facts, each.share()), table.styled(rows, room)
    if shown:
        text += [Text(""), *below]
    if hidden := len(trials) - len(shown):
        text.append(
            Text(f"{counted(hidden, 'more trial')} ended before; --trials 0 shows all", "dim")
        )
    return text


async def watch(query: Query, console: Console, say: Callable[[str], Any]) -> None:
    """Show experiments and their changes until cancelled: on a terminal as a table that is redrawn,
    otherwise as a line (or an object) for each change."""
    query = check(query)
    async with Cluster.open(query.target) as cluster:
        # report an unknown name or a missing permission here; informers would wait
        if query.name is None:
            await cluster.experiments(everywhere=query.everywhere, selector=query.selector)
        else:
            await cluster.experiment(query.name)
        await _Watcher(query, cluster, console).run()


class _Watcher:
    """Holds the observed objects, and shows them."""

    def __init__(self, query: Query, cluster: Cluster, console: Console) -> None:
        self._query, self._cluster, self._console = query, cluster, console
        self._changed = asyncio.Event()
        self._printed: dict[tuple[str, Key], list[str]] = {}
        self._head: dict[str, list[int]] = {}
        self._drawn = console.is_terminal and query.output in ("", "wide")
        self._experiments: Informer[Experiment] = Informer(
            cluster.client,
            kube.EXPERIMENT,
            Experiment.of,
            lambda key, before, after: self._seen("experiment", key, after),
            namespace=None if query.everywhere else cluster.namespace,
            selector=query.selector,
            field_selector=f"metadata.name={query.name}" if query.name else "",
        )
        self._trials: Informer[Trial] | None = None
        if query.name is not None and query.output in ("", "wide"):
            self._trials = Informer(
                cluster.client,
                kube.TRIAL,
                Trial.of,
                lambda key, before, after: self._seen("trial", key, after),
                namespace=cluster.namespace,
                selector=f"{names.EXPERIMENT}={query.name}",
            )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._experiments.run())
            await self._experiments.synced.wait()
            if self._trials is not None:
                tasks.create_task(self._trials.run())
                await self._trials.synced.wait()
            if self._drawn:
                await self._draw()

    async def _draw(self) -> None:
        with Live(console=self._console, auto_refresh=False) as live:
            while True:
                self._changed.clear()
                live.update(Group(*self._lines()), refresh=True)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), TICK)
                await asyncio.sleep(0.2)  # collect several changes

    def _lines(self) -> list[Text]:
        room = self._console.width
        found = [self._experiments.items[key] for key in sorted(self._experiments.items)]
        if self._query.name is None:
            return lines(self._query, found, [], room)
        if not found:
            return [Text(f"{self._query.name} is gone", "yellow")]
        held = self._trials.items.values() if self._trials is not None else ()
        mine = [trial for trial in held if trial.experiment_uid == found[0].uid]
        return lines(self._query, found, mine, room)

    def _seen(self, kind: str, key: Key, after: Experiment | Trial | None) -> None:
        self._changed.set()
        if self._drawn or after is None:
            return
        if self._query.output in ("json", "yaml", "name"):
            if isinstance(after, Experiment):
                text = document(self._query, [after]) if self._query.name else self._alone(after)
                self._print(text)
            return
        columns = views.EXPERIMENTS if kind == "experiment" else views.TRIALS
        rows = views.listing(
            columns,
            [after],
            now(),
            wide=self._query.wide,
            namespace=self._query.everywhere,
        )
        said = [
            cell
            for title, cell in zip(rows.head, rows.rows[0], strict=True)
            if title not in ("AGE", "TIME LEFT", "LASTED")
        ]
        if self._printed.get((kind, key)) == said:
            return  # the change is not visible
        self._printed[kind, key] = said
        if kind not in self._head:
            self._head[kind] = [max(width, len(title)) for width, title in self._widths(rows)]
            self._print(table.plain_row(rows.head, self._head[kind]) + "\n")
        wide = [max(w, len(c)) for w, c in zip(self._head[kind], rows.rows[0], strict=True)]
        self._print(table.plain_row(rows.rows[0], wide) + "\n")

    @staticmethod
    def _widths(rows: views.Listing) -> list[tuple[int, str]]:
        """Minimum widths of columns, since later values are not known yet."""
        room = {"PHASE": 10, "BEST": 6, "VALUE": 6, "TRIALS": 9, "BUDGET LEFT": 14, "KIND": 8}
        wide = table.widths(rows)
        return [(max(w, room.get(t, 0)), t) for w, t in zip(wide, rows.head, strict=True)]

    def _alone(self, each: Experiment) -> str:
        named = Query(self._query.target, each.name, output=self._query.output)
        return document(named, [each])

    def _print(self, text: str) -> None:
        separator = "---\n" if self._query.output == "yaml" else ""
        self._console.file.write(separator + text)
        self._console.file.flush()
