"""The objectives of a search. Pure checks of a manifest against the trainer's description of the
task."""

from __future__ import annotations

from kinase.api.auto import WRAPS
from kinase.api.load import ManifestError, Problem
from kinase.api.objective import RESOURCE_METRICS, Aim, Undirected, aims
from kinase.api.spec import ExperimentSpec
from kinase.api.trial import TaskInfo

MANIFEST = "the manifest"


def aims_of(spec: ExperimentSpec, info: TaskInfo) -> tuple[Aim, ...]:
    """The objectives of a search with their directions; the first is the main one.

    Raises:
        ManifestError: a metric has no direction in the manifest or from the trainer, or the
            directions contradict each other or the strategy's reward.
    """
    try:
        found = aims(spec.objective, spec.task.type, info.goals)
    except Undirected as error:
        raise refused(f"spec.{error.field}", error.message) from None
    policy = spec.strategy.eas or spec.strategy.path_level
    if policy is not None and policy.reward == "tan" and found[0].goal == "minimize":
        field = "eas" if spec.strategy.eas else "pathLevel"
        raise refused(
            f"spec.strategy.{field}.reward",
            "tan requires an accuracy that is maximized; for "
            f"{found[0].metric} use reward: identity",
        )
    return found


def refuse_unmeasured(aims: tuple[Aim, ...], info: TaskInfo) -> None:
    """Reject an objective that no trial of the search would measure.

    Raises:
        ManifestError: the task does not measure a metric, and it is not params or macs.
    """
    for place, aim in enumerate(aims):
        if info.metrics and aim.metric not in (*info.metrics, *RESOURCE_METRICS):
            field = "spec.objective" if place == 0 else f"spec.objective.also[{place - 1}]"
            raise refused(
                f"{field}.metric",
                f"{aim.metric!r} is not measured by this task; it measures "
                f"{', '.join(info.metrics)}",
            )


def refuse_unsupported(spec: ExperimentSpec, needs: frozenset[str], info: TaskInfo) -> None:
    """Refuse to begin a search whose estimator needs more than the trainer knows, or proxies that
    it does not have.

    Raises:
        ManifestError: names what is missing.
    """
    wraps = [name for name in WRAPS if getattr(spec.estimation, name) is not None]
    shown = " with ".join([spec.estimation.shown, *filter(None, [" and ".join(wraps)])])
    if missing := sorted(needs - set(info.supports)):
        raise refused(
            "spec.estimation",
            f"{shown} requires a trainer that supports {' and '.join(missing)}; "
            f"this one supports {', '.join(info.supports) or 'neither until nor measure'} (see "
            "supports in the trial contract)",
        )
    screen = spec.estimation.screen
    for place, name in enumerate(screen.proxies if screen is not None and info.proxies else ()):
        if name not in info.proxies:
            raise refused(
                f"spec.estimation.screen.proxies[{place}]",
                f"{name!r} is not a zero-cost proxy of this trainer; it can measure "
                f"{', '.join(info.proxies)}",
            )


def refuse_workers(spec: ExperimentSpec, info: TaskInfo) -> None:
    """Refuse to train trials on several workers with a trainer that trains in one process. The
    number can change between two runs, so each run checks it.

    Raises:
        ManifestError: names the field.
    """
    workers = spec.trial_template.workers
    if workers > 1 and "workers" not in info.supports:
        raise refused(
            "spec.trialTemplate.workers",
            f"{workers} requires a trainer that lists workers in supports (see the trial "
            "contract); this one trains a trial in one process, so use 1",
        )


def refuse_unpaid(spec: ExperimentSpec) -> None:
    """Refuse to begin a search whose epochs do not pay for a trial. A manifest is only valid if
    they do, but what the type Auto means is known with the trainer.

    Args:
        spec: with the estimation that the type means.

    Raises:
        ManifestError: names the epochs that are needed.
    """
    if (why := spec.unpaid()) is not None:
        raise refused(
            "spec.budget.epochs",
            f"{why} (this trainer cannot pause, so the estimation type Auto means "
            f"{spec.estimation.shown})",
        )


def refused(field: str, message: str) -> ManifestError:
    """A manifest that cannot be used, once the task is known."""
    return ManifestError([Problem(MANIFEST, 0, field, message)])
