"""`kinase.search`: a search on this machine, in this thread or in the background."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any, Literal, overload

from kinase.api.experiment import NASExperiment
from kinase.api.trial import Point
from kinase.client import html
from kinase.client.callbacks import Callback, Callbacks, TrialFunction
from kinase.client.manifest import read
from kinase.client.progress import Shown, shown
from kinase.client.result import Best, Result
from kinase.experiment.local import run as run_local
from kinase.experiment.local import set_aside
from kinase.experiment.loop import Loop
from kinase.experiment.trial_record import TrialRecord
from kinase.report import render
from kinase.report.gather import gather
from kinase.runs import Status, record, row

Manifest = str | PathLike[str] | Mapping[str, Any] | NASExperiment


class Search:
    """A search that runs in this process: returned by `kinase.search(..., wait=False)`, and passed
    to callbacks.

    It ends with the process. Its results are kept, and the same call resumes it.
    """

    def __init__(
        self,
        experiment: NASExperiment,
        callbacks: Callbacks,
        progress: Shown,
        trainer: str,
    ) -> None:
        """Created by `kinase.search`."""
        self._experiment = experiment
        self._callbacks = callbacks
        self._progress = progress
        self._trainer = trainer
        self._place = record(experiment)
        self._loop: Loop | None = None
        self._stopping = False
        self._over = threading.Event()
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._received: list[int] = []
        self._thread: int | None = None

    # -- for callers -------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self._experiment.metadata.name

    @property
    def status(self) -> str:
        """starting, running or stopping; after the end the result's status, or error."""
        if self._over.is_set():
            return "error" if self._result is None else str(self._result.status)
        if self._stopping:
            return "stopping"
        return "starting" if self._loop is None else Status.RUNNING.value

    def wait(self, timeout: float | None = None) -> Result:
        """Wait for the end.

        Raises:
            RuntimeError: a callback calls it, which the search itself waits for.
            TimeoutError: the search has not ended within `timeout` seconds; it continues.
            Exception: the exception that ended the search, as `kinase.search` raises it.
        """
        if self._thread == threading.get_ident() and not self._over.is_set():
            raise RuntimeError(
                f"{self.name} waits for this callback, so the callback cannot wait for its end; "
                "use search.stop() to end it, or search.result() for the result so far"
            )
        if not self._over.wait(timeout):
            raise TimeoutError(f"{self.name} has not ended within {timeout:g} s; it continues")
        if self._result is None:
            assert self._error is not None
            raise self._error
        return self._result

    def stop(self) -> None:
        """Start no more trials, and stop running ones at their next checkpoint. This returns
        immediately; use `wait` to wait for the end. The same call of `kinase.search` resumes the
        search later."""
        self._stopping = True
        if self._loop is not None:
            self._loop.interrupt()

    def result(self) -> Result:
        """The current result, without waiting.

        Raises:
            StoreError: the search has not started yet.
        """
        if self._result is not None:
            return self._result
        return Result(self._place, tuple(self._callbacks.errors))

    def __repr__(self) -> str:
        return f"<kinase.Search {self.name!r} {self.status}>"

    def _repr_html_(self) -> str:
        if self._loop is None:
            return html.note(f"{self.name}: {self.status}")
        return html.progress(self._loop, {})

    # -- running -----------------------------------------------------------------------

    def _begin(self) -> None:
        threading.Thread(target=self._kept, name=f"kinase {self.name}", daemon=True).start()

    def _kept(self) -> None:
        """Run the search, and keep its result or exception for `wait`."""
        self._thread = threading.get_ident()
        try:
            self._result = self._run()
        except BaseException as error:
            self._error = error
        finally:
            self._over.set()

    def _run(self) -> Result:
        with self._progress as progress:
            loop = run_local(
                self._experiment,
                trainer=self._trainer,
                listener=_Told(self, progress),
                say=progress.say,
                received=self._received,
            )
        loop.store.put("report.html", render(gather(loop)).encode())
        result = Result(self._place, ())
        self._callbacks.call("on_end", self, result)
        result.callback_errors = tuple(self._callbacks.errors)
        return result

    def _run_here(self) -> Result:
        self._kept()
        result = self.wait()
        if signal.SIGINT in self._received:
            raise KeyboardInterrupt
        if signal.SIGTERM in self._received:
            signal.raise_signal(signal.SIGTERM)
        return result


class _Told:
    """Forwards the loop's events to the callbacks and the progress display."""

    def __init__(self, search: Search, progress: Shown) -> None:
        self._search = search
        self._progress = progress

    def started(self, loop: Loop) -> None:
        self._search._loop = loop
        if self._search._stopping:
            loop.interrupt()
        self._progress.started(loop)
        self._call("on_start", self._search)

    def progressed(self, loop: Loop, trial: int, point: Point) -> None:
        self._progress.progressed(loop, trial, point)
        self._call("on_epoch", self._search, trial, point.epoch, dict(point.metrics))

    def rested(self, loop: Loop, trial: TrialRecord) -> None:
        self._progress.rested(loop, trial)
        if trial.rests[-1][1].done >= trial.rests[-1][0].until:
            self._call("on_pause", self._search, row(trial))

    def told(self, loop: Loop, trial: TrialRecord) -> None:
        self._progress.told(loop, trial)
        self._call("on_trial", self._search, row(trial))

    def tick(self, loop: Loop) -> None:
        self._progress.tick(loop)

    def _call(self, method: str, *arguments: Any) -> None:
        self._search._callbacks.call(method, *arguments)


Given = Iterable[Callback | TrialFunction] | Callback | TrialFunction


@overload
def search(
    manifest: Manifest,
    *,
    wait: Literal[True] = True,
    callbacks: Given = (),
    out: str | PathLike[str] | None = None,
    name: str | None = None,
    trials: int | None = None,
    parallelism: int | None = None,
    device: str | None = None,
    fresh: bool = False,
    progress: bool | None = None,
    trainer: str = "torch",
) -> Result: ...


@overload
def search(
    manifest: Manifest,
    *,
    wait: Literal[False],
    callbacks: Given = (),
    out: str | PathLike[str] | None = None,
    name: str | None = None,
    trials: int | None = None,
    parallelism: int | None = None,
    device: str | None = None,
    fresh: bool = False,
    progress: bool | None = None,
    trainer: str = "torch",
) -> Search: ...


def search(
    manifest: Manifest,
    *,
    wait: bool = True,
    callbacks: Given = (),
    out: str | PathLike[str] | None = None,
    name: str | None = None,
    trials: int | None = None,
    parallelism: int | None = None,
    device: str | None = None,
    fresh: bool = False,
    progress: bool | None = None,
    trainer: str = "torch",
) -> Result | Search:
    """Search on this machine, then train, test and keep the winner.

    The same call resumes a search that was interrupted or killed, and with a larger budget also one
    that has ended. Trials run in separate processes, which do not run the caller's script, so it
    needs no ``if __name__ == "__main__":``.

    Args:
        manifest: path of a manifest, its YAML text, a dict (`apiVersion` and `kind` can be
            omitted), or an `Experiment`.
        wait: return when the search has ended. If False, return a handle immediately.
        callbacks: instances of `Callback`, or functions of the search and a finished trial.
        out: folder or URI to keep everything in, instead of `storage.uri`; ``runs`` by default.
        name: instead of `metadata.name`.
        trials: budget of trials, instead of the manifest's.
        parallelism: trials at once, instead of the manifest's.
        device: auto, cpu, cuda or mps, instead of the manifest's.
        fresh: start from scratch; the folder of an earlier run of this name is renamed to `NAME.1`.
        progress: show the progress: a table in a notebook or on a terminal, otherwise lines on
            standard error. Default: yes, except with ``wait=False`` outside a notebook.
        trainer: entry point of the group `kinase.trainers`, or an import path.

    Returns:
        The result; or a handle with `wait`, `stop`, `result` and `status`, if `wait` is False.

    Raises:
        ManifestError: the manifest is invalid; the message lists every problem.
        StoreError: the storage cannot be used, or holds another experiment of this name.
        EngineError: no trial can run, for example because the data is missing.
        KeyboardInterrupt: the search was interrupted; its results are kept.
    """
    heard = Callbacks(callbacks)
    changes = {
        "storage.uri": out,
        "budget.trials": trials,
        "budget.parallelism": parallelism,
        "training.device": device,
    }
    experiment = read(manifest, name, changes, trainer)
    if fresh:
        set_aside(experiment)
    handle = Search(experiment, heard, shown(progress, wait), trainer)
    if wait:
        return handle._run_here()
    handle._begin()
    return handle


__all__ = ["Best", "Search", "search"]
