"""A first manifest for your data, as `kinase init` writes it."""

from kinase.starter.plan import CannotPlan, Plan, Wishes, plan
from kinase.starter.text import manifest

__all__ = ["CannotPlan", "Plan", "Wishes", "manifest", "plan"]
