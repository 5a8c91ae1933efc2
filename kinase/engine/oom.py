"""The kernel's count of out-of-memory kills."""

from __future__ import annotations

from pathlib import Path


def oom_kills() -> int:
    """Processes that the Linux kernel has killed for lack of memory since it started."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
