"""Run the tests, then run those that failed once more, alone: a part of `make test` and `make e2e`.

A test that measures time can fail when others run at the same time, and a node's runtime may see
that a container has ended before it hears that its memory ran out. A test that needs the second try
is still a defect, so its name is printed at the very end.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FAILED = Path(".pytest_cache/v/cache/lastfailed")


def failed() -> list[str]:
    """The tests that failed in the last run."""
    return sorted(json.loads(FAILED.read_text())) if FAILED.exists() else []


def main(arguments: list[str]) -> int:
    """Exit code of the second run if there was one, else of the first."""
    FAILED.unlink(missing_ok=True)
    first = subprocess.run([sys.executable, "-m", "pytest", *arguments])
    names = failed()
    if first.returncode != 1 or not names:
        return first.returncode
    again = ["--last-failed", "--last-failed-no-failures", "none", "-n", "0"]
    second = subprocess.run([sys.executable, "-m", "pytest", *arguments, *again])
    left = set(failed())
    for name in names:
        print(f"failed twice: {name}" if name in left else f"passed only when it ran alone: {name}")
    return second.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
