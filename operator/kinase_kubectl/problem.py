"""Errors for people."""

from __future__ import annotations

FAILED = 1
"""Exit code for errors of the cluster or the store, as in kubectl."""
USAGE = 2
"""Exit code for invalid arguments."""
TIMED_OUT = 124
"""Exit code after a timeout."""
INTERRUPTED = 130
"""Exit code after Ctrl-C."""


class Problem(Exception):
    """A one-line message and an exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        """The message says what to do."""
        super().__init__(message)
        self.code = code


_CONTROL = {code: f"^{chr(code ^ 64)}" for code in (*range(32), 127) if chr(code) not in "\t\n"}
_CONTROL |= dict.fromkeys(range(128, 160), "\ufffd")


def escaped(text: str) -> str:
    """Text without control sequences, because messages come from trainers and nodes."""
    return text.translate(_CONTROL)
