"""What a user gives, compared with the limits of the objective before the first trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kinase.api._base import struct_name
from kinase.api.spec import ExperimentSpec
from kinase.api.trial import Architecture, TaskInfo
from kinase.api.within import FIELD, above, why_above
from kinase.experiment.aims import refused
from kinase.experiment.count import counts_of, full_frame
from kinase.space import InfeasibleError, Space, derive_rng

RANDOM = 100
"""Random networks that are counted, to say how strict the limits are."""
Appraise = Callable[[Architecture], dict[str, float]]
"""Counts a network of full fidelity; raises `InfeasibleError`."""


def counter(space: Space, info: TaskInfo) -> Appraise:
    """Counts the networks of a space for a task."""
    frame = full_frame(space, info)
    return lambda architecture: counts_of(space.graph(architecture, frame))


def refuse_above(spec: ExperimentSpec, space: Space, appraise: Appraise) -> None:
    """Refuse to begin a search from a network that is above a limit.

    Raises:
        ManifestError: names the network and the limit.
    """
    limits = spec.objective.limits or ()
    for field, architecture in _begins(spec):
        if why := why_above(limits, _counts(appraise, space.resolve(architecture))):
            raise refused(
                f"spec.strategy.{field}", f"{why} (spec.{FIELD}); remove it, or raise the limit"
            )


def _begins(spec: ExperimentSpec) -> Iterator[tuple[str, Architecture]]:
    """The networks that the search begins with, each with its field."""
    strategy = spec.strategy
    name = struct_name(strategy.type)
    begins = strategy.evolution or strategy.local_search
    for place, architecture in enumerate(begins.start if begins is not None else ()):
        yield f"{name}.start[{place}]", architecture
    policy = strategy.eas or strategy.path_level
    if policy is not None and policy.architecture is not None:
        yield f"{name}.architecture", policy.architecture


def said_of_limits(spec: ExperimentSpec, space: Space, appraise: Appraise) -> list[str]:
    """For people: the limits, how many random networks are within them, and which baselines are
    not. One that begins with `warning:` is about what is probably a mistake."""
    limits = spec.objective.limits
    if not limits:
        return []
    drawn = [_counts(appraise, space.sample(derive_rng(spec.seed, n))) for n in range(RANDOM)]
    within = sum(bool(counts) and not above(limits, counts) for counts in drawn)
    text = f"{FIELD}: {' and '.join(limit.text for limit in limits)}; "
    found = [f"{text}{within} of {RANDOM} random networks are within"]
    if not within:
        least = {m: min((c[m] for c in drawn if c), default=0) for m in (e.metric for e in limits)}
        shown = ", ".join(f"the least {metric} are {value:,.0f}" for metric, value in least.items())
        found = [
            f"warning: {text}none of {RANDOM} random networks is within ({shown}): raise the "
            "limit, or choose a space with smaller networks"
        ]
    for baseline in spec.baselines:
        if why := why_above(limits, _counts(appraise, space.resolve(baseline.architecture))):
            found.append(
                f"note: the baseline {baseline.name} is above {FIELD} ({why}); it is trained for "
                "comparison, as no baseline can win"
            )
    return found


def _counts(appraise: Appraise, architecture: Architecture) -> dict[str, float]:
    """Counts of a network; nothing of one that cannot be built, which its trial says."""
    try:
        return appraise(architecture)
    except InfeasibleError:
        return {}
