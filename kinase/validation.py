"""`kinase validate`: checks manifests, and reads their data if it is on this machine."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path

from kinase import registry
from kinase.api.auto import choice
from kinase.api.load import Document, ManifestError, parts, read_document
from kinase.api.spec import ExperimentSpec
from kinase.api.trial import TaskInfo
from kinase.api.within import FIELD
from kinase.experiment.aims import aims_of, refuse_unmeasured, refuse_unsupported, refuse_workers
from kinase.experiment.check import checked
from kinase.experiment.doubts import doubts
from kinase.experiment.given import counter, refuse_above, said_of_limits
from kinase.experiment.setting import estimator_of, setting_of
from kinase.report.foresight import foresight
from kinase.report.task import data_lines
from kinase.space import make_space
from kinase.words import raised


class NotRead(Exception):
    """The data cannot be read on this machine, although the manifest is valid. The message says
    why."""


def validate_files(paths: Iterable[str | Path], *, data: bool = True) -> tuple[int, Sequence[str]]:
    """Exit code (0, or 2 if any manifest cannot be used), and lines for every file or problem.

    Args:
        paths: of the manifests.
        data: whether to read the data, too.
    """
    lines: list[str] = []
    code = 0
    for path in paths:
        try:
            lines += [f"{path}: {line}" for line in _validate(path, data)]
        except ManifestError as error:
            lines += [str(problem) for problem in error.problems]
            code = 2
    return code, lines


def _validate(path: str | Path, data: bool) -> Iterator[str]:
    document = read_document(path)
    experiment = checked(document)
    said: Sequence[str]
    info: TaskInfo | None = None
    try:
        if not data:
            raise NotRead("--no-data was given")
        info = read_data(experiment.spec, document)
        said = [*data_lines(info), *_fit(experiment.spec, info, document)]
    except NotRead as error:
        said = (f"the data was not read: {error}",)
    yield f"NASExperiment {experiment.metadata.name} is valid"
    yield from said
    if experiment.spec.estimation.type == "Auto":
        yield choice(experiment.spec.settled().estimation)
    yield from (f"warning: {doubt}" for doubt in doubts(experiment.spec, info))
    if (foreseen := foresight(experiment.spec.sized())) is not None:
        yield f"note: {foreseen}"


def _fit(spec: ExperimentSpec, info: TaskInfo, document: Document) -> Sequence[str]:
    """Check objectives and estimation against the data and the trainer, as a run does before its
    first trial. Not of a network that only a run reads.

    Returns:
        Lines about the limits of the objective.

    Raises:
        ManifestError: they do not fit; it names the line.
    """
    spec = spec.settled(info.supports)
    try:
        refuse_unmeasured(aims_of(spec, info), info)
        refuse_workers(spec, info)
        if spec.space.model is None:
            space = make_space(spec.space)
            setting = setting_of(spec, space, info.input, info.outputs)
            refuse_unsupported(spec, estimator_of(spec, setting).needs, info)
            appraise = counter(space, info)
            refuse_above(spec, space, appraise)
            return said_of_limits(spec, space, appraise)
    except ManifestError as error:
        raise ManifestError(
            [document.problem(parts(each.path), each.message) for each in error.problems]
        ) from None
    return [f"{FIELD}: {limit.text}" for limit in spec.objective.limits or ()]


def read_data(spec: ExperimentSpec, document: Document) -> TaskInfo:
    """The trainer's description of a task's data, which is read as in a run. Nothing is downloaded.

    Raises:
        NotRead: the data or the trainer is not on this machine.
        ManifestError: the task cannot use the data.
    """
    if spec.trial_template.command:
        raise NotRead("trialTemplate.command is set, whose trainer reads it")
    task = spec.task.model_copy(update={"download": False})
    if task.path is not None and not Path(task.path).exists():
        raise NotRead(f"task.path {task.path!r} is not on this machine")
    try:
        describe = import_module(registry.package("kinase.trainers", "torch")).describe
    except (registry.UnknownMember, ImportError) as error:
        raise NotRead(f"the trainer is not installed here ({error})") from None
    try:
        # in a run, a traceback of the user's code goes to the log; here there is no log
        with contextlib.redirect_stderr(io.StringIO()):
            # the device does not matter for the data
            found: TaskInfo = describe(task, spec.training.model_copy(update={"device": "cpu"}))
    except (Exception, SystemExit) as error:  # raised by a data set or task of another package
        if spec.task.download:
            raise NotRead(
                f"task.download is true, and it cannot be read from task.path {task.path!r} yet: "
                f"{error}"
            ) from None
        text = str(error) if isinstance(error, ValueError) else raised(error)
        named = task.path is not None and task.path in text
        place = ("spec", "task", "path") if named else ("spec", "task")
        raise ManifestError([document.problem(place, text)]) from None
    return found
