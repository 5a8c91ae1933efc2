"""The result of a search, read from its storage."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from kinase import registry
from kinase.api.trial import Architecture, Cost
from kinase.client import html
from kinase.estimation.calibration import Calibration
from kinase.experiment.local import reopen
from kinase.experiment.record import Record
from kinase.experiment.trial_record import TrialRecord
from kinase.report import render
from kinase.report.gather import gather, steps
from kinase.runs import Place, Status, find, is_run, rows, status_of, undamaged
from kinase.words import counted


@dataclass(frozen=True, slots=True)
class Best:
    """The best network of a search."""

    trial: int
    """Number of its trial."""
    genotype: Architecture
    """Its architecture, in the form of the search space."""
    metrics: dict[str, float]
    """Metrics on the validation split."""
    test: dict[str, float]
    """Metrics on the test split; empty before the search has ended."""
    parameters: int | None
    """Trainable parameters at full fidelity."""
    macs: int | None
    """Multiply-adds of one sample at full fidelity."""
    cost: Cost
    """Cost of its trial: `epochs`, `samples`, `device_seconds`."""
    final: bool
    """Whether it is the winner, trained at full fidelity. Otherwise it is the best of the search so
    far: of the highest rung that a trial has reached, if trials are trained in several rungs."""
    rung: int | None = None
    """The rung at whose end it has these metrics; None for the winner, and without a ladder."""


class Result:
    """A search as it was when it was read: finished, interrupted, or still running."""

    def __init__(self, place: Place, callback_errors: tuple[Exception, ...] = ()) -> None:
        """Read a run.

        Raises:
            StoreError: there is no run at this place, or it cannot be read.
        """
        self._place = place
        self.callback_errors = callback_errors
        """What callbacks raised during the call of `kinase.search` that gave this."""
        self._record: Record
        self.refresh()

    def refresh(self) -> Result:
        """Read it again."""
        with undamaged(self._place.uri):
            self._record = reopen(self._place.store(), self._place.namespace)
        return self

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self._place.name

    @property
    def uri(self) -> str:
        """URI of the run."""
        return self._place.uri

    @property
    def folder(self) -> Path | None:
        """The folder on this machine, or None if the run is in a bucket."""
        return self._place.folder

    @property
    def status(self) -> Status:
        """running, interrupted, finished (with a network) or failed (without); a `str`."""
        return status_of(self._record.store, self._record.state)

    @property
    def reason(self) -> str:
        """Why the search ended; empty while it continues."""
        state = self._record.state
        message = state.finished.message if state.finished is not None else ""
        return message or state.ended or ""

    @property
    def cost(self) -> Cost:
        """What all trials that have ended have spent."""
        return self._record.state.spent

    def trials(self) -> list[dict[str, Any]]:
        """All trials by number, as flat rows with the same columns: ``pandas.DataFrame(...)`` takes
        them as they are. Times are in seconds; `genotype` is JSON; what a trial lacks is None."""
        return rows(self._record.state)

    @property
    def best(self) -> Best | None:
        """The winner, or the best trial of the search so far; None before a trial was measured."""
        finished = self._record.state.finished
        winner = finished.winner if finished is not None else None
        if winner is not None and finished is not None:
            return _best(self._record.state.trials[winner], finished.test, True)
        found = self._record.best
        if found is None:
            return None
        return _best(found, {}, False, found.rung if self._record.laddered else None)

    def rungs(self) -> list[dict[str, Any]]:
        """How the search's trials stand on the ladder, its control's included: for each rung its
        number, what is trained up to its end, and how many trials have entered and reached it, are
        running, paused, promoted, stopped or failed there, and the epochs spent in it. Empty where
        trials are trained at once."""
        if not self._record.laddered:
            return []
        return [
            {
                "rung": step.rung,
                "trained": step.text,
                "entered": step.count.entered,
                "reached": step.count.reached,
                "running": step.count.running,
                "paused": step.count.paused,
                "promoted": step.count.promoted,
                "stopped": step.count.stopped,
                "failed": step.count.failed,
                "epochs": step.count.cost.epochs,
            }
            for step in steps(self._record)
        ]

    @property
    def calibration(self) -> Calibration | None:
        """How far the rule that stops trials by their curves can be trusted: `stopped`, `spared`,
        `won`, and an estimated `share` of the stopped trials that would have become the best, with
        its 95 % `interval`. None without a rule."""
        return self._record.leaders.calibration

    def load(self) -> Any:
        """The winner as a torch module with its weights, in evaluation mode on the CPU. It takes
        float images in 0..1 of shape (N, C, H, W), and returns logits (N, classes).

        Raises:
            LookupError: the search has no winner.
            ImportError: torch is not installed.
        """
        winner = self._final()
        network, _ = _trainer().load(winner)
        return network

    def export(self, out: str | PathLike[str], formats: tuple[str, ...] = ()) -> list[Path]:
        """Export the winner to a folder, and return the files.

        Args:
            out: the folder.
            formats: any of safetensors, torchscript, exported-program and onnx. Default: all.

        Raises:
            LookupError: the search has no winner.
            ImportError: torch is not installed.
            ValueError: a format is not known.
        """
        winner = self._final()
        export = registry.load("kinase.trainers", "torch").export
        written: list[Path] = export(winner, Path(out), tuple(formats))
        return written

    def report(self, path: str | PathLike[str] | None = None) -> Path | str:
        """Write the HTML report to `path`, by default to `report.html` next to the journal, and
        return its path.

        Raises:
            ModuleNotFoundError: plotly or jinja2 is missing; install `kinase-nas[report]`.
        """
        document = render(gather(self._record)).encode()
        if path is not None:
            target = Path(fspath(path))
            target.write_bytes(document)
            return target
        self._record.store.put("report.html", document)
        return f"{self.uri}/report.html" if self.folder is None else self.folder / "report.html"

    def _final(self) -> Any:
        finished = self._record.state.finished
        if finished is None or finished.winner is None:
            raise LookupError(
                f"{self.name} is {self.status} and has no winner"
                + ("" if finished is not None else "; it has one when the search has ended")
            )
        return self._record.store.sub("final")

    def __repr__(self) -> str:
        best = self.best
        state = self._record.state
        parts = [f"{self.name!r} {self.status}", counted(len(state.told), "trial")]
        if state.resting:
            parts.append(f"{state.resting} paused")
        if best is not None:
            metric = self._record.aims[0].metric
            value = {**best.metrics}.get(metric)
            where = "" if best.rung is None else f" at rung {best.rung}"
            parts.append(
                f"best trial {best.trial}"
                + ("" if value is None else f" {metric} {value:.4f}{where}")
            )
        return f"<kinase.Result {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        return html.result(self._record, self.status)


def _best(trial: TrialRecord, test: dict[str, float], final: bool, rung: int | None = None) -> Best:
    return Best(
        trial=trial.number,
        genotype=trial.architecture,
        metrics=dict(trial.metrics),
        test=dict(test),
        parameters=_count(trial, "params"),
        macs=_count(trial, "macs"),
        cost=trial.cost,
        final=final,
        rung=rung,
    )


def _count(trial: TrialRecord, name: str) -> int | None:
    value = trial.resources.get(name)
    return None if value is None else int(value)


def _trainer() -> Any:
    """The trainer's package, which imports torch on demand."""
    return import_module(registry.package("kinase.trainers", "torch"))


def load_result(run: str | PathLike[str]) -> Result:
    """Open a run on this machine, finished or not.

    Args:
        run: name, folder or URI of the run.

    Raises:
        StoreError: no run or several runs have the name.
    """
    text = fspath(run)
    folder = Path(text)
    if is_run(folder):
        return Result(Place(uri=f"file://{folder.resolve()}"))
    return Result(find(text))
