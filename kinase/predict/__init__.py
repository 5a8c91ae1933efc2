"""Models that predict: of learning curves, and of architectures."""

from __future__ import annotations

import importlib.util

from kinase.registry import UnusableMember


def require(member: str, *modules: str) -> None:
    """Check that the modules are installed which a member needs.

    Raises:
        UnusableMember: one is not; the message says how to install it.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise UnusableMember(
            f"{member} needs {', '.join(missing)}; install with: pip install 'kinase-nas[curves]'"
        )
