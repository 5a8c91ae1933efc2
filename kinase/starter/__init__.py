"""A first manifest for one's own data: what `kinase init` writes."""

from kinase.starter.plan import CannotPlan, Plan, Wishes, plan
from kinase.starter.text import manifest

__all__ = ["CannotPlan", "Plan", "Wishes", "manifest", "plan"]
