"""Network morphisms: edits of a network's graph, each with a rule for its tensors, so that a child
starts as the function that its parent has learned."""

from kinase.morphism.base import DEEPER_NOISE, WIDER_NOISE, Approximate, Base, Change, Place
from kinase.morphism.chain import (
    KINDS,
    Limits,
    Morphism,
    apply,
    apply_all,
    candidates,
    dump_chain,
    load_chain,
)
from kinase.morphism.errors import MorphismError
from kinase.morphism.plan import Norms, Plan
from kinase.space.tensors import tensors

__all__ = [
    "DEEPER_NOISE",
    "KINDS",
    "WIDER_NOISE",
    "Approximate",
    "Base",
    "Change",
    "Limits",
    "Morphism",
    "MorphismError",
    "Norms",
    "Place",
    "Plan",
    "apply",
    "apply_all",
    "candidates",
    "dump_chain",
    "load_chain",
    "tensors",
]
