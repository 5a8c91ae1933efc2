"""Inheritance of weights: network morphisms on torch tensors."""

from kinase_trainer.morphism.calibrate import calibrate
from kinase_trainer.morphism.distil import Distillation
from kinase_trainer.morphism.inherit import Inherited, check_shapes, check_state, inherit
from kinase_trainer.morphism.matching import Matched, inherit_matching
from kinase_trainer.morphism.slots import Slots, read_slots, write_slots

__all__ = [
    "Distillation",
    "Inherited",
    "Matched",
    "Slots",
    "calibrate",
    "check_shapes",
    "check_state",
    "inherit",
    "inherit_matching",
    "read_slots",
    "write_slots",
]
