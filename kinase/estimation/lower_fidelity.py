"""Lower fidelity: fewer epochs, less data, smaller inputs, smaller networks."""

from __future__ import annotations

from kinase.api.estimation import LowerFidelityEstimation
from kinase.api.fidelity import Fidelity, Grant
from kinase.estimation.full import Full


class LowerFidelity(Full):
    """Every candidate gets the same reduced fidelity (Zoph et al. 2018, section 3, train on
    fewer epochs and filters; Klein et al. 2017, on a fraction of the data; Chrabaszcz et al.
    2017, on smaller images)."""

    options: LowerFidelityEstimation

    @property
    def ladder(self) -> tuple[Grant, ...]:
        """One rung: the full fidelity with each of the manifest's reductions applied."""
        o, full = self.options, self.setting.full
        scale = full.scale.model_copy(
            update={
                "filter_fraction": full.scale.filter_fraction * o.filter_fraction,
                "cells": o.cells if o.cells is not None else full.scale.cells,
            }
        )
        fidelity = Fidelity(
            epochs=o.epochs if o.epochs is not None else full.epochs,
            data_fraction=full.data_fraction * o.data_fraction,
            resolution=o.resolution if o.resolution is not None else full.resolution,
            scale=scale,
        )
        return (Grant(fidelity=fidelity, until=fidelity.epochs),)
