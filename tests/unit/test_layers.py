"""Imports run one way, and the core stays light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests import modules

ROOT = Path(__file__).parents[2]


def test_the_import_contracts_hold() -> None:
    command = str(Path(sys.executable).with_name("lint-imports"))
    done = subprocess.run([command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_modules_import_one_another_in_no_circle_and_are_short() -> None:
    assert [*modules.circles(modules.imports()), *modules.too_long(modules.lengths())] == []


def test_circles_and_long_modules_are_named() -> None:
    [message] = modules.circles([("a", "b"), ("b", "c"), ("c", "a"), ("c", "b"), ("c", "d")])
    assert message.startswith("import circle: b -> c -> b; move what both need")
    assert list(modules.circles([("a", "b"), ("b", "c"), ("a", "c")])) == []
    [message] = modules.too_long([("kinase/a.py", 500), ("kinase/b.py", 501)])
    assert message == "kinase/b.py has 501 lines; split it, a module has at most 500"


def test_to_validate_a_manifest_loads_no_torch() -> None:
    code = (
        "import sys\nfrom kinase.cli import app\n"
        "app(['validate', 'examples/digits.yaml'], standalone_mode=False)\n"
        "heavy = {'torch', 'sklearn', 'plotly', 'boto3', 'kopf'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
