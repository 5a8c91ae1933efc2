"""Rules that stop a trial by its learning curve."""

from kinase.estimation.rules.base import Rule, RuleSetting, Verdict, make_rule

__all__ = ["Rule", "RuleSetting", "Verdict", "make_rule"]
