"""The page on Python: its script is run, then its other blocks as the cells of a notebook."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.docs.blocks import blocks

PAGE = "docs/python.md"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_script_and_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in blocks(PAGE):
        if block.title:
            (tmp_path / block.title).write_text(block.text)
    done = subprocess.run(
        [sys.executable, "search.py"], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    *trials, best, report = done.stdout.splitlines()
    assert sorted(line.split()[1] for line in trials) == ["0", "1", "2", "3"]
    assert "val_accuracy" in best
    assert "test_accuracy" in best
    assert report == str(tmp_path / "runs/default/from-python/report.html")

    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    cells = [b.text for b in blocks(PAGE, "python") if not b.title]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    notebook.cells[0].source += "\n"  # it goes on with what the script has done: it is at its end
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": tmp_path}}).execute()
    shown = [
        "".join(
            str(output.get("data", {}).get("text/html", output.get("data", {}).get("text/plain")))
            for output in cell.outputs
        )
        for cell in notebook.cells
    ]
    assert "3 trials were run" in shown[0]
    assert "'starting'" in shown[1]
    assert "<progress" in shown[1]  # it was drawn after its cell had ended
    assert "finished" in shown[2]
    assert "'layers'" in shown[3]
    assert "torch.Size([2, 10])" in shown[4]
    assert "interrupted" in shown[5] or "finished" in shown[5]
    assert shown[-1].startswith("({0: "), "trials by rung of a simulated search"
    assert not os.path.exists(tmp_path / "runs/default/from-python.1")
