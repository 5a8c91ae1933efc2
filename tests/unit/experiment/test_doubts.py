"""What is allowed and probably not meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinase.experiment.check import INHERITING
from kinase.validation import validate_files

MANIFEST = """
apiVersion: kinase.dev/v1alpha1
kind: NASExperiment
metadata: {{name: doubt}}
spec:
  space: {{type: {space}}}
  objective: {{metric: val_accuracy, also: [{{metric: params}}]}}
  strategy: {{type: {strategy}}}
  estimation: {{type: {estimation}}}
  budget: {{trials: 10}}
"""


@pytest.mark.parametrize("strategy", [*INHERITING, "Random"])
@pytest.mark.parametrize("estimation", ["Full", "Morphism"])
def test_children_that_inherit_nothing_are_doubted(
    tmp_path: Path, strategy: str, estimation: str
) -> None:
    file = tmp_path / "doubt.yaml"
    space = "Tree" if strategy == "PathLevel" else "Chain"
    file.write_text(MANIFEST.format(space=space, strategy=strategy, estimation=estimation))
    code, lines = validate_files([file], data=False)
    assert code == 0, lines
    doubted = strategy != "Random" and estimation == "Full"
    warnings = [line for line in lines if "warning: " in line]
    assert len(warnings) == doubted
    if doubted:
        assert f"warning: strategy.type {strategy}" in warnings[0]
        assert "estimation.type Full" in warnings[0]
        assert "estimation: {type: Morphism}" in warnings[0]


def test_a_warm_up_beyond_the_training_is_doubted_and_not_refused(tmp_path: Path) -> None:
    """A search that began with it under an earlier version goes on."""
    file = tmp_path / "doubt.yaml"
    text = MANIFEST.format(space="Chain", strategy="Random", estimation="Full")
    file.write_text(text + "  training: {epochs: 3, warmupEpochs: 5}\n")
    code, lines = validate_files([file], data=False)
    assert code == 0
    assert (
        f"{file}: warning: training.warmupEpochs 5 is above training.epochs 3, so the learning "
        "rate never reaches learningRate; for a new experiment use at most 3"
    ) in lines
