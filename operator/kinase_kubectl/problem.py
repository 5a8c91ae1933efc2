"""What went wrong, for a person."""

from __future__ import annotations

FAILED = 1
"""Exit code where the cluster or the store says no, as kubectl has it."""
USAGE = 2
"""Exit code where the arguments are at fault."""
TIMED_OUT = 124
"""Exit code where what was waited for did not come in time."""
INTERRUPTED = 130
"""Exit code after Ctrl-C."""


class Problem(Exception):
    """One line for a person, and the exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        """Hold both; the line says what would help."""
        super().__init__(message)
        self.code = code


_CONTROL = {code: f"^{chr(code ^ 64)}" for code in (*range(32), 127) if chr(code) not in "\t\n"}
_CONTROL |= dict.fromkeys(range(128, 160), "\ufffd")


def escaped(text: str) -> str:
    """A text that moves no cursor and paints nothing: messages come from trainers and nodes."""
    return text.translate(_CONTROL)
