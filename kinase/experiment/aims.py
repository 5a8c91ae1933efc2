"""The objectives of a search. Pure checks of a manifest against the trainer's description of the
task."""

from __future__ import annotations

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
        raise _refused(f"spec.{error.field}", error.message) from None
    policy = spec.strategy.eas or spec.strategy.path_level
    if policy is not None and policy.reward == "tan" and found[0].goal == "minimize":
        field = "eas" if spec.strategy.eas else "pathLevel"
        raise _refused(
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
            raise _refused(
                f"{field}.metric",
                f"{aim.metric!r} is not measured by this task; it measures "
                f"{', '.join(info.metrics)}",
            )


def _refused(field: str, message: str) -> ManifestError:
    return ManifestError([Problem(MANIFEST, 0, field, message)])
