"""What an estimator works in, by the manifest."""

from __future__ import annotations

from kinase.api._base import struct_name
from kinase.api.fidelity import Fidelity
from kinase.api.spec import ExperimentSpec
from kinase.estimation import Estimator, Setting, make_estimator
from kinase.experiment.aims import refused
from kinase.experiment.seeds import Stream, derive
from kinase.space import Frame, Space
from kinase.space.nodes import Shape


def setting_of(spec: ExperimentSpec, space: Space, sample: Shape, outputs: int) -> Setting:
    """What an estimator works in.

    Args:
        spec: the manifest's.
        space: of the candidates.
        sample: shape of a sample at full fidelity.
        outputs: width of a network's last layer.
    """
    full = Fidelity(
        epochs=spec.training.epochs,
        resolution=spec.task.resolution,
        scale=space.scale(final=False),
    )
    frame = Frame(sample, outputs, full.scale)
    seed = derive(spec.seed, Stream.ESTIMATION)
    limits = spec.objective.limits or ()
    return Setting(full, space, frame, seed, spec.strategy.relaxation, limits)


def estimator_of(spec: ExperimentSpec, setting: Setting) -> Estimator:
    """The manifest's estimator.

    Raises:
        ManifestError: what it needs does not fit the task.
    """
    try:
        return make_estimator(spec.estimation, setting)
    except ValueError as error:
        if spec.estimation.custom is not None:
            raise
        field = struct_name(spec.estimation.type)
        raise refused(f"spec.estimation.{field}", str(error)) from None
