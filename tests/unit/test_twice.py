"""What fails at the first try runs once more, and is named."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = """
from pathlib import Path

def test_good(): pass

def test_shaky():
    seen = Path("seen")
    assert seen.exists() or seen.write_text("once") == 0

def test_bad(): assert False
"""


def test_what_passes_only_at_the_second_try_is_named(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, ROOT / "tests/twice.py", "-q", "-n", "0", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    found = run()
    assert found.returncode == 1
    assert found.stdout.endswith(
        "failed twice: test_it.py::test_bad\n"
        "passed only when it ran alone: test_it.py::test_shaky\n"
    )
    found = run("-k", "not bad")
    assert (found.returncode, "alone" in found.stdout) == (0, False)
